"""Where the cells of every layer lie in the image, followed through strides while a model is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import numpy as np

from convattn.analysis.attention_map import Grid
from convattn.layers.seen import AxisCells

Path = tuple[str, ...]


class Following:
  """Follows the sizes of images through a model: `with nn.intercept_methods(following): model.apply(...)`.

  Modules are asked for the sizes [b, h, w, c] of their first argument and of what they return. From one size to the
  next is a stride: the one that the module states, in `stride` or `strides`, where ceil(n / s) agrees, else the
  smallest that does on both axes (28 to 14 to 7 to 4 is a stride of 8). What lies between a module's input and output
  counts where it leads to the output, so that a squeezed image of one pixel, or heads that look like an image, mislead
  nobody.

  `visit` is told of each module that makes an image of an image: the module, the grid of the one and of the other.

  Attributes:
    order: paths of all modules, as they were called.
    grids: by path, the grid of the input of each of its calls; of one without, that of the image that came last.
  """

  def __init__(self, image: tuple[int, int] | None, visit: Callable[[nn.Module, Grid, Grid], None] | None = None):
    self.order: list[Path] = []
    self.grids: dict[Path, list[Grid | None]] = {}
    self._image = image
    self._visit = visit
    self._chain: tuple[Grid, ...] = () if image is None else (Grid(*image, image=image),)
    self._inside: list[Path] = []

  def __call__(
    self, method: Callable[..., Any], arguments: Any, options: Any, context: nn.module.InterceptorContext
  ) -> Any:
    if self._image is None or context.method_name == "setup":
      self._note(context)
      return method(*arguments, **options)
    given = _size(next(iter([*arguments, *options.values()]), None))
    if given is not None:
      self._chain = _reach(self._chain, given, None)
    self._note(context)
    entered = self._chain
    self._inside.append(context.module.path)
    out = method(*arguments, **options)
    self._inside.pop()
    left, self._chain = self._chain, entered
    returned = _size(out)
    if returned is not None and returned != given:
      known = (left[-1].height, left[-1].width) == returned
      stated = getattr(context.module, "stride", getattr(context.module, "strides", None))
      self._chain = left if known else _reach(entered, returned, stated)
    if self._visit is not None and given and returned and context.method_name == "__call__":
      self._visit(context.module, entered[-1], self._chain[-1])
    return out

  @property
  def last(self) -> Grid | None:
    """The grid of the image that came last; None: there was none."""
    return self._chain[-1] if self._chain else None

  def _note(self, context: nn.module.InterceptorContext) -> None:
    path = context.module.path
    if context.method_name == "setup" or path in self._inside:
      return
    if path not in self.grids:
      self.order.append(path)
    self.grids.setdefault(path, []).append(self.last)


def grid_of_axes(base: Grid, axes: tuple[AxisCells, ...]) -> Grid:
  """The grid of cells that are placed along the axes of another one."""
  return Grid(
    axes[0].cells,
    axes[1].cells,
    (base.stride[0] * axes[0].stride, base.stride[1] * axes[1].stride),
    (base.origin[0] + base.stride[0] * axes[0].origin, base.origin[1] + base.stride[1] * axes[1].origin),
    base.image,
  )


def strided(base: Grid, size: tuple[int, int], stated: Any = None) -> Grid:
  """The grid of so many cells that something with a stride makes of another one."""
  sizes = (base.height, base.width)
  smallest = max(_smallest(n, m) for n, m in zip(sizes, size, strict=True))
  for stride in (stated, smallest):
    each = tuple(stride) if isinstance(stride, (tuple, list)) else (stride, stride)
    whole = len(each) == 2 and all(isinstance(step, int) and step > 0 for step in each)
    if whole and tuple(-(-n // step) for n, step in zip(sizes, each, strict=True)) == size:
      return grid_of_axes(base, tuple(AxisCells(m, step, 0) for m, step in zip(size, each, strict=True)))
  rows, columns = (_along(n, m) for n, m in zip(sizes, size, strict=True))
  return grid_of_axes(base, (rows, columns))


def _along(cells: int, left: int) -> AxisCells:
  """By the axis alone: a stride, or a border that is left out (28 to 26), or else a fraction."""
  stride = _smallest(cells, left)
  if -(-cells // stride) == left:
    return AxisCells(left, stride, 0)
  if cells / 2 < left < cells:
    return AxisCells(left, 1, (cells - left) / 2)
  return AxisCells(left, cells / left, 0)


def _smallest(cells: int, left: int) -> int:
  return -(-cells // left)


def _reach(chain: tuple[Grid, ...], size: tuple[int, int], stated: Any) -> tuple[Grid, ...]:
  """The chain up to the last grid that is no smaller, and one of this size."""
  while len(chain) > 1 and (chain[-1].height < size[0] or chain[-1].width < size[1]):
    chain = chain[:-1]
  if (chain[-1].height, chain[-1].width) == size:
    return chain
  return (*chain, strided(chain[-1], size, stated))


def _size(array: Any) -> tuple[int, int] | None:
  """Height and width of [b, h, w, c]; None for anything else, and for an image without pixels."""
  shape: Any = getattr(array, "shape", ())
  return (shape[1], shape[2]) if len(shape) == 4 and 0 not in shape else None


def stated_grid(image: tuple[int, int] | None, grid: tuple[int, int] | None, prefix_tokens: int) -> Grid | None:
  """A grid that somebody states behind so many tokens, spread over the image; without one each cell is a pixel.

  Raises:
    ValueError: not two positive integers, or no whole number of tokens.
  """
  if not isinstance(prefix_tokens, (int, np.integer)) or prefix_tokens < 0:
    raise ValueError(f"prefix_tokens is {prefix_tokens!r}, but must be a whole number of at least 0.")
  if grid is None:
    return None
  if np.shape(grid) != (2,) or not all(isinstance(size, (int, np.integer)) and size > 0 for size in grid):
    raise ValueError(f"grid is {grid!r}, but must be (height, width), two positive integers.")
  image = (grid[0], grid[1]) if image is None else image
  return strided(Grid(*image, image=image), (grid[0], grid[1]))
