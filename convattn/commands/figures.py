"""The figures and the page of a workdir, whatever becomes of them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from convattn.errors import one_line


def draw(workdir: Path) -> list[str]:
  """Draws the figures and prints their paths; returns a line for each that could not be drawn.

  Letters that no font has are told on stderr. Where matplotlib itself does not start, that is one of the lines.
  """
  logging.getLogger("matplotlib").setLevel(logging.ERROR)  # its caches are no matter of the figures'
  failures: list[str] = []
  try:
    from convattn import viz

    for path in viz.draw(workdir, failures.append, lambda line: print(f"note: {line}", file=sys.stderr)):
      print(path)
  except OSError:
    raise  # of what is printed
  except Exception as error:
    failures.append(f"no figure could be drawn: {type(error).__name__}: {one_line(error)}")
  return failures


def page(workdir: Path, count: int) -> Iterator[str]:
  """Writes explore.html of a run, on `count` images at most, and prints its path; gives a line if it cannot be made.

  What it is stands beside the path, for whoever sees it for the first time.
  """
  try:
    from convattn.commands.explore import page_of_run
    from convattn.training.workdir import CHECKPOINTS

    if not count or not (workdir / CHECKPOINTS).is_dir():
      return
    path = page_of_run(workdir, count)
  except Exception as error:  # whatever it is, the run has ended well: as for its figures
    kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
    yield f"explore.html could not be made: {kind}{one_line(error)}"
  else:
    print(f"{path}: what the model looks at; open it in a browser")
