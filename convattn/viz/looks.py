"""What one place of a picture looks at, or what looks at it: a row of numbers for each head, over cells.

The page has the same in page/selection.js.
"""

import dataclasses
from typing import Literal

import numpy as np

from convattn.analysis.attention_map import AttentionMap, Grid

Direction = Literal["out", "in"]
"""What a query attends to, or which queries attend to a key."""

WEIGHTS = ("probabilities", "norm_weighted")
"""Modes that are shares: a key that a query never sees has none, and those of several keys add up."""

MEANINGS = {
  "probabilities": "attention weight",
  "logits": "logit",
  "content": "logit, part of content",
  "position": "logit, part of position",
  "norm_weighted": "attention weight × length of the value",
}
"""What the numbers of a mode are, for people."""


@dataclasses.dataclass(frozen=True)
class Place:
  """Which of the pictures, and where in it.

  Attributes:
    image: number of the picture; None: the mean of all.
    less_mean: the mean of all is subtracted.
    at: row and column of a pixel, or of the first and the last of a rectangle; None: all of the picture.
    token: number of a token that has no place in the picture, in the place of `at`.
    direction: what the place attends to, or what attends to it. Of all of the picture there is but one.
  """

  image: int | None = 0
  less_mean: bool = False
  at: tuple[int, ...] | None = None
  token: int | None = None
  direction: Direction = "out"


def is_signed(mode: str, place: Place) -> bool:
  """Whether numbers of a mode lie about zero, and not above it."""
  return place.less_mean or mode not in WEIGHTS


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
  """values [heads, cells of grid], nan where there is none; `marked` [n, 4]: boxes of the place's cells."""

  values: np.ndarray
  grid: Grid
  marked: np.ndarray


def look(attention: AttentionMap, mode: str, place: Place) -> Look:
  """What a layer's heads look at from a place, or what looks at it.

  With A[h, q, k] of the picture: "out" gives the mean of A[h, q, :] over the place's queries q, on the grid of keys;
  "in" the sum of A[h, :, k] over its keys k, on that of queries, of logits the mean. All of the picture gives the sum
  of A[h, q, :] over all queries, those without a place too, which is the attention that a key receives; of logits the
  mean. In means and sums a weight that is not there is zero, and a logit that is not there is left out.

  Raises:
    ValueError: a mode that the map has not, a picture or a token that is not there, or a place in none of its cells.
  """
  inward = place.direction == "in" and (place.at is not None or place.token is not None)
  fixed, seen = attention.query_grid, attention.key_grid
  arrays = attention.dense(mode)
  if place.token is not None:
    arrays = _from_token(attention, mode, place.token, place.direction)
  elif place.at is None and attention.key_cells is None:
    arrays = getattr(attention, mode)[..., attention.prefix_tokens :]  # tokens without a place are queries too
  values = _of_image(attention, np.where(np.isfinite(arrays), arrays, np.nan), place, mode)
  if inward:
    values, fixed, seen = values.swapaxes(1, 2), seen, fixed
  if place.token is not None:
    return Look(values[:, 0], seen, np.empty((0, 4)))
  if place.at is None:
    return Look(_joined(values, mode, adds=mode in WEIGHTS), seen, np.empty((0, 4)))
  cells = cells_in(fixed, place.at)
  if not cells:
    size = fixed.image or (fixed.height, fixed.width)
    raise ValueError(
      f"pixel {','.join(map(str, place.at))} is in no cell of {attention.layer}; its image has {size[0]} x {size[1]} "
      "pixels, counted from 0."
    )
  return Look(_joined(values[:, cells], mode, adds=inward and mode in WEIGHTS), seen, fixed.boxes()[cells])


def cells_in(grid: Grid, at: tuple[int, ...]) -> list[int]:
  """The cells that hold the middle of a pixel, or of one in a rectangle of pixels."""
  top, left, bottom, right = at if len(at) == 4 else (*at, *at)
  pixels = ((row, column) for row in range(top, bottom + 1) for column in range(left, right + 1))
  found = {grid.cell_at(row + 0.5, column + 0.5) for row, column in pixels}
  return sorted(cell for cell in found if cell is not None)


def _of_image(attention: AttentionMap, values: np.ndarray, place: Place, mode: str) -> np.ndarray:
  """[heads, q, k] of the picture, of the mean over all, or of their difference."""
  if place.image is not None and not 0 <= place.image < len(values):
    raise ValueError(f"there is no image {place.image} in {attention.layer}; there are 0 to {len(values) - 1}.")
  mean = _mean(values, 0, mode) if place.image is None or place.less_mean else 0.0
  return np.asarray(mean) if place.image is None else values[place.image] - mean


def _from_token(attention: AttentionMap, mode: str, token: int, direction: Direction) -> np.ndarray:
  """[b, heads, 1, k], or [b, heads, q, 1] of what looks at the token."""
  first = attention.prefix_tokens
  if not 0 <= token < first or attention.key_cells is not None:
    raise ValueError(f"there is no token {token} without a place in {attention.layer}; it has {first} such.")
  values = getattr(attention, mode)
  return values[:, :, token : token + 1, first:] if direction == "out" else values[:, :, first:, token : token + 1]


def _mean(values: np.ndarray, axis: int, mode: str) -> np.ndarray:
  there = np.isfinite(values)
  total = np.where(there, values, 0).sum(axis, dtype=np.float64)
  count = there.sum(axis) if mode not in WEIGHTS else np.where(there.any(axis), values.shape[axis], 0)
  return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _joined(values: np.ndarray, mode: str, adds: bool) -> np.ndarray:
  """[heads, k] of [heads, q, k]: the mean over q, or the sum."""
  return _mean(values, 1, mode) * (values.shape[1] if adds else 1)
