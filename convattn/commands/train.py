"""The train command: settings from a file and the command line, `training.run`, then figures of what is on the disk,
and the page of what the model looks at."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from convattn.commands import figures
from convattn.commands.experiment_file import default_file, load_experiment
from convattn.commands.memory import naming_a_lack_of_memory
from convattn.commands.options import as_typed, named_options, split_options
from convattn.errors import UserError
from convattn.training import output
from convattn.training.config import Experiment
from convattn.training.settings import apply_overrides, describe_settings, settings, validate

WORKDIR = "runs/digits"

TRACE_STEPS = 5
"""Updates that --profile records."""

_FLAGS = ("--continue", "--profile")

_HELP = """{command} [--config=FILE|NAME[:ARGUMENT]] [--workdir=DIR] [--continue] [--profile]
      [--config.SETTING=VALUE ...]

  --config   a file whose get_config([ARGUMENT]) returns an Experiment, or the name of one that comes with convattn,
             such as finetune (default: {default})
  --workdir  metrics, figures, checkpoints and the result go here (default: {workdir}); the same command continues
             an interrupted run, and prints the result of a finished one
  --continue a run that is there already goes on with the settings given here, where some of them are others than its
             own: for more steps, with another schedule, augmentation ...; without it they are refused. Give its own
             options again too: what is left out means what the file says
  --profile  record the timeline of {trace_steps} steps in WORKDIR/profile, for TensorBoard's profiler or Perfetto

Settings, their types and values{where}, and what they mean; None keeps what the model's name stands for:

{settings}"""

_LESS_MEMORY = "lower batch_size, eval_batch_size or data.image_size, raise micro_batches, or set compute.remat=block."


def run(arguments: Sequence[str]) -> None:
  """Trains as the arguments say and prints the paths of the figures.

  Raises:
    UserError: a wrong argument, setting, file or workdir, or settings that do not fit the model or the weights of
      init_from, before anything is trained; a loss that diverged; a picture that turns out to be broken; or a workdir
      that turns out to be in use, damaged or of another run.
    KeyboardInterrupt: Ctrl-C came while it trained; the state is saved.
  """
  help_wanted = bool({"-h", "--help"} & set(arguments))
  for flag in _FLAGS:
    if any(each.startswith(f"{flag}=") for each in arguments):
      raise UserError(f"{flag} takes no value; write {flag} alone.")
  options = split_options([each for each in arguments if each not in ("-h", "--help", *_FLAGS)])
  experiment, workdir = parse(options)
  if help_wanted:
    print(_help(experiment, bool(options)))
    return
  with output.guarded(goes_on=True):  # what a run writes is in its workdir
    _train(
      experiment,
      workdir,
      trace_steps=TRACE_STEPS if "--profile" in arguments else 0,
      changes="continue" if "--continue" in arguments else "refuse",
      command=as_typed("train", arguments),
    )


def parse(options: Sequence[tuple[str, str]]) -> tuple[Experiment, Path]:
  """(experiment, workdir) that the options ask for.

  Raises:
    UserError: a wrong option, file, setting or value.
  """
  overrides = [(name.removeprefix("config."), text) for name, text in options if name.startswith("config.")]
  rest = [(name, text) for name, text in options if not name.startswith("config.")]
  every_setting = [f"config.{name}" for name, _, _ in settings(Experiment())]
  plain = named_options(rest, ("config", "workdir"), related=every_setting)
  experiment = load_experiment(plain.get("config", str(default_file())))
  experiment = apply_overrides(experiment, overrides)
  validate(experiment)
  return experiment, Path(plain.get("workdir", WORKDIR)).expanduser()


def _help(experiment: Experiment, chosen: bool) -> str:
  return _HELP.format(
    command="python train.py",
    default="configs/digits.py",
    workdir=WORKDIR,
    trace_steps=TRACE_STEPS,
    where=" after these options" if chosen else " in the default file",
    settings=describe_settings(experiment),
  )


def _train(
  experiment: Experiment, workdir: Path, *, trace_steps: int, changes: Literal["refuse", "continue"], command: str
) -> None:
  # Imported here, so that --help and a mistyped setting do not wait for Orbax and matplotlib.
  from convattn import training
  from convattn.training.distributed import initialize, is_main
  from convattn.training.progress import show
  from convattn.training.signals import leaving_at_once

  try:
    with leaving_at_once(workdir):
      initialize()
      with naming_a_lack_of_memory(_LESS_MEMORY):
        training.run(experiment, workdir, trace_steps=trace_steps, changes=changes, command=command)
  except training.Terminated as end:  # as asked, by what will start the same command again
    show(end.message)
    return
  if is_main():
    for line in itertools.chain(figures.draw(workdir), figures.page(workdir, experiment.explore)):
      print(f"note: {line}", file=sys.stderr)
