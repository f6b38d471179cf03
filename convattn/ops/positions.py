"""Relative positions on a grid. A shift is always delta = key - query."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from convattn.ops.meshes import on_any_mesh
from convattn.ops.shapes import check_shapes

RESIZE_METHODS = ("bilinear", "timm")


def relative_offsets(height: int, width: int) -> np.ndarray:
  """The (row, column) shift from query to key, moved to start at zero: integers [q, k, 2], q = k = height * width.

  offsets[q, k] = (row_k - row_q + height - 1, column_k - column_q + width - 1); tokens are numbered row by row.
  """
  row, column = np.divmod(np.arange(height * width), width)
  return np.stack([row[None] - row[:, None] + height - 1, column[None] - column[:, None] + width - 1], axis=-1)


def log_shifts(height: int, width: int, dtype: DTypeLike = np.float32) -> np.ndarray:
  """Every shift of a grid on a logarithmic scale: [2h-1, 2w-1, (row, column)] in `dtype`, rounded once.

      log_shifts[i, j] = sign(s) ln(1 + |s|) of s = (i - h + 1, j - w + 1)

  Close shifts keep their distances, far ones move together (Liu et al. 2022, Swin Transformer V2, eq. 4, without its
  normalisation to the grid: the same shift has the same coordinates on every grid).
  """
  rows, columns = np.mgrid[1 - height : height, 1 - width : width]
  shifts = np.stack([rows, columns], axis=-1).astype(np.float64)
  return (np.sign(shifts) * np.log1p(np.abs(shifts))).astype(dtype)


def table_grid(table: jax.Array) -> tuple[int, int]:
  """(h, w), the grid that a bias table [n, 2h-1, 2w-1] belongs to. Raises AssertionError for an even table."""
  _, rows, columns = table.shape
  if rows % 2 == 0 or columns % 2 == 0:
    raise AssertionError(
      f"argument 'table' has shape {table.shape}, but must be [n, 2h-1, 2w-1]: odd rows and columns."
    )
  return (rows + 1) // 2, (columns + 1) // 2


@on_any_mesh
def resize_table(table: jax.Array, grid: tuple[int, int], method: str = "bilinear") -> jax.Array:
  """A bias table for another grid, interpolated linearly along rows and then columns.

      out[n, p, q] = sum_uv R[p, u] C[q, v] table[n, u, v]

  "bilinear" (Dai et al. 2021, appendix A.1) samples at half-pixel centres without antialiasing, as Google's code family
  does; the paper does not state the convention. "timm" keeps the shift 0 in place and lets the trained shifts spread
  out from it, each step q times the one before, q such that the outermost trained shift lands on the outermost new one,
  but at least 1.01 and at most 1.5; beyond the trained shifts their outermost value holds. It is what timm does to a
  checkpoint of another size (as BEiT, Bao et al. 2022, but interpolated linearly); a smaller grid keeps its near shifts
  almost as they were.

  Args:
    table: [n, 2h-1, 2w-1], one table per head.
    grid: (h', w'), rows and columns of the new grid.
    method: one of RESIZE_METHODS.

  Returns:
    [n, 2h'-1, 2w'-1], same dtype, computed in promote_types(dtype, float32); the table itself where it fits already.

  Raises:
    AssertionError: not of rank 3, or an even number of rows or columns.
    ValueError: an unknown method, or a grid that is not two positive integers.
  """
  check_shapes(table=(table, "n u v"))
  table_grid(table)
  if method not in RESIZE_METHODS:
    raise ValueError(f"method is {method!r}, but must be one of {', '.join(map(repr, RESIZE_METHODS))}.")
  if len(grid) != 2 or not all(isinstance(size, (int, np.integer)) and size > 0 for size in grid):
    raise ValueError(f"grid is {grid!r}, but must be (height, width), two positive integers.")
  old, new = table.shape[1:], tuple(2 * int(size) - 1 for size in grid)
  if old == new:
    return table
  weights = {"bilinear": _half_pixel_weights, "timm": _geometric_weights}[method]
  dtype = jnp.promote_types(table.dtype, jnp.float32)
  rows, columns = (jnp.asarray(weights(*sizes), dtype) for sizes in zip(old, new, strict=True))
  out = jnp.einsum("pu,nuv->npv", rows, table.astype(dtype), precision="highest")
  return jnp.einsum("qv,npv->npq", columns, out, precision="highest").astype(table.dtype)


def _half_pixel_weights(old: int, new: int) -> np.ndarray:
  """[new, old]: sample i reads position (i + 1/2) old / new - 1/2, held inside the table."""
  return _linear_weights(np.arange(old), (np.arange(new) + 0.5) * old / new - 0.5)


def _geometric_weights(old: int, new: int) -> np.ndarray:
  """[new, old]: the old shift of k steps lies at +-(1 + q + ... + q^(k-1)), the new ones at the integers."""
  low, high = 1.01, 1.5
  for _ in range(19):  # to 1e-6; timm's interval and last midpoint, for tables that agree to the last digit
    ratio = (low + high) / 2
    reaches = np.sum(ratio ** np.arange(old // 2)) > new // 2
    low, high = (low, ratio) if reaches else (ratio, high)
  outward = np.cumsum(ratio ** np.arange(old // 2))
  return _linear_weights(np.concatenate([-outward[::-1], [0], outward]), np.arange(new) - new // 2)


def _linear_weights(positions: np.ndarray, samples: np.ndarray) -> np.ndarray:
  """[samples, positions]: weights that interpolate linearly between neighbours; the outermost values hold beyond."""
  return np.stack([np.interp(samples, positions, unit) for unit in np.eye(len(positions))], axis=1)


@on_any_mesh
def relative_bias(table: jax.Array) -> jax.Array:
  """Expands a table over relative shifts to a bias over pairs of positions (Dai et al. 2021, appendix A.1).

      bias[n, q, k] = table[n, row_k - row_q + h - 1, column_k - column_q + w - 1]

  The paper indexes by query - key; its tables are ours with both axes flipped.

  Args:
    table: [n, 2h-1, 2w-1], one table per head.

  Returns:
    [n, h*w, h*w], same dtype.

  Raises:
    AssertionError: not of rank 3, or an even number of rows or columns.
  """
  # Pad-and-reshape, along columns and then rows: its gradient is a sum of slices without scatter, and it is exact at
  # every matmul precision, which a one-hot product is not on a GPU or TPU unless it is slowed down. Measured with 12
  # heads at 14x14 (float32, 2 CPU cores), forward and gradient: this 0.7 and 1.1 ms, one-hot 0.6 and 0.6, gather 0.2
  # and 0.4; the attention around it takes 5.5 and 37 for 8 images.
  check_shapes(table=(table, "n u v"))
  n = table.shape[0]
  h, w = table_grid(table)
  bias = _toeplitz(table)  # [n, u, wq, wk]
  bias = _toeplitz(jnp.moveaxis(bias, 1, -1))  # [n, wq, wk, hq, hk]
  return jnp.transpose(bias, (0, 3, 1, 4, 2)).reshape(n, h * w, h * w)


def _toeplitz(shifts: jax.Array) -> jax.Array:
  """[..., 2s-1] -> [..., s, s] with result[q, k] = shifts[k - q + s - 1].

  Rows of period 2s read with stride 2s - 1 move back by one each row.
  """
  *lead, length = shifts.shape
  s = (length + 1) // 2
  padded = jnp.pad(shifts, [(0, 0)] * len(lead) + [(0, 1)])
  return _read_skewed(jnp.broadcast_to(padded[..., None, :], (*lead, s, 2 * s)))


def _read_skewed(rows: jax.Array) -> jax.Array:
  """[..., s, 2s] -> [..., s, s] with result[q, k] = rows[q, k - q + s - 1]."""
  *lead, s, _ = rows.shape
  flat = rows.reshape(*lead, 2 * s * s)
  return flat[..., : s * (2 * s - 1)].reshape(*lead, s, 2 * s - 1)[..., s - 1 :]


@on_any_mesh
def skew(shifts: jax.Array) -> jax.Array:
  """From shifts to keys: x [..., s, 2s-1] to out[..., q, k] = x[..., q, k - q + s - 1], [..., s, s].

  No gather: rows of period 2s read with stride 2s - 1 (Huang et al. 2019, Music Transformer; Bello et al. 2019).
  """
  sizes = check_shapes(shifts=(shifts, "... s r"))
  check_shapes(shifts=(shifts, f"... {sizes['s']} {2 * sizes['s'] - 1}"))
  return _read_skewed(jnp.pad(shifts, [(0, 0)] * (shifts.ndim - 1) + [(0, 1)]))


@on_any_mesh
def unskew(pairs: jax.Array) -> jax.Array:
  """From keys to shifts: x [..., s, s] to out[..., q, k - q + s - 1] = x[..., q, k], [..., s, 2s-1], else zero.

  The transpose of `skew`, and its inverse on shifts that stay among the keys.
  """
  s = check_shapes(pairs=(pairs, "... s r"))["s"]
  check_shapes(pairs=(pairs, f"... {s} {s}"))
  lead = pairs.shape[:-2]
  none = [(0, 0)] * len(lead)
  flat = jnp.pad(pairs, [*none, (0, 0), (s - 1, 0)]).reshape(*lead, s * (2 * s - 1))
  return jnp.pad(flat, [*none, (0, s)]).reshape(*lead, s, 2 * s)[..., :-1]


@on_any_mesh
def relative_bias_one_hot(table: jax.Array) -> jax.Array:
  """The same as `relative_bias` by two products with one-hot arrays, O(hw(h+w)): the paper's form for TPUs (A.1)."""
  check_shapes(table=(table, "n u v"))
  n = table.shape[0]
  h, w = table_grid(table)
  one_hot = functools.partial(jax.nn.one_hot, dtype=table.dtype)
  rows = np.arange(h)[None] - np.arange(h)[:, None] + h - 1  # [hq, hk]
  columns = np.arange(w)[None] - np.arange(w)[:, None] + w - 1
  bias = jnp.einsum(
    "nuv,qku,xyv->nqxky", table, one_hot(rows, 2 * h - 1), one_hot(columns, 2 * w - 1), precision="highest"
  )
  return bias.reshape(n, h * w, h * w)


@on_any_mesh
def relative_bias_gather(table: jax.Array) -> jax.Array:
  """The same as `relative_bias` by indexing: the reference. Its gradient is a scatter: a GPU may sum in any order."""
  check_shapes(table=(table, "n u v"))
  offsets = relative_offsets(*table_grid(table))
  return table[:, offsets[..., 0], offsets[..., 1]]
