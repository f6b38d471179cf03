"""Attention weights of anybody's model, as AttentionMaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convattn.analysis.attention_map import AttentionMap, Grid
from convattn.analysis.geometry import stated_grid
from convattn.analysis.parts import grids_of

_ROUNDING = 0.02
"""A row may sum to so much more or less than one: weights of 16 bits do."""


def maps_of_arrays(
  arrays: Sequence[Any] | Mapping[str, Any],
  grid: tuple[int, int] | None = None,
  prefix_tokens: int = 0,
  *,
  image: tuple[int, int] | None = None,
) -> list[AttentionMap]:
  """A map for each layer's weights [b, heads, queries, keys], such as Hugging Face's `output_attentions` gives.

  Tokens that are as many as the cells of the grid, behind `prefix_tokens` or without them, lie on it row by row;
  others (a sequence, the other side of cross-attention) have no place.

  Args:
    arrays: one for each layer, called "layer_1", "layer_2", and so on, or by names of their own; of NumPy, JAX, or
      PyTorch.
    grid: (height, width); None: all are tokens.
    prefix_tokens: before those of the grid: a class token, registers. In a layer that has not so many, none.
    image: height and width in pixels, over which the grid is spread; None: a cell is a pixel.

  Raises:
    ValueError: no arrays, one that is not of such a shape or not of weights, another number of images, or a grid or
      prefix that no layer has.
  """
  named = dict(arrays) if isinstance(arrays, Mapping) else {f"layer_{i}": each for i, each in enumerate(arrays, 1)}
  if not named:
    raise ValueError("there are no arrays; give one of shape [b, heads, queries, keys] for each layer.")
  stated = stated_grid(image, grid, prefix_tokens)
  maps = [map_of_weights(name, _array(each), None, prefix_tokens, stated) for name, each in named.items()]
  for one in maps:
    _check_weights(one)
    if one.num_images != maps[0].num_images:
      raise ValueError(
        f"{one.layer} has {one.num_images} images, but {maps[0].layer} has {maps[0].num_images}; give all of the same."
      )
  check_stated(maps, stated, prefix_tokens)
  if stated is not None and prefix_tokens and not any(each.prefix_tokens for each in maps):
    raise ValueError(
      f"grid is {stated.height}x{stated.width}, {stated.cells} cells, and prefix_tokens is {prefix_tokens}, "
      f"{stated.cells + prefix_tokens} tokens in all, but no layer has so many queries and keys ({_counts(maps)}); "
      "leave prefix_tokens out, or state another grid."
    )
  return maps


def map_of_weights(
  layer: str, weights: np.ndarray, below: Grid | None, prefix_tokens: int, stated: Grid | None
) -> AttentionMap:
  """The map of weights [b, heads, q, k] alone; arguments as of `parts.map_of_parts`.

  Raises:
    ValueError: weights of another rank, or not finite.
  """
  weights = np.asarray(weights, np.float32)
  if weights.ndim != 4:
    raise ValueError(f"{layer} gives attention of shape {weights.shape}, but must give [b, heads, queries, keys].")
  if not np.isfinite(weights).all():
    raise ValueError(f"{layer} gives attention that is not finite, but must give weights; not logits with a mask.")
  queries, keys = weights.shape[2:]
  given, prefix = grids_of(queries, keys, below, prefix_tokens, stated)
  return AttentionMap(layer, *given, weights, prefix_tokens=prefix)


def _check_weights(layer: AttentionMap) -> None:
  """Rows of what somebody gives as weights are none below zero and sum to one, or are masked altogether.

  Raises:
    ValueError: they do not.
  """
  weights = layer.probabilities
  remedy = "but must give weights, rows that sum to one; a softmax over the keys makes them of logits"
  if weights.size and weights.min() < 0:
    raise ValueError(f"{layer.layer} gives negative numbers, down to {weights.min():.3g}, {remedy}.")
  sums = weights.sum(-1, dtype=np.float64)
  wrong = (np.abs(sums - 1) > _ROUNDING) & (sums != 0)
  if wrong.any():
    raise ValueError(f"{layer.layer} gives a row that sums to {sums[wrong][0]:.3g}, {remedy}.")


def check_stated(maps: Sequence[AttentionMap], stated: Grid | None, prefix_tokens: int) -> None:
  """A grid that is stated must be some layer's.

  Raises:
    ValueError: it is none's.
  """
  if stated is None or any(stated in (each.query_grid, each.key_grid) for each in maps):
    return
  counts = ", ".join(str(count) for count in sorted({each.probabilities.shape[3] for each in maps})) or "no"
  raise ValueError(
    f"grid is {stated.height}x{stated.width} after prefix_tokens = {prefix_tokens}, {stated.cells + prefix_tokens} "
    f"tokens in all, but layers have {counts} keys."
  )


def _counts(maps: Sequence[AttentionMap]) -> str:
  """How many queries and keys layers have: "49 x 49, 5 x 49"."""
  return ", ".join(dict.fromkeys("{} x {}".format(*each.probabilities.shape[2:]) for each in maps))


def _array(array: Any) -> np.ndarray:
  # PyTorch hands over neither what needs a gradient, nor bfloat16, nor what lies on an accelerator.
  return np.asarray(array.detach().float().cpu() if hasattr(array, "detach") else array)
