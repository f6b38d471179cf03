"""The report command: the figures of a workdir, of a run or a study, drawn again from its files; and a run's page."""

import sys
from collections.abc import Sequence
from pathlib import Path

from convattn.commands import figures
from convattn.commands.options import named_options, split_options
from convattn.errors import UserError

_HELP = """convattn report --workdir=DIR

  --workdir  where a training or a study writes; it may still be running"""


def run(arguments: Sequence[str]) -> None:
  """Draws what the workdir's files say, and the page of a run that has ended, and prints the paths.

  Raises:
    UserError: a wrong argument, a workdir without metrics, or a figure that cannot be drawn; the others are.
  """
  if {"-h", "--help"} & set(arguments):
    print(_HELP)
    return
  options = named_options(split_options(arguments), ("workdir",))
  if "workdir" not in options:
    raise UserError("which run? --workdir=DIR, such as --workdir=runs/digits.")
  workdir = Path(options["workdir"]).expanduser()
  failures = figures.draw(workdir)
  for line in figures.page(workdir, _images(workdir)):
    print(f"note: {line}", file=sys.stderr)
  if failures:
    raise UserError("; ".join(failures))


def _images(workdir: Path) -> int:
  """Of the page, as the run's settings say; none of one that goes on, or that was given no settings by name."""
  from convattn.training.workdir import read_config, read_result

  recorded = None if read_result(workdir) is None else read_config(workdir)
  return 0 if recorded is None else recorded.experiment.explore
