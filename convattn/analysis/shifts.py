"""From every query to every key: how far, which way, and which queries lie far from a border."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from convattn.analysis.attention_map import AttentionMap, Grid


@dataclasses.dataclass(frozen=True, eq=False)
class Shifts:
  """Shifts key - query of an attention map, with k keys of each query.

  A shift has two forms. In pixels it is exact: from the middle of the query's cell to the middle of the key's. In steps
  it is whole: from the key cell that the middle of the query's cell lies in, to the key's cell. Where queries and keys
  have one grid both are the same; where keys are pooled, or queries are strided, steps are what a kernel is made of.

  An interior query sees, on each axis, a quarter of its keys (rounded down, but one at least, of three or more) on
  either side: in an image away from its border, in a window away from the window's.

  Attributes:
    query_places: float64 [q, 2], row and column in pixels (in cells where there is no image).
    key_places: float64 [key cells, 2].
    query_cells: int64 [q, 2], the row and column of the key grid that a query lies in.
    stride: float64 [2], of the key grid.
    key_grid: as in `AttentionMap`.
    key_cells: int64 [q, k] or None, as in `AttentionMap`.
  """

  query_places: np.ndarray
  key_places: np.ndarray
  query_cells: np.ndarray
  stride: np.ndarray
  key_grid: Grid
  key_cells: np.ndarray | None

  @functools.cached_property
  def _reach(self) -> tuple[np.ndarray, np.ndarray]:
    """int64 [q, 2] each: the first and the last row and column of the key grid that a query sees."""
    if self.key_cells is None:
      shape = self.query_cells.shape
      return np.zeros(shape, np.int64), np.broadcast_to((self.key_grid.height - 1, self.key_grid.width - 1), shape)
    places, none = self._rows_and_columns(self.key_cells), (self.key_cells < 0)[..., None]
    far = self.key_grid.cells
    return np.where(none, far, places).min(1), np.where(none, -far, places).max(1)

  @functools.cached_property
  def interior(self) -> np.ndarray:
    """int64: the numbers of the interior queries."""
    first, last = self._reach
    extent = last - first + 1
    margin = np.where(extent >= 3, np.maximum(extent // 4, 1), 0)
    nearest = np.minimum(self.query_cells - first, last - self.query_cells)
    return np.flatnonzero((nearest >= margin).all(1))

  @functools.cached_property
  def radius(self) -> tuple[int, int]:
    """The largest steps that there are, down and across."""
    first, last = self._reach
    seeing = (last >= first).all(1)
    steps = np.concatenate([first - self.query_cells, last - self.query_cells])[np.tile(seeing, 2)]
    down, across = np.abs(steps).max(0, initial=0)
    return int(down), int(across)

  def visible(self, queries: np.ndarray) -> np.ndarray:
    """bool [n, k]: which keys of these queries are any."""
    if self.key_cells is None:
      return np.ones((len(queries), self.key_grid.cells), bool)
    return self.key_cells[queries] >= 0

  def steps(self, queries: np.ndarray) -> np.ndarray:
    """int64 [n, k, 2]: whole shifts in key cells; 0 for keys that are none."""
    keys = self._rows_and_columns(self._cells(queries))
    return np.where(self.visible(queries)[..., None], keys - self.query_cells[queries][:, None], 0)

  def pixels(self, queries: np.ndarray) -> np.ndarray:
    """float64 [n, k, 2]: exact shifts in pixels; 0 for keys that are none."""
    keys = self.key_places[self._cells(queries)]
    return np.where(self.visible(queries)[..., None], keys - self.query_places[queries][:, None], 0.0)

  def _cells(self, queries: np.ndarray) -> np.ndarray:
    return np.arange(self.key_grid.cells)[None] if self.key_cells is None else self.key_cells[queries]

  def _rows_and_columns(self, cells: np.ndarray) -> np.ndarray:
    return np.stack(np.divmod(cells, self.key_grid.width), -1)


def shifts(layer: AttentionMap) -> Shifts:
  """The `Shifts` of an attention map, without its prefix tokens.

  Raises:
    ValueError: arrays that do not fit the grids, naming both.
  """
  queries, keys = (size - layer.prefix_tokens for size in layer.probabilities.shape[2:])
  cells = None if layer.key_cells is None else np.asarray(layer.key_cells, np.int64)
  wanted = (layer.query_grid.cells, layer.key_grid.cells if cells is None else cells.shape[-1])
  if (queries, keys) != wanted or (cells is not None and cells.shape != wanted):
    given = f"[{queries}, {keys}]" + ("" if cells is None else f" and key_cells {list(cells.shape)}")
    raise ValueError(f"{layer.layer}: weights are {given} without prefix tokens, but the grids want {list(wanted)}.")
  stride = np.asarray(layer.key_grid.stride, np.float64)
  query_places = layer.query_grid.centres()
  # A place between two cells belongs to the later one, however its number was rounded.
  inside = np.floor((query_places - np.asarray(layer.key_grid.origin)) / stride + 1e-6)
  return Shifts(query_places, layer.key_grid.centres(), inside.astype(np.int64), stride, layer.key_grid, cells)
