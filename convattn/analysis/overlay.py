"""A number for each cell of an image, to be laid over it."""

from __future__ import annotations

import dataclasses

import numpy as np

from convattn.analysis.attention_map import Grid


@dataclasses.dataclass(frozen=True, eq=False)
class Overlay:
  """What some method says about the cells of each image.

  Attributes:
    name: of the method.
    grid: of the cells.
    values: float32 [b, grid.height, grid.width].
    note: a sentence that says what a value is.
    exact: the values are what the note says, and not an approximation of it.
    classes: int64 [b], the class that the values are about; None: they are about none.

  Raises:
    ValueError: values that do not fit the grid.
  """

  name: str
  grid: Grid
  values: np.ndarray
  note: str
  exact: bool
  classes: np.ndarray | None = None

  def __post_init__(self) -> None:
    height, width = self.grid.height, self.grid.width
    if self.values.ndim != 3 or self.values.shape[1:] != (height, width):
      raise ValueError(f"values of {self.name} are {list(self.values.shape)}, but must be [b, {height}, {width}].")

  def pixels(self) -> np.ndarray:
    """float32 [b, h, w] of the image: every pixel has the value of its cell; nan where it has none.

    Raises:
      ValueError: the grid has no image.
    """
    cells = cells_of_pixels(self.grid)
    spread = np.concatenate([self.values.reshape(len(self.values), -1), np.full((len(self.values), 1), np.nan)], 1)
    return spread[:, cells].astype(np.float32)


def cells_of_pixels(grid: Grid) -> np.ndarray:
  """int64 [h, w] of the image: the cell that each pixel belongs to, by its middle; -1: none.

  Raises:
    ValueError: the grid has no image.
  """
  if grid.image is None:
    raise ValueError("the grid has no image, so no pixel has a cell.")
  rows, columns = (
    np.floor((np.arange(size) + 0.5 - start) / step).astype(np.int64)
    for size, start, step in zip(grid.image, grid.origin, grid.stride, strict=True)
  )
  cells = rows[:, None] * grid.width + columns[None]
  inside = ((rows >= 0) & (rows < grid.height))[:, None] & ((columns >= 0) & (columns < grid.width))[None]
  return np.where(inside, cells, -1)


def pixel_grid(image: tuple[int, int]) -> Grid:
  """Every pixel of an image is a cell."""
  return Grid(*image, image=image)
