"""Figures of what a run left on the disk. The only package that imports matplotlib."""

from convattn.study.record import FIGURE as STUDY_FIGURE
from convattn.viz.confusion import confusion_figure, read_confusion
from convattn.viz.curves import curves_figure, read_curves
from convattn.viz.report import CONFUSION_FIGURE, CURVES_FIGURE, draw
from convattn.viz.study import read_study, study_figure

__all__ = [
  "CONFUSION_FIGURE",
  "CURVES_FIGURE",
  "STUDY_FIGURE",
  "confusion_figure",
  "curves_figure",
  "draw",
  "read_confusion",
  "read_curves",
  "read_study",
  "study_figure",
]
