"""Where heads look, relative to where they stand: centres and ellipses, and their way there over training."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Rectangle
from matplotlib.ticker import MaxNLocator

from convattn.analysis.head_report import HeadReport
from convattn.viz.style import CYCLE, GREY, LIGHT, PAGE, fit_height, paper, sheet

_LEAST = 2.5
"""Cells to each side that a panel shows at least: a 3x3 kernel has room."""

_ACROSS = 4


@paper()
def head_centres_figure(
  reports: Sequence[HeadReport],
  before: Sequence[tuple[int, Sequence[HeadReport]]] = (),
  *,
  width: float = PAGE,
) -> Figure:
  """A panel for each layer, in the plane of shifts δ = key - query, in key cells: rows down, columns across.

  A head is a dot at its mean shift with its number, and the ellipse of one standard deviation about it (of a Gaussian
  39 % lie within). The square in the middle is the query's own cell. A thin line leads there from where the head stood
  at earlier steps. All panels have one scale.

  Args:
    reports: of the layers.
    before: pairs of a step and the reports of the same layers then, the first step first.
    width: of the figure, in millimetres.

  Raises:
    ValueError: no reports, or earlier ones of other layers or numbers of heads.
  """
  _check(reports, before)
  columns = min(_ACROSS, len(reports))
  rows = -(-len(reports) // columns)
  figure = sheet(width, 6 + rows * (width / columns + 3))
  grid = figure.subplots(rows, columns, squeeze=False)
  reach = _reach([*(report for _, then in before for report in then), *reports])
  for i, axes in enumerate(grid.ravel()):
    if i < len(reports):
      _draw(axes, reports[i], [then[i] for _, then in before], reach)
    else:
      axes.set_axis_off()
  for axes in grid[:, 0]:
    axes.set_ylabel("δ rows, cells")
  for axes in grid[-1]:
    axes.set_xlabel("δ columns, cells")
  if before:
    figure.suptitle(
      f"lines: from step {before[0][0]:,} to the dots", fontsize=6.5, color=GREY, x=0.01, ha="left"
    )  # fmt: skip
  fit_height(figure, grid)
  return figure


def _check(reports: Sequence[HeadReport], before: Sequence[tuple[int, Sequence[HeadReport]]]) -> None:
  if not reports:
    raise ValueError("there are no reports to draw.")
  shape = [(report.layer, report.num_heads) for report in reports]
  for step, then in before:
    found = [(report.layer, report.num_heads) for report in then]
    if found != shape:
      raise ValueError(f"the reports of step {step} are of (layer, heads) {found}, but must be of {shape}.")


def _reach(reports: Sequence[HeadReport]) -> float:
  """Cells to each side that hold every ellipse, but no more than the layer's grid has."""
  spread = [np.sqrt(np.maximum(np.diagonal(each.covariance, axis1=1, axis2=2), 0)) for each in reports]
  needed = [np.nanmax(np.abs(each.centre) + wide) for each, wide in zip(reports, spread, strict=True)]
  return max(_LEAST, *(float(each) for each in needed if np.isfinite(each))) + 0.4


def _draw(axes: Axes, report: HeadReport, before: Sequence[HeadReport], reach: float) -> None:
  grid = report.key_grid
  axes.set_title(report.layer.removesuffix("/attention"), parse_math=False)
  axes.set(xlim=(-reach, reach), ylim=(reach, -reach), aspect="equal")
  axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
  axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
  axes.text(
    0.98, 0.02, f"{grid.height} × {grid.width} cells", transform=axes.transAxes, ha="right", va="bottom", fontsize=5.5,
    color=GREY,
  )  # fmt: skip
  axes.axhline(0, color=LIGHT, linewidth=0.5, zorder=0)
  axes.axvline(0, color=LIGHT, linewidth=0.5, zorder=0)
  axes.add_patch(Rectangle((-0.5, -0.5), 1, 1, fill=False, edgecolor=GREY, linewidth=0.7, zorder=1))
  for head in range(report.num_heads):
    colour = CYCLE[head % len(CYCLE)]
    row, column = report.centre[head]
    axes.add_patch(_ellipse(report.centre[head], report.covariance[head], colour))
    if before:
      way = np.array([*(each.centre[head] for each in before), report.centre[head]])
      axes.plot(way[:, 1], way[:, 0], color=colour, linewidth=0.7, zorder=2)
      axes.plot(way[0, 1], way[0, 0], marker="o", markersize=2, color="white", markeredgecolor=colour, zorder=2)
    axes.plot([column], [row], "o", color=colour, markersize=7, markeredgecolor="white", markeredgewidth=0.5, zorder=3)
    axes.text(column, row, f"{head}", color="white", fontsize=5, ha="center", va="center_baseline", zorder=4)


def _ellipse(centre: np.ndarray, covariance: np.ndarray, colour: str) -> Ellipse:
  """Of one standard deviation. Eigenvectors are (row, column); its angle is that of the longer axis, in the panel."""
  variances, directions = np.linalg.eigh(np.nan_to_num(covariance))
  down, across = directions[:, 1]
  wide, narrow = 2 * np.sqrt(np.maximum(variances[::-1], 0))
  angle = float(np.degrees(np.arctan2(down, across)))
  shape = Ellipse((centre[1], centre[0]), wide, narrow, angle=angle, linewidth=0.8, zorder=2)
  shape.set(edgecolor=colour, facecolor=(*_rgb(colour), 0.06))
  return shape


def _rgb(colour: str) -> tuple[float, ...]:
  return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
