"""Relative positions on a grid. A shift is always delta = key - query."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from convattn.ops.shapes import check_shapes


def relative_offsets(height: int, width: int) -> np.ndarray:
  """The (row, column) shift from query to key, moved to start at zero: integers [q, k, 2], q = k = height * width.

  offsets[q, k] = (row_k - row_q + height - 1, column_k - column_q + width - 1); tokens are numbered row by row.
  """
  row, column = np.divmod(np.arange(height * width), width)
  return np.stack([row[None] - row[:, None] + height - 1, column[None] - column[:, None] + width - 1], axis=-1)


def table_grid(table: jax.Array) -> tuple[int, int]:
  """(h, w), the grid that a bias table [n, 2h-1, 2w-1] belongs to. Raises AssertionError for an even table."""
  _, rows, columns = table.shape
  if rows % 2 == 0 or columns % 2 == 0:
    raise AssertionError(
      f"argument 'table' has shape {table.shape}, but must be [n, 2h-1, 2w-1]: odd rows and columns."
    )
  return (rows + 1) // 2, (columns + 1) // 2


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
  rows = jnp.broadcast_to(padded[..., None, :], (*lead, s, 2 * s)).reshape(*lead, 2 * s * s)
  return rows[..., : s * (2 * s - 1)].reshape(*lead, s, 2 * s - 1)[..., s - 1 :]


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


def relative_bias_gather(table: jax.Array) -> jax.Array:
  """The same as `relative_bias` by indexing: the reference. Its gradient is a scatter: a GPU may sum in any order."""
  check_shapes(table=(table, "n u v"))
  offsets = relative_offsets(*table_grid(table))
  return table[:, offsets[..., 0], offsets[..., 1]]
