import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import ops
from convattn.ops.windows import window_padding

KINDS = [(2, 2), (3, 2), (3, 3), (4, 4), (3, 1), (2, 1)]


def image(height=5, width=7):
  x = np.random.default_rng(0).permutation(2 * height * width * 3).reshape(2, height, width, 3)
  return jnp.asarray(x - 100, jnp.float32)  # all values differ, most are negative: padding with zeros would win


def windows(x, window, stride):
  """Yields ((p, q), the true pixels of that window [b, n, c])."""
  _, h, w, _ = x.shape
  before = (window - 1) // 2 if window % 2 else 0
  for p, q in np.ndindex(-(-h // stride), -(-w // stride)):
    top, left = p * stride - before, q * stride - before
    part = x[:, max(top, 0) : max(top + window, 0), max(left, 0) : max(left + window, 0)]
    yield (p, q), np.asarray(part).reshape(2, -1, 3)


@pytest.mark.parametrize("pool, reduce", [(ops.max_pool, np.max), (ops.avg_pool, np.mean)])
@pytest.mark.parametrize("window, stride", KINDS)
def test_reduces_the_true_pixels_of_each_window(pool, reduce, window, stride):
  x = image()
  out = jax.jit(functools.partial(pool, window=window, stride=stride))(x)
  assert out.shape == (2, -(-5 // stride), -(-7 // stride), 3)
  for (p, q), pixels in windows(x, window, stride):
    np.testing.assert_allclose(out[:, p, q], reduce(pixels, axis=1), rtol=1e-6)


def test_the_gradient_goes_to_the_largest_pixel():
  x = image()
  gradient = jax.grad(lambda x: ops.max_pool(x, window=2, stride=2).sum())(x)
  expected = np.zeros(x.shape)
  for (p, q), pixels in windows(x, 2, 2):
    mask = np.asarray(x[:, 2 * p : 2 * p + 2, 2 * q : 2 * q + 2]) == pixels.max(1)[:, None, None]
    expected[:, 2 * p : 2 * p + 2, 2 * q : 2 * q + 2] = mask
  np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("pool", [ops.max_pool, ops.avg_pool])
def test_the_gradient_holds_no_scatter(pool):
  gradient = jax.jit(jax.grad(lambda x: jnp.sum(pool(x, window=3, stride=2) ** 2)))
  text = gradient.lower(image()).as_text()
  assert "scatter" not in text
  assert "scatter" in jax.jit(jax.grad(library_max_pool)).lower(image()).as_text()  # the check can see one


def library_max_pool(x):
  return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME").sum()


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("window, stride", KINDS)
def test_padding_gives_one_window_per_stride(size, window, stride):
  before, after = window_padding(size, window, stride)
  assert (size + before + after - window) // stride + 1 == -(-size // stride)
  assert before == ((window - 1) // 2 if window % 2 else 0)


def test_average_of_bfloat16_is_summed_in_float32():
  x = jnp.full((1, 4, 4, 1), 1.0, jnp.bfloat16).at[0, 0, 0, 0].set(256)
  # 256 + 15 ones: a sum in bfloat16 would stay at 256 (its spacing there is 2).
  pooled = jax.jit(functools.partial(ops.avg_pool, window=4, stride=4))(x)
  np.testing.assert_allclose(np.asarray(pooled, np.float32), 271 / 16, rtol=2**-8)
