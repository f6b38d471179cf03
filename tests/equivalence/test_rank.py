"""How many heads a kernel needs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_lax import apply, convolution, difference, draw
from hypothesis import given, settings, strategies as st

from convattn.equivalence import conv_to_attention, fewer_heads_residual, fewest_heads, tap_rank
from convattn.equivalence.rank import nonnegative_heads
from convattn.layers import RelativeAttention


def of_rank(rank, taps=9, width=12, seed=0, dtype=np.float64):
  random = np.random.default_rng(seed)
  return (random.standard_normal((taps, rank)) @ random.standard_normal((rank, width))).astype(dtype)


@settings(max_examples=40)
@given(rank=st.integers(0, 9), taps=st.sampled_from([9, 10, 25]), seed=st.integers(0, 99), single=st.booleans())
def test_heads_are_the_rank_or_one_more(rank, taps, seed, single):
  matrix = of_rank(rank, taps, seed=seed, dtype=np.float32 if single else np.float64)
  weights, matrices = nonnegative_heads(matrix)
  assert tap_rank(matrix[:, None]) == rank
  assert max(rank, 1) <= len(weights) <= rank + 1
  assert len(weights) >= fewest_heads(matrix[:, None]) == max(rank, 1)
  assert (weights >= 0).all()
  np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-12)
  scale = np.abs(matrix).max(initial=1e-9)
  np.testing.assert_allclose(weights.T @ matrices, matrix, atol=scale * (1e-5 if single else 1e-12))


def test_the_numbers_of_well_known_kernels():
  def heads(kernel):
    return conv_to_attention(kernel, padding="SAME", mode="rank")[0].num_heads

  blur, edges = np.outer([1, 2, 1], [1, 2, 1]), np.outer([1, 2, 1], [1, 0, -1])
  assert heads(blur[..., None, None].astype(np.float32)) == 1  # one sign
  assert heads(-blur[..., None, None].astype(np.float32)) == 1
  assert heads(edges[..., None, None].astype(np.float32)) == 2  # two signs: never more for one filter on one channel
  assert heads(draw(7, 7, 1, 1)) == 2
  assert heads(np.zeros((3, 3, 2, 2), np.float32)) == 1
  assert heads(draw(3, 3, 5, 4)) == 9  # full: one for each tap
  assert heads(draw(3, 3, 1, 4)) == 5  # depthwise on four channels
  assert heads(np.tile(draw(3, 3, 1, 1), (1, 1, 6, 6))) == 2  # channels that share their filter


def test_a_kernel_of_low_rank_by_few_heads_equals_the_convolution():
  with jax.enable_x64(True):
    for rank, heads in ((1, 2), (4, 5)):
      kernel = jnp.asarray(of_rank(rank, 25)).reshape(5, 5, 3, 4)
      layer, variables = conv_to_attention(kernel, padding="EDGE", mode="rank")
      assert layer.num_heads == heads
      x = draw(1, 6, 7, 3, dtype=np.float64)
      assert difference(apply(layer, variables, x), convolution(x, kernel, padding="EDGE")) < 1e-12


def best_residual(weights, matrix):
  """Of heads with these weights [n, taps]: the least squares choice of their matrices."""
  rest = matrix - weights.T @ np.linalg.lstsq(weights.T, matrix, rcond=None)[0]
  return np.linalg.norm(rest) / np.linalg.norm(matrix)


@settings(max_examples=40)
@given(rank=st.integers(1, 9), heads=st.integers(1, 9), seed=st.integers(0, 99), sharpness=st.sampled_from([1.0, 8.0]))
def test_fewer_heads_cannot(rank, heads, seed, sharpness):
  matrix = of_rank(rank, seed=seed)
  least = fewer_heads_residual(matrix[:, None], heads)
  assert least > 1e-3 if heads < rank else least < 1e-12
  logits = sharpness * np.random.default_rng(seed + 1).standard_normal((heads, 9))
  weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  assert best_residual(weights, matrix) >= least - 1e-12


def test_one_head_more_reaches_the_least_residual():
  matrix = of_rank(7)
  left, values, right = np.linalg.svd(matrix, full_matrices=False)
  nearest = (left[:, :3] * values[:3]) @ right[:3]
  weights, _ = nonnegative_heads(nearest)
  assert len(weights) == 4
  assert best_residual(weights, matrix) <= fewer_heads_residual(matrix[:, None], 3) + 1e-12
  assert fewer_heads_residual(matrix[:, None], 0) == 1
  assert fewer_heads_residual(np.zeros((3, 2, 2)), 0) == 0
  with pytest.raises(ValueError, match="num_heads is -1"):
    fewer_heads_residual(matrix[:, None], -1)


def jacobian_rank(fn, x):
  """Of the derivative at x as a matrix from (output pixel, input pixel) to (output, input channel)."""
  of_pixels = np.asarray(jax.jit(jax.jacobian(fn))(x))[0, :, :, :, 0]  # [i, j, o, k, l, c]
  matrix = of_pixels.transpose(0, 1, 3, 4, 2, 5).reshape(x[0, ..., 0].size ** 2, -1)
  return np.linalg.matrix_rank(matrix, tol=1e-8 * np.linalg.norm(matrix))


def test_attention_by_content_has_no_more_than_its_heads_either():
  # What the lower bound rests on: near the image 0 a layer is linear, and its rank is that of its heads.
  with jax.enable_x64(True):
    zero = jnp.zeros((1, 3, 4, 4))
    for heads in (1, 2):
      layer = RelativeAttention(num_heads=heads, dtype=jnp.float64, param_dtype=jnp.float64)
      variables = jax.jit(layer.init)(jax.random.key(0), zero)
      table = draw(*variables["params"]["bias_table"].shape, dtype=np.float64)
      variables = {"params": variables["params"] | {"bias_table": table}}
      assert jacobian_rank(lambda x: layer.apply(variables, x), zero) == heads  # noqa: B023
    for rank in (2, 5):
      kernel = jnp.asarray(of_rank(rank, width=16)).reshape(3, 3, 4, 4)
      assert jacobian_rank(lambda x: convolution(x, kernel, padding="SAME"), zero) == rank  # noqa: B023
      assert fewest_heads(kernel) == rank


def test_ranks_of_other_arrays_are_refused():
  with pytest.raises(ValueError, match=r"kernel has shape \(3, 3\)"):
    tap_rank(np.ones((3, 3)))
