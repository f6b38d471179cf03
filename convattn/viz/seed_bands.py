"""Curves of several runs: the mean over the seeds of a setting, and how far they lie apart."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter, StrMethodFormatter

from convattn.errors import counted
from convattn.viz.curves import Curves
from convattn.viz.style import CYCLE, MARKS, PAGE, panel, paper, sheet

PANELS = ("train/loss", "validation/loss", "validation/accuracy")
"""The metrics that are drawn where none are named."""


_MOST = 60
"""Points of a curve of training; it is noisy, and where it has more their means are drawn."""


_FEWEST = 8
"""Points that a short curve of training keeps at least, where it has so many."""


def seed_band(runs: Sequence[Curves], metric: str, window: float = 0) -> tuple[np.ndarray, np.ndarray]:
  """(steps [n], values [runs with the metric, n]) of a metric, at the steps that all runs with it have.

  Of a metric of training with more than 60 points equal numbers of neighbours are averaged, up to the step of the last;
  with fewer, as many as lie in a `window` of steps, while 8 points remain.

  Raises:
    ValueError: no run has the metric.
  """
  curves = [run[metric] for run in runs if metric in run]
  if not curves:
    raise ValueError(f"no run has the metric {metric!r}; they have {', '.join(sorted({n for r in runs for n in r}))}.")
  steps = sorted(set.intersection(*(set(at.tolist()) for at, _ in curves)))
  values = np.array([[dict(zip(at.tolist(), found, strict=True))[step] for step in steps] for at, found in curves])
  each = _neighbours(steps, window) if metric.startswith("train/") else 1
  whole = len(steps) // each * each
  return np.array(steps[:whole]).reshape(-1, each)[:, -1], values[:, :whole].reshape(len(curves), -1, each).mean(-1)


def _neighbours(steps: Sequence[int], window: float) -> int:
  """How many are averaged."""
  between = (steps[-1] - steps[0]) / (len(steps) - 1) if len(steps) > 1 else 0
  in_window = round(window / between) if between else 1
  return max(1, -(-len(steps) // _MOST), min(in_window, len(steps) // _FEWEST))


def _window(groups: Mapping[str, Sequence[Curves]], metric: str) -> float:
  """Steps of one point of the longest run: over as many a short one is averaged, or it would look noisier."""
  return max(run[metric][0].max() for runs in groups.values() for run in runs if metric in run) / _MOST


@paper()
def seed_band_figure(
  groups: Mapping[str, Sequence[Curves]], metrics: Sequence[str] = PANELS, *, width: float = PAGE
) -> Figure:
  """A panel for each metric, steps across: a group's mean, in a band from its smallest to its largest run.

  A single run is a line without a band. Metrics that no run has are left out. Accuracies are shares in per cent, losses
  on a logarithmic axis. A group's marks stand at a dozen of its points, so that colours are not needed.

  Args:
    groups: {name: its runs, as `read_curves` gives them}.
    metrics: names in metrics.jsonl, such as "validation/accuracy".
    width: of the figure, in millimetres.

  Raises:
    ValueError: no run has any of the metrics.
  """
  has = {name for runs in groups.values() for run in runs for name in run}
  shown = [metric for metric in metrics if metric in has]
  if not shown:
    raise ValueError(
      f"no run has one of the metrics {', '.join(metrics)}; they have {', '.join(sorted(has)) or 'none'}."
    )
  figure = sheet(width, min(60.0, 0.75 * width / len(shown)) + 6 + 4 * len(groups))
  panels = figure.subplots(1, len(shown), squeeze=False)[0]
  for axes, metric in zip(panels, shown, strict=True):
    panel(axes, metric)
    window = _window(groups, metric)
    for place, (name, runs) in enumerate(groups.items()):
      if any(metric in run for run in runs):
        _band(axes, place, f"{name} ({counted(len(runs), 'seed')})", *seed_band(runs, metric, window))
    _scale(axes, metric)
  handles = {line.get_label(): line for axes in panels for line in axes.lines}
  figure.legend(handles=list(handles.values()), loc="outside lower left", ncols=1 + (width > 120 and len(groups) > 2))
  return figure


def _band(axes: Axes, place: int, label: str, steps: np.ndarray, values: np.ndarray) -> None:
  colour, mark = CYCLE[place % len(CYCLE)], MARKS[place % len(MARKS)]
  style: dict[str, Any] = {"color": colour, "marker": mark, "markeredgecolor": "white", "markeredgewidth": 0.4}
  (line,) = axes.plot(steps, values.mean(0), markevery=max(1, len(steps) // 12), zorder=3, **style)
  line.set_label(label.replace("$", r"\$"))  # no name is mathematics
  if len(values) > 1:
    axes.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0)


def _scale(axes: Axes, metric: str) -> None:
  axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
  if metric.endswith("accuracy"):
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylim(top=1)
    for line in axes.lines:
      line.set_clip_on(False)  # marks at 100 % stay whole
  elif metric.endswith("loss"):
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
