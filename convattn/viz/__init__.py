"""Figures of what a run left on the disk. The only package that imports matplotlib."""

from convattn.study.record import FIGURE as STUDY_FIGURE
from convattn.viz.confusion import confusion_figure, read_confusion
from convattn.viz.curves import curves_figure, read_curves
from convattn.viz.mistakes import Mistakes, mistakes_figure, read_mistakes
from convattn.viz.report import CONFUSION_FIGURE, CURVES_FIGURE, MISTAKES_FIGURE, draw
from convattn.viz.study import read_study, study_figure

__all__ = [
  "CONFUSION_FIGURE",
  "CURVES_FIGURE",
  "MISTAKES_FIGURE",
  "STUDY_FIGURE",
  "Mistakes",
  "confusion_figure",
  "curves_figure",
  "draw",
  "mistakes_figure",
  "read_confusion",
  "read_curves",
  "read_mistakes",
  "read_study",
  "study_figure",
]
