"""Every head of every layer beside the picture, for one of its pixels."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from convattn.analysis.attention_map import AttentionMap, Grid
from convattn.viz.cells import draw_cells, draw_picture, frame, mark, pale_picture, shown_picture
from convattn.viz.looks import MEANINGS, Look, Place, is_signed, look
from convattn.viz.style import GREY, PAGE, colour_bar, fit_height, number, paper, scale, sheet

_NARROWEST, _WIDEST = 11.5, 60.0
"""Millimetres of a map; more heads than fit so are put into further rows."""

_LOW, _ROOM = 45.0, 16.0
"""Millimetres: lower rows of maps have their bar below them, narrower maps tell head and number in two lines."""

Scale = tuple[Colormap, Normalize]


@dataclasses.dataclass(frozen=True, eq=False)
class Laid:
  """Something over the picture itself, with a scale of colours of its own: values [cells of grid]."""

  name: str
  values: np.ndarray
  grid: Grid
  signed: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
  """A row of maps: a label, what is looked at, and which of its heads are shown."""

  label: str
  look: Look
  heads: Sequence[int]

  @property
  def values(self) -> np.ndarray:
    """[heads that are shown, cells]."""
    return self.look.values[list(self.heads)]


def head_grid_figure(
  maps: Sequence[AttentionMap],
  image: np.ndarray | None,
  at: tuple[int, int],
  *,
  mode: str = "probabilities",
  width: float = PAGE,
) -> Figure:
  """A row for each layer and a column for each head: what the cell of one pixel attends to, in the first image.

  Cells are the real ones, in sharp borders, and no picture lies under them, whose grey would look like a weight; it
  stands at the left. The pixel's own cell is outlined. All maps have one scale of colours, and below each stands its
  largest number.

  Args:
    maps: of one or more layers; heads may differ in number.
    image: [h, w, c] that they were computed for, in any range; None: no picture.
    at: row and column of the pixel.
    mode: one of `AttentionMap.modes`.
    width: of the figure, in millimetres.

  Raises:
    ValueError: no maps; a mode that one of them has not; a pixel outside the image; an image of another size.
  """
  if not maps:
    raise ValueError("there are no maps to draw.")
  place = Place(at=at)
  looks = [look(each, mode, place) for each in maps]
  rows = [Row(each.layer, found, range(each.num_heads)) for each, found in zip(maps, looks, strict=True)]
  return grid_of_looks(rows, image, mode, shared_scale(looks, is_signed(mode, place)), width=width)


def shared_scale(looks: Sequence[Look], signed: bool) -> Scale:
  """One scale of colours for all heads of some looks."""
  return scale(np.concatenate([each.values.ravel() for each in looks]), signed)


@paper()
def grid_of_looks(
  rows: Sequence[Row],
  image: np.ndarray | None,
  mode: str,
  shared: Scale | None,
  *,
  signed: bool = False,
  laid: Laid | None = None,
  width: float = PAGE,
) -> Figure:
  """The figure of `head_grid_figure` for any looks: a row for each, or more where its heads have no room in one.

  Args:
    rows: what is drawn.
    image: as in `head_grid_figure`.
    mode: what the numbers are.
    shared: the scale of all maps, with a bar; None: each map has its own, told by the number below it.
    signed: whether a map's own scale lies about zero.
    laid: lies over the first picture at the left, which is pale there, with a bar of its own below.
    width: in millimetres.

  Raises:
    ValueError: an image of another size than the maps are of.
  """
  size = _size(rows[0].look, image)
  with_picture = image is not None
  beside = 8 + 14 * (shared is not None)  # letters and the bar
  most = max(1, int((width - beside) // _NARROWEST) - with_picture)
  rows = [part for row in rows for part in _parts(row, most)]
  columns = with_picture + max(len(row.heads) for row in rows)
  side = min((width - beside) / columns, _WIDEST)
  tall = len(rows) * (side * size[0] / size[1] + 5.5)
  # Beside few rows there is no room for the name of a bar; below them there is.
  below = shared is not None and tall < _LOW
  figure = sheet(width, 7 + tall + 4 * below + 7 * (laid is not None))
  between = ": " if side >= _ROOM else "\n"
  grid = figure.subplots(len(rows), columns, squeeze=False)
  for i, (axes, row) in enumerate(zip(grid, rows, strict=True)):
    if image is not None:
      _draw_left(axes[0], image, row.look, None if i else laid, between)
    axes[0].set_ylabel(_short(row.label), fontsize=6, color=GREY, parse_math=False)
    for place, on in enumerate(axes[with_picture:]):
      if place < len(row.heads):
        _draw(on, row, place, size, shared or scale(row.values[place], signed))
        told = _largest(row.values[place]) if shared or not signed else _end(row.values[place])
        on.set_xlabel(f"head {row.heads[place]}{between}{told}", fontsize=5.5, labelpad=1.5)
      else:
        on.set_axis_off()
  if shared is not None:
    place_of_bar: dict[str, Any] = {"location": "bottom"} if below else {}
    colour_bar(figure, *shared, MEANINGS[mode], ax=list(grid.ravel()), **place_of_bar)
  if laid is not None and image is not None:
    colours = scale(laid.values, laid.signed)
    colour_bar(figure, *colours, laid.name.replace("$", r"\$"), ax=list(grid.ravel()), location="bottom")
  fit_height(figure, grid)
  return figure


def _parts(row: Row, most: int) -> list[Row]:
  return [dataclasses.replace(row, heads=row.heads[i : i + most]) for i in range(0, len(row.heads), most)]


def _size(first: Look, image: np.ndarray | None) -> tuple[float, float]:
  """Height and width of what is drawn, in pixels."""
  grid = first.grid
  if image is not None and grid.image is not None and np.shape(image)[:2] != tuple(grid.image):
    raise ValueError(
      f"the image has {np.shape(image)[0]} x {np.shape(image)[1]} pixels, but the maps are of one with "
      f"{grid.image[0]} x {grid.image[1]}."
    )
  return grid.image or (grid.height * grid.stride[0], grid.width * grid.stride[1])


def _draw_left(axes: Axes, image: np.ndarray, place: Look, laid: Laid | None, between: str) -> None:
  if laid is None:
    draw_picture(axes, shown_picture(image))
  else:
    draw_picture(axes, pale_picture(image))
    draw_cells(axes, laid.values, laid.grid, *scale(laid.values, laid.signed))
    axes.set_xlabel(f"{laid.name}{between}{_largest(laid.values)}", fontsize=5.5, labelpad=1.5, parse_math=False)
  mark(axes, place.marked)


def _draw(axes: Axes, row: Row, place: int, size: tuple[float, float], colours: Scale) -> None:
  frame(axes, *size)
  draw_cells(axes, row.values[place], row.look.grid, *colours)
  mark(axes, row.look.marked)


def _largest(values: np.ndarray) -> str:
  finite = values[np.isfinite(values)]
  return number(finite.max()) if finite.size else "–"


def _end(values: np.ndarray) -> str:
  """Of a scale about zero: where it ends on both sides."""
  finite = values[np.isfinite(values)]
  return f"±{number(np.abs(finite).max())}" if finite.size else "–"


def _short(layer: str) -> str:
  return layer.removesuffix("/attention").replace("/", "\n")
