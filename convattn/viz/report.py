"""Files in, figures out."""

import io
from pathlib import Path

from matplotlib.figure import Figure

from convattn.files import write_whole
from convattn.training.workdir import CONFUSION, METRICS
from convattn.viz.confusion import confusion_figure, read_confusion
from convattn.viz.curves import curves_figure, read_curves

CURVES_FIGURE, CONFUSION_FIGURE = "curves.png", "confusion.png"


def draw(workdir: Path) -> list[Path]:
  """Draws curves.png, and confusion.png where the test has been scored by class; returns their paths.

  The same files give the same bytes.

  Raises:
    FileNotFoundError: no metrics in `workdir`.
    ValueError: a file there that does not hold what a run writes.
  """
  figures = {CURVES_FIGURE: curves_figure(read_curves(workdir / METRICS))}
  # Written at the end of a run, and only by tasks that count by class.
  if (workdir / CONFUSION).exists():
    figures[CONFUSION_FIGURE] = confusion_figure(*read_confusion(workdir / CONFUSION))
  return [_save(figure, workdir / name) for name, figure in figures.items()]


def _save(figure: Figure, path: Path) -> Path:
  drawn = io.BytesIO()
  figure.savefig(drawn, format="png", dpi=150)
  write_whole({path: drawn.getvalue()})
  return path
