"""Figures and pages of what a run left on the disk and of what `analysis` found. The only package with matplotlib.

Names are fetched on first use: a page needs no matplotlib.
"""

from typing import TYPE_CHECKING

from convattn.lazy import lazy_names

if TYPE_CHECKING:
  from convattn.viz.assembly import Page as Page
  from convattn.viz.confusion import confusion_figure as confusion_figure, read_confusion as read_confusion
  from convattn.viz.curves import curves_figure as curves_figure, read_curves as read_curves
  from convattn.viz.explore_page import Overlay as Overlay, explore as explore
  from convattn.viz.exploring import exploration as exploration, num_parts as num_parts
  from convattn.viz.mistakes import (
    Mistakes as Mistakes,
    mistakes_figure as mistakes_figure,
    read_mistakes as read_mistakes,
  )
  from convattn.viz.page_plan import PagePlan as PagePlan, plan_page as plan_page
  from convattn.viz.report import (
    CONFUSION_FIGURE as CONFUSION_FIGURE,
    CURVES_FIGURE as CURVES_FIGURE,
    MISTAKES_FIGURE as MISTAKES_FIGURE,
    STUDY_FIGURE as STUDY_FIGURE,
    draw as draw,
  )
  from convattn.viz.study import read_study as read_study, study_figure as study_figure

__getattr__, __dir__, __all__ = lazy_names(
  __name__,
  {
    "assembly": "Page",
    "confusion": "confusion_figure read_confusion",
    "curves": "curves_figure read_curves",
    "explore_page": "Overlay explore",
    "exploring": "exploration num_parts",
    "mistakes": "Mistakes mistakes_figure read_mistakes",
    "page_plan": "PagePlan plan_page",
    "report": "CONFUSION_FIGURE CURVES_FIGURE MISTAKES_FIGURE STUDY_FIGURE draw",
    "study": "read_study study_figure",
  },
)
