"""From what an attention layer shows of itself, for one image, to an AttentionMap."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from convattn.analysis.attention_map import MODES, AttentionMap, Grid
from convattn.analysis.geometry import grid_of_axes
from convattn.layers.seen import AxisCells, Parts


def map_of_parts(layer: str, parts: Parts, below: Grid | None, prefix_tokens: int, stated: Grid | None) -> AttentionMap:
  """The map of one call for one image.

  Args:
    layer: its name.
    parts: arrays as NumPy has them, of a batch of one image.
    below: the grid of the layer's input; None: there is no image.
    prefix_tokens: of queries and keys that are tokens, how many have no place in the image.
    stated: the grid of the others.
  """
  arrays = _arrays(parts)
  if parts.query_cells is not None:
    assert below is not None and parts.key_cells is not None
    scattered, key_cells = _by_pixel(arrays, parts, below.cells)
    return AttentionMap(layer, below, below, key_cells=key_cells, gate=_wide(parts.gate), **scattered)
  arrays = {mode: array[:1] for mode, array in arrays.items()}
  queries, keys = arrays["probabilities"].shape[2:]
  given, prefix = grids_of(queries, keys, below, prefix_tokens, stated)
  if parts.query_axes is not None or parts.key_axes is not None:
    placed = (_placed(parts.query_axes, below), _placed(parts.key_axes, below))
    given, prefix = (placed[0] or given[0], placed[1] or given[1]), 0
  return AttentionMap(layer, *given, prefix_tokens=prefix, gate=_wide(parts.gate), **arrays)


def join_maps(pieces: Sequence[AttentionMap]) -> AttentionMap:
  """One map of all images, from a map of each. What is alike in all is kept once."""
  first, arrays = pieces[0], dict[str, Any]()
  for mode in first.modes:
    each = [getattr(piece, mode) for piece in pieces]
    if all(np.array_equal(each[0], other) for other in each[1:]):
      arrays[mode] = np.broadcast_to(each[0], (sum(map(len, each)), *each[0].shape[1:]))
    else:
      arrays[mode] = np.concatenate(each)
  return dataclasses.replace(first, **arrays)


def _placed(axes: tuple[AxisCells, ...] | None, below: Grid | None) -> Grid | None:
  if axes is None:
    return None
  if len(axes) == 1 or below is None:  # a sequence is an image of one row
    return grid_of_axes(Grid(1, 1), (*(2 - len(axes)) * (AxisCells(1, 1, 0),), *axes))
  return grid_of_axes(below, axes)


def _wide(array: Any) -> np.ndarray | None:
  return None if array is None else np.asarray(array, np.float32)


def _arrays(parts: Parts) -> dict[str, Any]:
  """[g, n, q, k] by mode, as many as the weights."""
  weights = np.asarray(parts.weights, np.float32)
  found: dict[str, Any] = {"probabilities": weights}
  content, position = _wide(parts.content), _wide(parts.position)
  if content is not None:
    found["content"] = content if parts.mask is None else np.where(parts.mask, content, -np.inf)
  if position is not None:
    found["position"] = position if position.ndim == 4 else position[None]
  if parts.gate is None:
    logits = sum(found[name] for name in ("content", "position") if name in found)
    found["logits"] = logits if parts.mask is None else np.where(parts.mask, logits, -np.inf)
  if parts.lengths is not None:
    found["norm_weighted"] = weights * np.asarray(parts.lengths, np.float32)
  return {mode: np.broadcast_to(found[mode], weights.shape) for mode in MODES if mode in found}


def _by_pixel(arrays: dict[str, Any], parts: Parts, cells: int) -> tuple[dict[str, Any], np.ndarray]:
  """Groups with queries of their own, put in the order of the image's pixels; and the keys of each."""
  own = np.asarray(parts.query_cells)
  real = own >= 0
  groups, _, queries, keys = arrays["probabilities"].shape
  seen = np.broadcast_to(np.asarray(parts.key_cells)[:, None], (groups, queries, keys))
  if parts.mask is not None:
    seen = np.where(np.broadcast_to(parts.mask, (groups, 1, queries, keys))[:, 0], seen, -1)
  key_cells = np.empty((cells, keys), np.int32)
  key_cells[own[real]] = seen[real]

  def ordered(array: np.ndarray) -> np.ndarray:
    out = np.empty((cells, array.shape[1], keys), np.float32)
    out[own[real]] = array.swapaxes(1, 2)[real]
    return out.swapaxes(0, 1)[None]

  return {mode: ordered(array) for mode, array in arrays.items()}, key_cells


def grids_of(
  queries: int, keys: int, below: Grid | None, prefix_tokens: int, stated: Grid | None
) -> tuple[tuple[Grid, Grid], int]:
  """Grids of queries and keys, and the tokens before them: the stated one, that of the last image, or none."""

  def grid(count: int) -> Grid | None:
    fitting = (each for each in (stated, below) if each is not None and each.cells == count)
    return next(fitting, None)

  of_queries, of_keys = grid(queries - prefix_tokens), grid(keys - prefix_tokens)
  if prefix_tokens and of_queries is not None and of_keys is not None:
    return (of_queries, of_keys), prefix_tokens
  return (grid(queries) or Grid(1, queries), grid(keys) or Grid(1, keys)), 0
