"""Numbers of heads against the depth of their layer, of one model or of several beside each other."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from convattn.analysis.attention_map import Grid
from convattn.analysis.head_report import HeadReport
from convattn.errors import counted
from convattn.viz.style import COLUMN, CYCLE, GREY, LIGHT, MARKS, PAGE, panel, paper, sheet

Runs = Mapping[str, Sequence[Sequence[HeadReport]]]
"""{name: of each seed what `head_report` says of the layers}."""


@paper()
def head_distance_figure(groups: Runs, *, width: float = COLUMN) -> Figure:
  """The mean attention distance of every head, in pixels of the image, against the depth of its layer.

  A mark is a head of a run, the line leads through the means over heads and runs. The grey stroke is the distance of a
  head that attends to all keys alike; it depends on the grid alone.

  Args:
    groups: {name: of each seed the reports of the same layers}, such as {"trained": [reports]}.
    width: of the figure, in millimetres.

  Raises:
    ValueError: no reports, or reports of different layers.
  """
  layers = _layers(groups)
  figure = sheet(width, 0.62 * width + 6)
  axes = figure.subplots()
  panel(axes, "mean attention distance", "", "pixels")
  _draw(axes, groups, lambda report: report.distance, layers)
  reports = next(iter(groups.values()))[0]
  for place, report in enumerate(reports):
    if report.key_grid.image is not None:
      even = uniform_distance(report.query_grid, report.key_grid)
      axes.plot([place - 0.4, place + 0.4], [even, even], color=GREY, linewidth=1, zorder=1)
  axes.plot([], [], color=GREY, linewidth=1, label="all keys alike")
  axes.set_ylim(bottom=0)
  _legend(figure, axes, 2)
  return figure


LIKENESS: Mapping[str, tuple[str, Callable[[HeadReport], np.ndarray]]] = {
  "peak": ("most weight on one shift", lambda report: report.peak),
  "local_mass": ("weight on 3 × 3 cells", lambda report: report.local_mass),
  "consistency": ("consistency of shifts, R²", lambda report: report.consistency),
  "content_dependence": ("content dependence (nats)", lambda report: report.content_dependence),
}
"""What tells a head that behaves like a convolution: the first three high, the last low."""


@paper()
def convolution_likeness_figure(groups: Runs, *, width: float = PAGE) -> Figure:
  """Four panels, the depth of a layer across: how much each head behaves like a convolution (`analysis.HeadReport`).

  A convolution has its weight on few shifts, near itself, the same for each query and each image: the first three
  numbers are high and the last is low. Marks are heads of a run, the line leads through the means over heads and runs.

  Args, Raises: as of `head_distance_figure`.
  """
  layers = _layers(groups)
  figure = sheet(width, 52)
  panels = figure.subplots(1, len(LIKENESS))
  for axes, (title, number) in zip(panels, LIKENESS.values(), strict=True):
    panel(axes, "", "")
    axes.set_title(title, fontsize=6.3)
    _draw(axes, groups, number, layers)
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
  _legend(figure, panels[0], len(groups))
  return figure


def uniform_distance(query_grid: Grid, key_grid: Grid) -> float:
  """Mean distance in pixels from a query's centre to a key's, over all pairs."""
  apart = query_grid.centres()[:, None] - key_grid.centres()[None]
  return float(np.sqrt((apart**2).sum(-1)).mean())


def _layers(groups: Runs) -> list[str]:
  found = [[report.layer for report in reports] for runs in groups.values() for reports in runs]
  if not found or not found[0]:
    raise ValueError("there are no reports to draw.")
  unlike = next((each for each in found if each != found[0]), None)
  if unlike is not None:
    raise ValueError(f"reports must be of the same layers; some are of {found[0]} and some of {unlike}.")
  return found[0]


def _draw(axes: Axes, groups: Runs, number: Callable[[HeadReport], np.ndarray], layers: Sequence[str]) -> None:
  apart = 0.5 / max(len(groups), 1)
  for place, (name, runs) in enumerate(groups.items()):
    style: dict[str, Any] = {"color": CYCLE[place % len(CYCLE)], "marker": MARKS[place % len(MARKS)]}
    at = np.arange(len(layers)) + (place - (len(groups) - 1) / 2) * apart
    values = [np.concatenate([number(reports[i]) for reports in runs]) for i in range(len(layers))]
    for x, heads in zip(at, values, strict=True):
      axes.plot(np.full(len(heads), x), heads, linestyle="", markersize=3, alpha=0.5, markeredgewidth=0, **style)
    means = [np.nanmean(heads) if np.isfinite(heads).any() else np.nan for heads in values]
    label = f"{name} ({counted(len(runs), 'seed')})".replace("$", r"\$")
    axes.plot(at, means, color=style["color"], linewidth=1.2, marker="_", markersize=8, markeredgewidth=1.6, zorder=3)
    axes.plot([], [], label=label, markersize=4, **style)
  names = [layer.removesuffix("/attention").replace("/", "\n") for layer in layers]
  axes.set_xticks(range(len(layers)), names, fontsize=5.5, parse_math=False)
  axes.tick_params(axis="x", length=0)
  axes.set_xlim(-0.6, len(layers) - 0.4)
  for between in range(1, len(layers)):
    axes.axvline(between - 0.5, color=LIGHT, linewidth=0.4, zorder=0)


def _legend(figure: Figure, axes: Axes, columns: int) -> None:
  handles = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
  figure.legend(handles=handles, loc="outside lower left", ncols=columns)
