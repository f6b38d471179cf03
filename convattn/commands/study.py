"""The study command: settings × seeds from a file, what is left of them run, one table and a figure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convattn.commands import figures
from convattn.commands.experiment_file import load_study
from convattn.commands.memory import naming_a_lack_of_memory
from convattn.commands.options import as_typed, named_options, split_positional
from convattn.errors import UserError
from convattn.study.checks import check_reached
from convattn.training import output
from convattn.training.config import Experiment
from convattn.training.settings import apply_overrides, settings

if TYPE_CHECKING:
  from convattn.study import Study

_HELP = """convattn study FILE|NAME[:ARGUMENT] --workdir=DIR [--config.SETTING=VALUE ...]

  FILE|NAME  a file whose get_study([ARGUMENT]) returns a convattn.study.Study, or the name of one that comes with
             convattn, such as study_layout
  --workdir  runs/SETTING/seed_N, each the workdir of a run; what they print, in logs; their scores; and the result,
             study.md, study.json and study.png. The same command goes on with a study that was interrupted

A --config.SETTING, as those of convattn train, changes the experiment that all settings of the study have in common;
one that each of them has its own value of is refused."""

_LESS_MEMORY = "lower --config.batch_size or --config.eval_batch_size, or set --config.compute.remat=block."


def run(arguments: Sequence[str]) -> None:
  """Runs what is left of a study and prints its table.

  Raises:
    UserError: a wrong argument or file, or a study that could not be run as a whole, before anything is trained.
    KeyboardInterrupt: Ctrl-C came while it trained; the state is saved.
  """
  if {"-h", "--help"} & set(arguments):
    print(_HELP)
    return
  options, references = split_positional(arguments)
  overrides = [(name.removeprefix("config."), text) for name, text in options if name.startswith("config.")]
  rest = [(name, text) for name, text in options if not name.startswith("config.")]
  every_setting = [f"config.{name}" for name, _, _ in settings(Experiment())]
  plain = named_options(rest, ("workdir",), related=every_setting)
  if len(references) != 1:
    raise UserError(f"name one study, such as convattn study study_layout; got {' '.join(references) or 'none'}.")
  if "workdir" not in plain:
    raise UserError("where to? --workdir=DIR, such as --workdir=runs/study.")
  study = load_study(references[0])
  study = study.with_base(apply_overrides(study.base, overrides))
  check_reached(study, [name for name, _ in overrides])
  with output.guarded(goes_on=True):  # what a study finds is in its workdir
    _carry_out(study, Path(plain["workdir"]).expanduser(), as_typed("study", arguments))


def _carry_out(study: Study, workdir: Path, command: str) -> None:
  # Imported here, so that --help and mistyped options do not wait for Orbax and matplotlib.
  from convattn import study as studies, training
  from convattn.training.progress import show
  from convattn.training.signals import leaving_at_once

  try:
    with leaving_at_once(workdir), naming_a_lack_of_memory(_LESS_MEMORY):
      result = studies.run(study, workdir, command=command)
  except training.Terminated as end:  # as asked, by what will start the same command again
    show(end.message)
    return
  print(f"\n{studies.text(result)}\n")
  for line in figures.draw(workdir):
    print(f"note: {line}", file=sys.stderr)
