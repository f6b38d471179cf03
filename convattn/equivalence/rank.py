"""How many heads a kernel needs: the rank of its taps, and heads that reach it."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from convattn.equivalence.inputs import known_kernel, read_whole


def tap_rank(kernel: Any) -> int:
  """The rank r of the taps: of the matrix [taps, c * o] whose rows are the kernel's matrices, one for each place.

  As numerical ranks are counted: singular values above max(taps, c o) eps of the largest, eps of the kernel's dtype.
  r <= min(taps, c o): 1 for one filter on one channel, up to the number of channels for a depthwise kernel.

  Args:
    kernel: [k, c, o] or [k_h, k_w, c, o].

  Raises:
    TypeError: no array of numbers.
    ValueError: another rank, traced, or not finite.
  """
  return int(np.sum(_singular_values(kernel) > _threshold(kernel)))


def fewest_heads(kernel: Any) -> int:
  """A number of heads that no self-attention layer computing this convolution can stay below: max(r, 1), r the rank.

  It holds for content-dependent attention too. Let out(X) = sum_h A_h(X) X W_h equal the convolution for all X. For
  t X and t -> 0 the weights A_h(t X) tend to A_h(0), so sum_h A_h(0) (x) W_h = sum_t E_t (x) kernel[t] with E_t the
  matrix of the shift by tap t. The E_t are linearly independent on an image as large as the window, so the right side
  has tensor rank r; the left has at most one for each head. `conv_to_attention(mode="rank")` takes r or r + 1.
  """
  return max(tap_rank(kernel), 1)


def fewer_heads_residual(kernel: Any, num_heads: int) -> float:
  """How far any `num_heads` position-only heads over the window stay from the convolution, at least.

      sqrt(sum_{j > num_heads} s_j^2) / sqrt(sum_j s_j^2)         s_j the singular values of the taps

  Their kernel sum_h p_h (x) W_h has rank num_heads at most, and this is the distance to the nearest such (Eckart and
  Young 1936), as a share of the kernel's norm: the root mean square of the difference in the outputs over that of the
  outputs, for white noise. It is reached with one head more, whose table is uniform.
  """
  num_heads = read_whole("num_heads", num_heads, least=0)
  values = _singular_values(kernel)
  norm = np.linalg.norm(values)
  return float(np.linalg.norm(values[num_heads:]) / norm) if norm else 0.0


def nonnegative_heads(taps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(weights [n, t], matrices [n, m]) with weights >= 0, rows that sum to one, and weights' matrices = taps [t, m].

  Of r taps that span the others, each is a basis matrix B_j: taps[t] = sum_j a[t, j] B_j. A head's weights must not be
  negative, so column j is moved up by c_j = max(0, -min_t a[t, j]), and where any is, one head more, uniform over the
  window, takes away what all have too much: n is r or r + 1.
  """
  matrix = np.asarray(taps, np.float64)
  rank = tap_rank(taps[:, None])
  if rank == 0:
    return np.full((1, len(matrix)), 1 / len(matrix)), np.zeros((1, matrix.shape[1]))
  chosen = _spanning_rows(matrix, rank)
  basis = matrix[chosen]
  shares = np.linalg.lstsq(basis.T, matrix.T, rcond=None)[0].T  # [t, r]
  # A share that is negative by rounding alone would cost a head.
  shares[np.abs(shares) <= min(16 * _eps(taps.dtype), 1e-5) * np.abs(shares).max()] = 0
  shares[chosen] = np.eye(rank)
  lift = np.maximum(0, -shares.min(0))
  sums = (shares + lift).sum(0)
  weights, matrices = ((shares + lift) / sums).T, sums[:, None] * basis
  if not lift.any():
    return weights, matrices
  uniform = np.full((1, len(matrix)), 1 / len(matrix))
  return np.concatenate([weights, uniform]), np.concatenate([matrices, -len(matrix) * lift[None] @ basis])


def _spanning_rows(matrix: np.ndarray, rank: int) -> list[int]:
  """Rows that span the others well: each time the one that is furthest from the span of those before."""
  rest, chosen = matrix.copy(), []
  for _ in range(rank):
    chosen.append(int(np.argmax(np.linalg.norm(rest, axis=1))))
    direction = rest[chosen[-1]] / np.linalg.norm(rest[chosen[-1]])
    rest = rest - np.outer(rest @ direction, direction)
  return chosen


def _unfold(kernel: Any) -> np.ndarray:
  kernel = known_kernel(kernel, "the rank of its taps depends on their values")
  return kernel.reshape(-1, kernel.shape[-2] * kernel.shape[-1])


def _singular_values(kernel: Any) -> np.ndarray:
  return np.linalg.svd(_unfold(kernel).astype(np.float64), compute_uv=False)


def _threshold(kernel: Any) -> float:
  matrix = _unfold(kernel)
  return float(max(matrix.shape) * _eps(matrix.dtype) * _singular_values(kernel).max(initial=0))


def _eps(dtype: np.dtype) -> float:
  return float(jnp.finfo(dtype).eps) if jnp.issubdtype(dtype, jnp.floating) else float(np.finfo(np.float64).eps)
