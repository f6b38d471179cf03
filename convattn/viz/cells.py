"""Cells over a picture: each drawn as the box that it is, with sharp borders, at no resolution of its own."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import Rectangle

from convattn.analysis.attention_map import Grid
from convattn.viz.style import LIGHT, MARK

_MANY = 40
"""Cells down or across from which lines between them would hide them."""

_PALE = 0.72
"""How light the darkest part of a picture is that lies under cells."""


def shown_picture(image: np.ndarray) -> np.ndarray:
  """[h, w, 3] in [0, 1] of an image [h, w, c] with numbers of any range: its smallest is 0 and its largest 1.

  Three channels are red, green and blue; of others the mean is shown.

  Raises:
    ValueError: an image of another rank, or with numbers that are not finite.
  """
  image = np.asarray(image, np.float64)
  if image.ndim != 3 or not image.size or not np.isfinite(image).all():
    raise ValueError(f"a picture must be finite numbers [h, w, c], got shape {image.shape}.")
  values = image if image.shape[-1] == 3 else np.repeat(image.mean(-1, keepdims=True), 3, -1)
  low, high = values.min(), values.max()
  return (values - low) / (high - low if high > low else 1)


def pale_picture(image: np.ndarray) -> np.ndarray:
  """`shown_picture` without its colours, light enough for cells to be read above it.

  One that is mostly dark is turned into its negative: nothing is to look like the paper.
  """
  grey = shown_picture(image).mean(-1, keepdims=True)
  grey = 1 - grey if np.median(grey) < 0.5 else grey
  return np.repeat(_PALE + (1 - _PALE) * grey, 3, -1)


def draw_picture(axes: Axes, picture: np.ndarray) -> None:
  """Pixels as squares; the picture's upper left corner is at (0, 0), a pixel is 1 x 1."""
  height, width = picture.shape[:2]
  # Repeated, since many programs smooth a small picture in a PDF.
  times = max(1, 600 // max(height, width))
  large = picture.repeat(times, 0).repeat(times, 1)
  axes.imshow(large, extent=(0, width, height, 0), interpolation="none", vmin=0, vmax=1)
  frame(axes, height, width)


def frame(axes: Axes, height: float, width: float) -> None:
  """Exactly so many pixels, row 0 at the top, square, without ticks."""
  axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
  axes.spines[:].set(visible=True, color=LIGHT, linewidth=0.4)


def draw_cells(axes: Axes, values: np.ndarray, grid: Grid, colours: Colormap, norm: Normalize) -> PolyCollection:
  """A box for each cell of the grid, in pixels, its colour that of its number; nan is grey.

  Args:
    axes: with a picture, or empty.
    values: [cells of the grid], row by row.
    grid: where the cells lie.
    colours: of the numbers.
    norm: their range.

  Raises:
    ValueError: another number of values than of cells.
  """
  if np.shape(values) != (grid.cells,):
    raise ValueError(f"a grid of {grid.height} x {grid.width} cells has {grid.cells} values, got {np.shape(values)}.")
  corners = [[(left, top), (right, top), (right, bottom), (left, bottom)] for top, left, bottom, right in grid.boxes()]
  few = max(grid.height, grid.width) < _MANY
  boxes = PolyCollection(
    corners,
    array=np.ma.masked_invalid(values),
    cmap=colours,
    norm=norm,
    edgecolors=(1, 1, 1, 0.55),
    linewidths=0.25 if few else 0,
    antialiaseds=few,
    rasterized=not few,
  )
  axes.add_collection(boxes, autolim=False)
  return boxes


def mark(axes: Axes, boxes: np.ndarray) -> None:
  """Outlines cells, or a rectangle of them: boxes [n, 4] of top, left, bottom and right."""
  if not len(boxes):
    return
  (top, left), (bottom, right) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
  for colour, width in (("white", 2.0), (MARK, 1.1)):
    corner, size = (left, top), (right - left, bottom - top)
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=width, joinstyle="miter", zorder=4))


def grid_name(grid: Grid) -> str:
  """Its cells and how many pixels each stands for: "8 × 8 cells of 4 × 4 pixels"."""
  if grid.image is None:
    return f"{grid.height} × {grid.width} cells"
  return f"{grid.height} × {grid.width} cells of {grid.stride[0]:g} × {grid.stride[1]:g} pixels"
