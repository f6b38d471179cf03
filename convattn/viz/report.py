"""Files in, figures out."""

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from convattn.errors import one_line, printable
from convattn.files import write_whole
from convattn.study import record as study
from convattn.training.workdir import CONFUSION, METRICS, MISTAKES
from convattn.viz.confusion import confusion_figure, missing_letters, read_confusion
from convattn.viz.curves import curves_figure, read_curves
from convattn.viz.fonts import families
from convattn.viz.mistakes import mistakes_figure, read_mistakes, shown_names
from convattn.viz.study import read_study, study_figure

CURVES_FIGURE, CONFUSION_FIGURE, MISTAKES_FIGURE = "curves.png", "confusion.png", "mistakes.png"
STUDY_FIGURE = study.FIGURE


def draw(
  workdir: str | os.PathLike[str],
  failed: Callable[[str], None] | None = None,
  note: Callable[[str], None] = lambda line: None,
) -> list[Path]:
  """Draws curves.png, and confusion.png and mistakes.png where the test has been scored by class; of a study study.png.

  Returns their paths. The same files give the same bytes, with the same fonts.

  Args:
    workdir: of a run or a study.
    failed: gets a line for each figure that cannot be drawn, whatever is the matter; None: errors are raised.
    note: gets a line about letters that no font has.

  Raises:
    FileNotFoundError: no metrics in `workdir`, or no result of its study.
    ValueError: a file there that does not hold what a run or a study writes.
    OSError: a figure cannot be written.
  """
  folder, paths = Path(workdir).expanduser(), []
  of_run = ((CURVES_FIGURE, _curves), (CONFUSION_FIGURE, _confusion), (MISTAKES_FIGURE, _mistakes))
  is_study = (folder / study.RESULT).exists() or (folder / study.PLAN).exists()
  for name, make in ((STUDY_FIGURE, _study),) if is_study else of_run:
    try:
      figure, missing = make(folder)
      if figure is not None:
        paths.append(_save(figure, folder / name))
    except Exception as error:
      if failed is None:
        raise
      kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
      failed(f"{name} could not be drawn: {kind}{one_line(error)}")
      continue
    if missing:
      note(f"{name} has boxes for {missing}, which no font of this machine has; install one such as Noto Sans.")
  return paths


def _curves(workdir: Path) -> tuple[Figure | None, str]:
  return curves_figure(read_curves(workdir / METRICS)), ""


def _study(workdir: Path) -> tuple[Figure | None, str]:
  return study_figure(read_study(workdir / study.RESULT)), ""


def _confusion(workdir: Path) -> tuple[Figure | None, str]:
  # Written at the end of a run, and only by tasks that count by class.
  if not (workdir / CONFUSION).exists():
    return None, ""
  counts, names = read_confusion(workdir / CONFUSION)
  return confusion_figure(counts, names), printable(missing_letters(names)) if missing_letters(names) else ""


def _mistakes(workdir: Path) -> tuple[Figure | None, str]:
  if not (workdir / MISTAKES).exists():  # as above; nor did earlier versions write it
    return None, ""
  found, counts = read_mistakes(workdir / MISTAKES), None
  if (workdir / CONFUSION).exists():
    counts, _ = read_confusion(workdir / CONFUSION)
  numbers = (None, None) if counts is None else (int(counts.sum() - counts.trace()), int(counts.sum()))
  return mistakes_figure(found, *numbers), printable(missing) if (missing := families(shown_names(found))[1]) else ""


def _save(figure: Figure, path: Path) -> Path:
  content = io.BytesIO()
  with warnings.catch_warnings():
    # Said in one line, for all letters at once.
    warnings.filterwarnings("ignore", message=r"(?s)(Glyph .* missing from|Matplotlib currently does not support)")
    figure.savefig(content, format="png", dpi=150)
  write_whole({path: content.getvalue()})
  return path
