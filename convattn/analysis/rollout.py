"""What the last attention layer sees of the first one's cells, if attention were all that moved anything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convattn.analysis.attention_map import AttentionMap, Grid
from convattn.analysis.overlay import Overlay


def rollout(maps: Sequence[AttentionMap]) -> AttentionMap:
  """Attention rollout: the product of all layers' mean weights, each with a shortcut beside it.

      R = A_L M_L A_(L-1) ... M_2 A_1,     A = 1/2 mean over heads of the weights + 1/2 I,  rows divided by their sum

  M_l is I between layers on one grid. Between grids of different strides, where a convolution or a pooling stands,
  each cell of the coarser one is the mean of the cells within it (of a finer one: each is the cell that it lies in).
  Where keys were pooled, a weight is shared out over the cells of its key in the same way. Convolutions on one grid
  are taken to be local, cell to cell, and so is all that comes before the first attention layer, feed-forward
  networks and norms: a cell of the first grid stands for the pixels in it, no more.

  The result is an AttentionMap of one head, from the last layer's queries to the cells of the first layer's queries;
  every row sums to one. With prefix tokens they come first on both sides.

  Source: Abnar & Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, equation 1. The rule for grids of
  different strides is ours.

  Args:
    maps: of all attention layers in the order of the forward pass, for one batch of images.

  Raises:
    ValueError: no maps; maps that do not follow one another; weights below 0 or not finite, which are no flow.
  """
  if not maps:
    raise ValueError("rollout needs the maps of at least one attention layer, got none.")
  first, rolled = maps[0], None
  for before, now in zip([None, *maps[:-1]], maps, strict=True):
    step = _with_shortcut(now)
    if rolled is not None and before is not None:
      _check_sequence(before, now)
      rolled = _with_prefix(_resampling(before.query_grid, now.query_grid), now.prefix_tokens) @ rolled
    rolled = step if rolled is None else step @ rolled
  assert rolled is not None
  return AttentionMap(
    layer="rollout",
    query_grid=maps[-1].query_grid,
    key_grid=first.query_grid,
    probabilities=rolled[:, None].astype(np.float32),
    prefix_tokens=first.prefix_tokens,
  )


def rollout_overlay(maps: Sequence[AttentionMap], query: int | None = None) -> Overlay:
  """`rollout` as a number for each cell of the first grid.

  Args:
    maps: as `rollout` takes them.
    query: number of the last layer's query, prefix tokens first (0 is a class token where there is one); None: the mean
      over its cells, as a classifier of the mean sees them.

  Raises:
    ValueError: as `rollout`, or a query that there is not.
  """
  rolled = rollout(maps)
  rows = rolled.probabilities[:, 0]
  if query is not None and not 0 <= query < rows.shape[1]:
    raise ValueError(f"query is {query}, but the last layer has {rows.shape[1]} of them, from 0.")
  seen = rows[:, rolled.prefix_tokens :].mean(1) if query is None else rows[:, query]
  who = "the mean of the last layer's cells" if query is None else f"query {query} of the last layer"
  grid = rolled.key_grid
  return Overlay(
    name="rollout",
    grid=grid,
    values=seen[:, rolled.prefix_tokens :].reshape(-1, grid.height, grid.width),
    note=f"share of {who} that comes from each cell, if attention and its shortcuts were all that moves anything",
    exact=False,
  )


def _with_shortcut(layer: AttentionMap) -> np.ndarray:
  """float64 [b, q, q]: 1/2 of the mean weights, keys brought to the queries' cells, and 1/2 of the identity."""
  weights = _mean_weights(layer)
  if not np.isfinite(weights).all() or weights.min() < 0:
    raise ValueError(f"rollout needs weights that are finite and at least 0; those of {layer.layer} are not.")
  if layer.key_grid != layer.query_grid:
    weights = weights @ _with_prefix(_resampling(layer.query_grid, layer.key_grid), layer.prefix_tokens)
  sums = weights.sum(-1, keepdims=True)
  if not (sums > 0).all():
    raise ValueError(f"rollout needs weights; a query of {layer.layer} has none.")
  return 0.5 * weights / sums + 0.5 * np.eye(weights.shape[-1])


def _mean_weights(layer: AttentionMap) -> np.ndarray:
  """float64 [b, prefix + query cells, prefix + key cells]."""
  p = layer.prefix_tokens
  if layer.key_cells is None:
    return layer.probabilities.astype(np.float64).mean(1)
  if p:
    raise ValueError(f"{layer.layer} has both prefix tokens and keys of its own for each query; rollout knows one.")
  return np.nan_to_num(layer.dense().astype(np.float64)).mean(1)


def _check_sequence(before: AttentionMap, now: AttentionMap) -> None:
  for name, ours, theirs in (
    ("images", before.num_images, now.num_images),
    ("prefix tokens", before.prefix_tokens, now.prefix_tokens),
    ("pixels", before.query_grid.image, now.query_grid.image),
  ):
    if ours != theirs:
      raise ValueError(f"{before.layer} and {now.layer} differ in {name}: {ours} and {theirs}; rollout needs the same.")


def _with_prefix(matrix: np.ndarray, prefix_tokens: int) -> np.ndarray:
  """The matrix over prefix tokens and cells: each token stays what it is."""
  whole = np.zeros((matrix.shape[0] + prefix_tokens, matrix.shape[1] + prefix_tokens))
  whole[:prefix_tokens, :prefix_tokens] = np.eye(prefix_tokens)
  whole[prefix_tokens:, prefix_tokens:] = matrix
  return whole


def _resampling(fine: Grid, coarse: Grid) -> np.ndarray:
  """[cells of `coarse`, cells of `fine`]: the mean of the cells within, each by the part of it that lies there."""
  if fine == coarse:
    return np.eye(fine.cells)
  if fine.image is None:
    raise ValueError(
      f"rollout cannot bring {fine.cells} tokens to {coarse.cells}; give both grids the image that they lie in."
    )
  rows = _overlaps(fine.height, coarse.height, fine.stride[0], coarse.stride[0], fine.origin[0], coarse.origin[0])
  columns = _overlaps(fine.width, coarse.width, fine.stride[1], coarse.stride[1], fine.origin[1], coarse.origin[1])
  return np.kron(rows, columns)


def _overlaps(
  fine: int, coarse: int, fine_stride: float, coarse_stride: float, fine_origin: float, coarse_origin: float
) -> np.ndarray:
  """[coarse, fine] along one axis: shares of each coarse cell's length; rows sum to one."""
  starts = fine_origin + fine_stride * np.arange(fine)
  lefts = (coarse_origin + coarse_stride * np.arange(coarse))[:, None]
  common = np.minimum(starts + fine_stride, lefts + coarse_stride) - np.maximum(starts, lefts)
  common = np.maximum(common, 0)
  if not (common.sum(1) > 0).all():
    raise ValueError(f"rollout found no cell of the {fine} before under one of the {coarse} that follow.")
  return common / common.sum(1, keepdims=True)
