"""The figures of a workdir, whatever becomes of them."""

from __future__ import annotations

import logging
import sys
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
