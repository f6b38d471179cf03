"""How much a head is like a convolution: what it does at each shift, and what several heads make up together."""

from __future__ import annotations

import dataclasses

import numpy as np

from convattn.analysis.attention_map import AttentionMap
from convattn.analysis.shifts import shifts
from convattn.analysis.weight_blocks import Block, add_up, ratio

TAPS = 3
"""Rows and columns of the kernel whose coverage is asked for."""


@dataclasses.dataclass(frozen=True, eq=False)
class ShiftProfile:
  """A head's weights by shift, over images and all queries; entry (0, 0) is the shift (-r, -c) of the `radius` (r, c).

  Attributes:
    mean: float64 [heads, 2 r + 1, 2 c + 1], P[delta] = the mean of A[q, q + delta] over the queries that have such a
      key; nan where none has.
    mass: float64 [heads, 2 r + 1, 2 c + 1], the share of all weight; sums to one.
    support: float64 [2 r + 1, 2 c + 1], the share of the queries that have such a key.
  """

  mean: np.ndarray
  mass: np.ndarray
  support: np.ndarray

  @property
  def radius(self) -> tuple[int, int]:
    return self.support.shape[0] // 2, self.support.shape[1] // 2


def shift_profile(layer: AttentionMap) -> ShiftProfile:
  """The `ShiftProfile` of an attention map: whole shifts, in key cells (see `Shifts`)."""

  def summed(block: Block) -> tuple[np.ndarray, ...]:
    return block.by_step(block.shares.sum(0)), *block.pairs_by_step()

  total, pairs, queries = add_up(layer, summed)
  return ShiftProfile(
    ratio(total, pairs), ratio(total, total.sum((1, 2), keepdims=True)), queries[0] / max(1, layer.query_grid.cells)
  )


def convolution_peak(profile: ShiftProfile) -> tuple[np.ndarray, np.ndarray]:
  """The largest P[delta] of each head, and at which shift.

  Only shifts that at least half the queries have are looked at. A head that looks at one key from everywhere has
  P = 1 at a shift that a single query has, and is no convolution; so it comes to 2 / N at most. Of equals the shortest
  shift is meant. A uniform head has 1 / N. Without such a shift both are nan.

  Returns:
    float64 [heads]; float64 [heads, 2], key - query in key cells, down and across.
  """
  heads = len(profile.mean)
  candidates = np.argwhere(profile.support >= 0.5)
  if not len(candidates):
    return np.full(heads, np.nan), np.full((heads, 2), np.nan)
  steps = candidates - profile.radius
  order = np.argsort((steps**2).sum(-1), kind="stable")
  values = np.nan_to_num(profile.mean[:, *candidates[order].T], nan=0.0)
  # The first of those that are equal but for rounding.
  place = (values >= values.max(1, keepdims=True) * (1 - 1e-9)).argmax(1)
  return values.max(1), steps[order][place].astype(np.float64)


def shift_consistency(layer: AttentionMap) -> np.ndarray:
  """float64 [heads]: R^2, how much of the differences between a head's weights its shift accounts for.

      R^2 = 1 - sum_delta n_delta var(A[q, q + delta]) / (n var(A))

  over images and interior queries. Variances are unbiased as those of a single image are, so that weights without any
  order come to 0 in the mean, however few there are of a shift, and also where they are the same in every image; what
  is below 0 is 0. A function of the shift alone has 1.

  Left out is the shift 0: where each query looks at itself because it is like itself, the diagonal alone would count
  as order; and what remains is compared with its own mean, not with 1 / N, for the same reason. Left out are shifts
  that fewer than half the interior queries have: single pairs agree with themselves. Weights that are all equal
  (a uniform head; one that looks at its own cell alone) have nothing to account for, and 0. Without two interior
  queries it is nan.
  """
  interior = len(shifts(layer).interior)
  if interior < 2:
    return np.full(layer.num_heads, np.nan)

  def summed(block: Block) -> tuple[np.ndarray, ...]:
    weights = block.weights
    return block.by_step(weights.sum(0)), block.by_step((weights**2).sum(0)), *block.pairs_by_step()

  total, squares, count, queries = add_up(layer, summed, interior=True)
  counted = queries[0] >= interior / 2
  counted[queries.shape[1] // 2, queries.shape[2] // 2] = False
  count, total, squares = (values[:, counted] for values in (count, total, squares))
  alone = queries[0][counted]
  within = _spread(count, total, squares, alone).sum(1)
  overall = _spread(count.sum(1), total.sum(1), squares.sum(1), alone.sum())
  alike = overall <= 1e-10 * squares.sum(1)
  return np.where(alike, 0.0, np.maximum(1 - within / np.where(alike, 1.0, overall), 0.0))


def _spread(count: np.ndarray, total: np.ndarray, squares: np.ndarray, alone: np.ndarray) -> np.ndarray:
  """`count` times the variance, unbiased where so many values are independent; of one value 0."""
  about_mean = squares - total**2 / np.maximum(count, 1)
  return np.maximum(about_mean, 0) * alone / np.maximum(alone - 1, 1)


def tap_residuals(layer: AttentionMap) -> np.ndarray:
  """float64 [3, 3]: of each tap of a 3x3 kernel the share that no combination of the layer's heads makes up.

      residual(delta) = min_c |E_delta - sum_h c_h A_h|^2 / |E_delta|^2,
      E_delta[q, k] = 1 where k - q = delta, else 0,

  over images and interior queries, with one c for all of them. With nine residuals of 0 the layer can be any 3x3
  convolution there; hard attention is sufficient for that, not necessary. Taps that no query has, as in a sequence
  those above and below, are nan.

  Source: Cordonnier et al. 2020, the generalised Lemma 1 of the appendix, as a number.
  """

  def summed(block: Block) -> tuple[np.ndarray, ...]:
    flat = block.weights.swapaxes(0, 1).reshape(layer.num_heads, -1)
    taps = [(block.steps == tap).all(-1) & block.visible for tap in _around()]
    targets = [block.weights[:, :, tap].sum((0, 2)) for tap in taps]
    return flat @ flat.T, np.stack(targets, -1), np.asarray([tap.sum() for tap in taps]) * layer.num_images

  products, targets, pairs = add_up(layer, summed, interior=True)
  # Heads that differ by rounding alone are one head.
  combination = np.linalg.lstsq(products, targets, rcond=1e-12)[0]
  return np.clip(1 - ratio((targets * combination).sum(0), pairs), 0.0, 1.0).reshape(TAPS, TAPS)


def _around() -> np.ndarray:
  """[9, 2]: the steps of a 3x3 kernel, row by row."""
  return np.argwhere(np.ones((TAPS, TAPS))) - TAPS // 2
