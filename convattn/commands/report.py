"""The report command: the figures of a workdir, of a run or a study, drawn again from its files."""

from collections.abc import Sequence
from pathlib import Path

from convattn.commands import figures
from convattn.commands.options import named_options, split_options
from convattn.errors import UserError

_HELP = """convattn report --workdir=DIR

  --workdir  where a training or a study writes; it may still be running"""


def run(arguments: Sequence[str]) -> None:
  """Draws what the workdir's files say and prints the figures' paths.

  Raises:
    UserError: a wrong argument, a workdir without metrics, or a figure that cannot be drawn; the others are.
  """
  if {"-h", "--help"} & set(arguments):
    print(_HELP)
    return
  options = named_options(split_options(arguments), ("workdir",))
  if "workdir" not in options:
    raise UserError("which run? --workdir=DIR, such as --workdir=runs/digits.")
  failures = figures.draw(Path(options["workdir"]).expanduser())
  if failures:
    raise UserError("; ".join(failures))
