"""The report command: the figures of a workdir, drawn again from its files."""

from collections.abc import Sequence
from pathlib import Path

from convattn.commands.errors import UsageError, refusing
from convattn.commands.options import named_options, split_options

_HELP = """convattn report --workdir=DIR

  --workdir  where a training writes; it may still be running"""


def run(arguments: Sequence[str]) -> None:
  """Draws what the workdir's files say and prints the figures' paths.

  Raises:
    UsageError: a wrong argument, or a workdir without metrics.
  """
  if {"-h", "--help"} & set(arguments):
    print(_HELP)
    return
  options = named_options(split_options(arguments), ("workdir",))
  if "workdir" not in options:
    raise UsageError("which run? --workdir=DIR, such as --workdir=runs/digits.")
  # Imported here: --help does without matplotlib.
  from convattn import viz

  with refusing(FileNotFoundError, ValueError):
    paths = viz.draw(Path(options["workdir"]).expanduser())
  for path in paths:
    print(path)
