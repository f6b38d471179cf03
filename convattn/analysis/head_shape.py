"""Where a head looks: how far, how sharply, which way, and what part of it nearby."""

from __future__ import annotations

import numpy as np

from convattn.analysis.attention_map import AttentionMap, Grid
from convattn.analysis.shifts import shifts
from convattn.analysis.weight_blocks import Block, mean_over_queries

SHARPEST = 1e-3
"""Variance in key cells squared that is added before two variances are compared."""


def attention_distance(layer: AttentionMap) -> np.ndarray:
  """float64 [heads]: the mean of sum_k A[q, k] |p_k - p_q| in pixels, over images and all queries.

  p is the middle of a cell. The mean over the heads of a layer is its non-locality.

  Source: Raghu et al., "Do Vision Transformers See Like Convolutional Neural Networks?", 2021; d'Ascoli et al.,
  "ConViT", 2021, whose unit is the patch.
  """

  def summed(block: Block) -> np.ndarray:
    return np.tensordot(block.shares.sum(0), np.linalg.norm(block.pixels, axis=-1), 2)

  return mean_over_queries(layer, summed)


def attention_entropy(layer: AttentionMap) -> np.ndarray:
  """float64 [heads]: the mean of -sum_k A log A / log N, with the N keys that the query has; 0 of a single key."""

  def summed(block: Block) -> np.ndarray:
    keys = np.maximum(block.visible.sum(-1), 2)
    return (entropy(block.shares) / np.log(keys)).sum((0, 2))

  return mean_over_queries(layer, summed)


def entropy(shares: np.ndarray) -> np.ndarray:
  """-sum p log p over the last axis, in nats."""
  return -(shares * np.log(shares, out=np.zeros_like(shares), where=shares > 0)).sum(-1)


def shift_moments(layer: AttentionMap) -> tuple[np.ndarray, np.ndarray]:
  """Centre and covariance of the exact shift under a head's weights, in key cells (pixels: times the stride).

      mu = E sum_k A[q, k] delta,    Sigma = E sum_k A[q, k] (delta - mu) (delta - mu)^T,    delta = key - query,

  the mean E over images and interior queries (see `Shifts`): at a border a head cannot look further.

  Source: the window of quadratic attention, Cordonnier et al. 2020, whose mu is its centre and whose Sigma is
  I / (2 alpha).

  Returns:
    float64 [heads, 2], row and column; float64 [heads, 2, 2].
  """
  stride = shifts(layer).stride

  def summed(block: Block) -> np.ndarray:
    steps = block.pixels / stride
    terms = np.concatenate([steps, (steps[..., :, None] * steps[..., None, :]).reshape(*steps.shape[:-1], 4)], -1)
    return np.tensordot(block.shares.sum(0), terms, 2)

  moments = mean_over_queries(layer, summed, interior=True)
  centre = moments[:, :2]
  covariance = moments[:, 2:].reshape(-1, 2, 2) - centre[:, :, None] * centre[:, None, :]
  return centre, covariance


def degenerate(covariance: np.ndarray, key_grid: Grid) -> np.ndarray:
  """bool [heads]: whether a head's window is none: flat beyond any image, or a line.

  That is, the largest eigenvalue of Sigma^-1 is below 1e-5, or its condition number is above 1e3. Here `SHARPEST` is
  added to the eigenvalues for the latter: a head that looks at one cell is a sharp window and no line. In a grid
  of one row or column all is a line, and nothing is said.

  Source: Cordonnier et al. 2020, which heads their code prunes.
  """
  covariance = np.asarray(covariance, np.float64)
  variances = np.linalg.eigvalsh(np.where(np.isfinite(covariance), covariance, 0.0)).clip(0)
  flat = variances.min(-1) > 1e5
  line = variances.max(-1) + SHARPEST > 1e3 * (variances.min(-1) + SHARPEST)
  return flat | (line & (min(key_grid.height, key_grid.width) > 1))


def local_mass(layer: AttentionMap) -> np.ndarray:
  """float64 [heads]: the share of the weights on the 3x3 cells around the query's own, over images and all queries."""

  def summed(block: Block) -> np.ndarray:
    return np.tensordot(block.shares.sum(0), (np.abs(block.steps).max(-1) <= 1) & block.visible, 2)

  return mean_over_queries(layer, summed)


def prefix_mass(layer: AttentionMap) -> np.ndarray:
  """float64 [heads]: the share of an image cell's weights that is on prefix tokens, which all else leaves out."""

  def summed(block: Block) -> np.ndarray:
    whole = np.abs(block.weights).sum(-1) + block.prefix
    return np.divide(block.prefix, whole, out=np.zeros_like(whole), where=block.looking).sum((0, 2))

  return mean_over_queries(layer, summed)
