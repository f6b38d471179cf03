"""Figures and pages of what a run left on the disk and of what `analysis` found. The only package with matplotlib.

Names are fetched on first use: a page needs no matplotlib.
"""

from typing import TYPE_CHECKING

from convattn.lazy import lazy_names

if TYPE_CHECKING:
  from convattn.viz.assembly import Page as Page
  from convattn.viz.comparison import comparison_html as comparison_html, comparison_markdown as comparison_markdown
  from convattn.viz.confusion import confusion_figure as confusion_figure, read_confusion as read_confusion
  from convattn.viz.curves import curves_figure as curves_figure, read_curves as read_curves
  from convattn.viz.explore_page import Overlay as Overlay, explore as explore
  from convattn.viz.exploring import exploration as exploration, num_parts as num_parts
  from convattn.viz.head_centres import head_centres_figure as head_centres_figure
  from convattn.viz.head_depth import (
    convolution_likeness_figure as convolution_likeness_figure,
    head_distance_figure as head_distance_figure,
  )
  from convattn.viz.head_grid import head_grid_figure as head_grid_figure
  from convattn.viz.kernel_sheet import kernel_sheet_figure as kernel_sheet_figure
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
  from convattn.viz.seed_bands import seed_band_figure as seed_band_figure
  from convattn.viz.study import read_study as read_study, study_figure as study_figure
  from convattn.viz.style import save_figure as save_figure

__getattr__, __dir__, __all__ = lazy_names(
  __name__,
  {
    "assembly": "Page",
    "comparison": "comparison_html comparison_markdown",
    "confusion": "confusion_figure read_confusion",
    "curves": "curves_figure read_curves",
    "explore_page": "Overlay explore",
    "exploring": "exploration num_parts",
    "head_centres": "head_centres_figure",
    "head_depth": "convolution_likeness_figure head_distance_figure",
    "head_grid": "head_grid_figure",
    "kernel_sheet": "kernel_sheet_figure",
    "mistakes": "Mistakes mistakes_figure read_mistakes",
    "page_plan": "PagePlan plan_page",
    "report": "CONFUSION_FIGURE CURVES_FIGURE MISTAKES_FIGURE STUDY_FIGURE draw",
    "seed_bands": "seed_band_figure",
    "study": "read_study study_figure",
    "style": "save_figure",
  },
)
