"""The kernels of depthwise convolutions, tap by tap."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure

from convattn.analysis.attention_map import Grid
from convattn.viz.cells import draw_cells, frame
from convattn.viz.style import DIVERGING, GREY, INK, PAGE, SEQUENTIAL, colour_bar, paper, sheet

_ACROSS, _DOWN = 12, 2


class Kernel(Protocol):
  """Of one depthwise convolution: its name, and weights float [kh, kw, channels]."""

  @property
  def layer(self) -> str: ...

  @property
  def kernel(self) -> np.ndarray: ...


@paper()
def kernel_sheet_figure(kernels: Sequence[Kernel], *, width: float = PAGE) -> Figure:
  """A row for each convolution: to the left the norm of each tap over all channels, to the right 24 of its kernels.

  The norm is sqrt(sum over channels of w²), each told by its number. Kernels are those with the largest norms, the
  largest first, on one scale about zero in a row.

  Args:
    kernels: from `analysis.convolution_kernels`.
    width: of the figure, in millimetres.

  Raises:
    ValueError: no kernels, or one that is not [kh, kw, channels].
  """
  if not kernels:
    raise ValueError("there are no kernels to draw.")
  wrong = next((each for each in kernels if np.ndim(each.kernel) != 3), None)
  if wrong is not None:
    raise ValueError(f"the kernel of {wrong.layer} has shape {np.shape(wrong.kernel)}, but must be [kh, kw, channels].")
  figure = sheet(width, len(kernels) * 0.155 * width)
  rows = figure.subfigures(len(kernels), 1, squeeze=False)[:, 0]
  for row, each in zip(rows, kernels, strict=True):
    _row(row, each)
  return figure


def _row(row: SubFigure, each: Kernel) -> None:
  kernel = np.asarray(each.kernel, np.float64)
  taps, order = np.sqrt((kernel**2).sum(-1)), np.argsort(-np.sqrt((kernel**2).sum((0, 1))), kind="stable")
  height, across, channels = kernel.shape
  grid = Grid(height, across)
  shown = order[: _ACROSS * _DOWN]
  row.suptitle(
    f"{each.layer}: {len(shown)} of {channels} kernels of {height} × {across}", fontsize=7, fontweight="bold",
    x=0.01, ha="left", parse_math=False,
  )  # fmt: skip
  places = row.add_gridspec(_DOWN, 1 + _ACROSS + 1, width_ratios=[2, *[1] * _ACROSS, 0.15])
  norms = row.add_subplot(places[:, 0])
  frame(norms, height, across)
  norm = Normalize(0, taps.max() or 1.0)
  draw_cells(norms, taps.ravel(), grid, SEQUENTIAL, norm)
  norms.set_xlabel("norm per tap", fontsize=5.5)
  for (i, j), value in np.ndenumerate(taps):
    dark = norm(value) > 0.6
    letters = {"color": "white" if dark else INK, "fontsize": min(5.5, 16 / max(height, across))}
    norms.text(j + 0.5, i + 0.5, f"{value:.2g}", ha="center", va="center", **letters)
  furthest = float(np.abs(kernel[..., shown]).max()) or 1.0
  about_zero = Normalize(-furthest, furthest)
  for place, channel in enumerate(shown):
    axes = row.add_subplot(places[place // _ACROSS, 1 + place % _ACROSS])
    frame(axes, height, across)
    draw_cells(axes, kernel[..., channel].ravel(), grid, DIVERGING, about_zero)
    axes.set_xlabel(f"{channel}", fontsize=5, color=GREY, labelpad=1)
  colour_bar(row, DIVERGING, about_zero, "weight", cax=row.add_subplot(places[:, -1]))
