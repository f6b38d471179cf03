"""The kernels of convolutions, tap by tap."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure

from convattn.analysis.attention_map import Grid
from convattn.analysis.convolutions import ConvolutionKernel
from convattn.viz.cells import draw_cells, frame
from convattn.viz.style import DIVERGING, GREY, INK, PAGE, SEQUENTIAL, colour_bar, paper, sheet

_ACROSS, _DOWN = 12, 2


@paper()
def kernel_sheet_figure(kernels: Sequence[ConvolutionKernel], *, width: float = PAGE) -> Figure:
  """A row for each convolution: to the left the norm of each tap over all channels, to the right 24 of its kernels.

  The norm is sqrt(sum over channels of w²), told by its number. The kernels are those with the largest norms, the
  largest first, on one scale about zero in a row; below each is its channel, and of a convolution that is not depthwise
  the input and the output channel.

  Args:
    kernels: from `analysis.convolution_kernels`.
    width: of the figure, in millimetres.

  Raises:
    ValueError: no kernels.
  """
  if not kernels:
    raise ValueError("there are no kernels to draw.")
  figure = sheet(width, len(kernels) * 0.155 * width)
  rows = figure.subfigures(len(kernels), 1, squeeze=False)[:, 0]
  for row, each in zip(rows, kernels, strict=True):
    _row(row, each)
  return figure


def _row(row: SubFigure, each: ConvolutionKernel) -> None:
  height, across, _, outputs = each.kernel.shape
  kernel = np.asarray(each.kernel, np.float64).reshape(height, across, -1)
  taps, order = each.tap_norms, np.argsort(-np.sqrt((kernel**2).sum((0, 1))), kind="stable")
  grid = Grid(height, across)
  shown = order[: _ACROSS * _DOWN]
  row.suptitle(
    f"{each.layer}: {len(shown)} of {kernel.shape[-1]} kernels of {height} × {across}", fontsize=7, fontweight="bold",
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
    name = f"{channel}" if each.depthwise else f"{channel // outputs}→{channel % outputs}"
    axes.set_xlabel(name, fontsize=5, color=GREY, labelpad=1)
  colour_bar(row, DIVERGING, about_zero, "weight", cax=row.add_subplot(places[:, -1]))
