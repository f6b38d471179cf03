"""The weights of an attention map in float64, a block of queries at a time, and sums over them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from convattn.analysis.attention_map import AttentionMap
from convattn.analysis.shifts import Shifts, shifts

BLOCK = 2**21
"""Weights that are looked at at once."""


class Block:
  """The weights of some queries of an attention map, and their shifts: of images b, heads h, queries n and keys k."""

  def __init__(self, layer: AttentionMap, place: Shifts, queries: np.ndarray):
    self.place, self.queries = place, queries
    self.visible = place.visible(queries)
    rows = layer.probabilities[:, :, layer.prefix_tokens + queries].astype(np.float64)
    self.weights: np.ndarray = np.where(self.visible, rows[..., layer.prefix_tokens :], 0.0)
    """float64 [b, h, n, k]: as the layer has them, 0 for keys that are none."""
    self.prefix: np.ndarray = np.abs(rows[..., : layer.prefix_tokens]).sum(-1)
    """float64 [b, h, n]: weight on prefix tokens."""
    if not np.isfinite(self.weights).all():
      raise ValueError(f"{layer.layer} has weights that are not finite; look for a row that is masked altogether.")

  @functools.cached_property
  def shares(self) -> np.ndarray:
    """float64 [b, h, n, k]: |weight| as a share of its row; a row without any is 0."""
    size = np.abs(self.weights)
    return size / np.where(self.looking, size.sum(-1), 1.0)[..., None]

  @functools.cached_property
  def looking(self) -> np.ndarray:
    """bool [b, h, n]: rows with any weight."""
    return np.any(self.weights, axis=-1)

  @functools.cached_property
  def steps(self) -> np.ndarray:
    return self.place.steps(self.queries)

  @functools.cached_property
  def pixels(self) -> np.ndarray:
    return self.place.pixels(self.queries)

  def by_step(self, values: np.ndarray) -> np.ndarray:
    """[m, n, k] summed over all pairs with the same steps: [m, 2 r + 1, 2 c + 1] of the radius (r, c)."""
    rows, columns = (2 * radius + 1 for radius in self.place.radius)
    place = ((self.steps + np.asarray(self.place.radius)) @ (columns, 1))[self.visible]
    sums = [np.bincount(place, each[self.visible], rows * columns) for each in values]
    return np.stack(sums).reshape(len(values), rows, columns)

  def pairs_by_step(self) -> tuple[np.ndarray, np.ndarray]:
    """How many pairs have the same steps: [h, 2 r + 1, 2 c + 1] with rows of images that have any weight, and [1, ...]
    of the queries alone."""
    queries = self.by_step(self.visible[None])
    if self.looking.all():
      return np.broadcast_to(queries * len(self.looking), (self.looking.shape[1], *queries.shape[1:])), queries
    return self.by_step(self.looking.sum(0)[..., None] * self.visible), queries


def blocks(layer: AttentionMap, interior: bool = False) -> Iterator[Block]:
  """All queries of an attention map (or the interior ones), so many at once that memory stays bounded.

  Raises:
    ValueError: arrays that do not fit the grids, or weights that are not finite.
  """
  place = shifts(layer)
  queries = place.interior if interior else np.arange(len(place.query_cells))
  images, heads, _, keys = layer.probabilities.shape
  size = max(1, BLOCK // max(1, images * heads * keys))
  # One block at least, so that sums over no query have their shape.
  for start in range(0, max(1, len(queries)), size):
    yield Block(layer, place, queries[start : start + size])


def add_up(
  layer: AttentionMap, of: Callable[[Block], Sequence[np.ndarray]], interior: bool = False
) -> Sequence[np.ndarray]:
  """The sums over the blocks of all (or all interior) queries of each array that `of` makes of one."""
  return functools.reduce(
    lambda so_far, more: [a + b for a, b in zip(so_far, more, strict=True)], map(of, blocks(layer, interior))
  )


def mean_over_queries(layer: AttentionMap, of: Callable[[Block], np.ndarray], interior: bool = False) -> np.ndarray:
  """[h, ...]: the mean over images and queries of what `of` adds up over those of a block; nan where there are none."""
  total, count = add_up(layer, lambda block: (of(block), block.looking.sum((0, 2))), interior)
  return ratio(total, count.reshape(-1, *[1] * (total.ndim - 1)))


def ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
  """total / count as float64; nan where the count is 0."""
  shape = np.broadcast_shapes(np.shape(total), np.shape(count))
  return np.divide(total, count, out=np.full(shape, np.nan), where=np.broadcast_to(count > 0, shape))
