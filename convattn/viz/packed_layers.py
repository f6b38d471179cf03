"""Layers as a page holds them: what follows from the rest is left out, and computed there."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convattn.analysis.attention_map import AttentionMap, Grid
from convattn.analysis.convolutions import ConvolutionKernel
from convattn.analysis.head_report import HeadReport
from convattn.viz.packing import Blob, pack, pack_as

LOGITS, WEIGHTS = 4e-4, 1e-4
"""How far what comes back of logits and of weights may be from what was packed."""
KERNELS = 24
"""Kernels of a convolution that a page has."""
METRICS = (
  "distance", "entropy", "peak", "peak_shift", "consistency", "local_mass", "content_dependence",
  "centre", "covariance",
)  # fmt: skip
"""Of a head that a page has; page/metrics.js says what they mean."""
_SAME = 2e-5
"""Up to this difference an array follows from others."""


def packed_grid(grid: Grid) -> dict[str, Any]:
  """A grid as JSON."""
  return {
    "height": grid.height,
    "width": grid.width,
    "stride": [float(each) for each in grid.stride],
    "origin": [float(each) for each in grid.origin],
    "image": list(grid.image) if grid.image is not None else None,
  }


def packed_layer(attention: AttentionMap, heads: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
  """A layer that attends, as JSON.

  Its "modes" lists what the page shows, its "arrays" what is stored, [images, heads, q, k] each: logits that are
  content + position are not, nor probabilities that are the softmax of the logits. "norms" are lengths of values,
  [images, heads, k], in the place of norm_weighted = probabilities * norms. A position that is the same for all images
  is stored for one.

  Args:
    heads: metrics of each head, plain numbers.
  """
  return {
    "kind": "attention",
    "name": attention.layer,
    "num_heads": attention.num_heads,
    "num_images": attention.num_images,
    "query_grid": packed_grid(attention.query_grid),
    "key_grid": packed_grid(attention.key_grid),
    "key_cells": pack_as(attention.key_cells, "int32") if attention.key_cells is not None else None,
    "prefix_tokens": attention.prefix_tokens,
    "modes": list(attention.modes),
    "arrays": _arrays(attention),
    "heads": [dict(each) for each in heads],
  }


def metrics_of_heads(report: HeadReport) -> list[dict[str, Any]]:
  """What the page shows of each head of a layer: fields of its `HeadReport`, by their names there."""
  return [{name: getattr(report, name)[head] for name in METRICS} for head in range(report.num_heads)]


def packed_convolution(convolution: ConvolutionKernel) -> dict[str, Any]:
  """A convolution as JSON.

  "taps" [kh, kw] are norms over the channels. "kernels" [n, kh, kw] are the KERNELS largest ones of a single input and
  output channel, with "kernel_names". What an output reads is "rows" [grid.height, kh] and "columns" [grid.width, kw]
  of the input grid, -1: padding.

  Raises:
    ValueError: rows of what it reads depend on the columns.
  """
  kernel = np.asarray(convolution.kernel, np.float32)
  high, wide, _, channels = kernel.shape
  single = kernel.transpose(2, 3, 0, 1).reshape(-1, high, wide)
  largest = np.argsort(-np.square(single).sum((1, 2)), kind="stable")[:KERNELS]
  pairs = [divmod(int(each), channels) for each in largest]
  rows, columns = _read(convolution)
  return {
    "kind": "convolution",
    "name": convolution.layer,
    "kernel_size": [high, wide],
    "stride": [
      round(out / given, 6)
      for out, given in zip(convolution.query_grid.stride, convolution.key_grid.stride, strict=True)
    ],
    "grid": packed_grid(convolution.query_grid),
    "input_grid": packed_grid(convolution.key_grid),
    "rows": pack_as(rows, "int32"),
    "columns": pack_as(columns, "int32"),
    "depthwise": convolution.depthwise,
    "channels": channels,
    "taps": pack(convolution.tap_norms, WEIGHTS),
    "kernels": pack(single[largest], WEIGHTS),
    "kernel_names": [
      f"channel {out}" if convolution.depthwise else f"channel {given} to {out}" for given, out in pairs
    ],
  }


def _read(convolution: ConvolutionKernel) -> tuple[np.ndarray, np.ndarray]:
  """Rows [outputs down, kh] and columns [outputs across, kw] of the input cells that outputs read; -1: padding."""
  grid, width = convolution.query_grid, convolution.key_grid.width
  cells = convolution.key_cells.reshape(grid.height, grid.width, *convolution.kernel.shape[:2])
  rows = np.where(cells < 0, -1, cells // width).max((1, 3))
  columns = np.where(cells < 0, -1, cells % width).max((0, 2))
  row, column = rows[:, None, :, None], columns[None, :, None, :]
  if not np.array_equal(np.where((row < 0) | (column < 0), -1, row * width + column), cells):
    raise ValueError(f"{convolution.layer} reads rows that depend on the column; a page has room for rows by columns.")
  return rows, columns


def plain(metrics: Mapping[str, Any]) -> dict[str, Any]:
  """Numbers and lists of numbers as JSON has them; what is not finite is None."""
  return {name: _plain(np.asarray(value, np.float64)) for name, value in metrics.items()}


def _plain(value: np.ndarray) -> Any:
  if value.ndim:
    return [_plain(each) for each in value]
  return float(f"{value:.6g}") if np.isfinite(value) else None


def _arrays(attention: AttentionMap) -> dict[str, Blob]:
  content, position, logits = attention.content, attention.position, attention.logits
  arrays = {}
  if content is not None:
    arrays["content"] = pack(content, LOGITS)
  if position is not None:
    same = all(np.array_equal(position[0], each, equal_nan=True) for each in position[1:])
    arrays["position"] = pack(position[:1] if same else position, LOGITS)
  if logits is not None and not _follow(logits, *(each for each in (content, position) if each is not None)):
    arrays["logits"] = pack(logits, LOGITS)
  if logits is None or not _close(softmax(logits), attention.probabilities):
    arrays["probabilities"] = pack(attention.probabilities, WEIGHTS)
  if attention.norm_weighted is not None:
    norms = _norms(attention.probabilities, attention.norm_weighted)
    if norms is not None:
      arrays["norms"] = pack(norms, WEIGHTS)
    else:
      arrays["norm_weighted"] = pack(attention.norm_weighted, WEIGHTS)
  return arrays


def softmax(logits: np.ndarray) -> np.ndarray:
  """exp(z) / sum exp(z) over the last axis, in the dtype of z; 0 where z is -inf, and all of a row of those."""
  highest = logits.max(-1, keepdims=True)
  weights = np.exp(logits - np.where(np.isfinite(highest), highest, 0))
  total = weights.sum(-1, keepdims=True)
  return weights / np.where(total == 0, 1, total)


def _norms(probabilities: np.ndarray, norm_weighted: np.ndarray) -> np.ndarray | None:
  """Lengths [b, heads, k] that norm_weighted / probabilities is, read where a key has most weight; None: no such."""
  most = probabilities.argmax(-2)[..., None, :]
  weights, products = (np.take_along_axis(each, most, -2) for each in (probabilities, norm_weighted))
  norms = np.where(weights > 0, products / np.where(weights > 0, weights, 1), 0)
  return norms[..., 0, :] if _close(probabilities * norms, norm_weighted) else None


def _follow(total: np.ndarray, *parts: np.ndarray) -> bool:
  return bool(parts) and _close(total, sum(parts[1:], parts[0]))


def _close(one: np.ndarray, other: np.ndarray) -> bool:
  with np.errstate(invalid="ignore"):  # inf - inf, where both agree
    return one.shape == other.shape and bool(np.all((one == other) | (np.abs(one - other) <= _SAME)))
