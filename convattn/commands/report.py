"""The report command: a workdir's figures, and a run's page, made again; or several runs compared on one page."""

import sys
from collections.abc import Sequence
from pathlib import Path

from convattn.commands import figures
from convattn.commands.options import named_options, output_file, split_positional
from convattn.errors import UserError
from convattn.files import write_whole

_HELP = """convattn report --workdir=DIR
convattn report DIR DIR ... [--out=FILE.html]

  --workdir  where a training or a study writes; it may still be running: its figures are drawn again, and
              the page of a run that has ended is made again
  DIR ...    two or more workdirs of runs: settings that differ, curves, final figures over the seeds, and speed
  --out      the page of the comparison; a table in Markdown with the same name and .md is written beside it
             (default: comparison.html in the folder that holds the first workdir)"""

_NAME = "comparison.html"


def run(arguments: Sequence[str]) -> None:
  """Makes what the workdir's files say, or compares several, and prints the paths of what it wrote.

  Raises:
    UserError: a wrong argument, a workdir without metrics or without a run, or a figure that cannot be drawn; the
      others are.
  """
  if {"-h", "--help"} & set(arguments):
    print(_HELP)
    return
  options, folders = split_positional(arguments)
  values = named_options(options, ("workdir", "out"))
  if folders and "workdir" in values:
    raise UserError(
      f"--workdir={values['workdir']} or {folders[0]}: name one way; without --workdir they are compared."
    )
  if len(folders) > 1:
    _compare([Path(folder).expanduser() for folder in folders], values.get("out"))
    return
  if "out" in values:
    raise UserError("--out is for a comparison: name two or more workdirs.")
  workdirs = [*folders, *(values[name] for name in ("workdir",) if name in values)]
  if not workdirs:
    raise UserError("which run? --workdir=DIR, such as --workdir=runs/digits. To compare runs: report DIR DIR.")
  workdir = Path(workdirs[0]).expanduser()
  failures = figures.draw(workdir)
  for line in figures.page(workdir, _images(workdir)):
    print(f"note: {line}", file=sys.stderr)
  if failures:
    raise UserError("; ".join(failures))


def _images(workdir: Path) -> int:
  """Of the page, as the run's settings say; none of one that goes on."""
  from convattn.training.workdir import read_config, read_result

  recorded = None if read_result(workdir) is None else read_config(workdir)
  return 0 if recorded is None else recorded.experiment.explore


def _compare(folders: Sequence[Path], out: str | None) -> None:
  from convattn.study.comparison import compare
  from convattn.viz.comparison import write_comparison

  path = output_file("out", str(folders[0].absolute().parent / _NAME) if out is None else out)
  if path.suffix != ".html":
    raise UserError(f"--out must end in .html, got {str(path)!r}; the table goes beside it with .md.")
  files = write_comparison(compare(folders), path)
  write_whole(files)
  for each in files:
    print(each)
