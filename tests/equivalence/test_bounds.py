"""The error of finite alpha stays within its bound, and reaches it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_lax import apply, convolution, draw
from hypothesis import given, settings, strategies as st

from convattn.equivalence import (
  PADDINGS,
  conv_to_attention,
  error_bound,
  off_target_mass,
  patch_conv_to_attention,
  patch_kernel,
  rounding_floor,
  to_patches,
  to_pixels,
)


def error(kernel, x, alpha, **options):
  layer, variables = conv_to_attention(kernel, mode="quadratic", alpha=alpha, **options)
  return float(np.abs(apply(layer, variables, x) - convolution(x, kernel, **options)).max())


@settings(max_examples=8)
@given(
  alpha=st.floats(2, 20),
  window=st.tuples(st.integers(1, 4), st.integers(1, 3)),
  step=st.integers(1, 2),
  padding=st.sampled_from(PADDINGS),
  scale=st.sampled_from([0.01, 1.0, 100.0]),
)
def test_the_bound_holds(alpha, window, step, padding, scale):
  with jax.enable_x64(True):
    kernel, x = draw(*window, 2, 3, dtype=np.float64), scale * draw(2, 9, 8, 2, dtype=np.float64)
    largest = float(np.abs(x).max())
    bound = error_bound(kernel, alpha, largest)
    assert error(kernel, x, alpha, padding=padding, dilation=step) <= bound + rounding_floor(kernel, largest, x.dtype)
    one_axis = error(kernel[0], x[0], alpha, padding=padding, dilation=step)
    bound = error_bound(kernel[0], alpha, largest)
    assert one_axis <= bound + rounding_floor(kernel[0], largest, x.dtype)


@pytest.mark.parametrize("padding", PADDINGS)
def test_alpha_of_one_is_no_convolution_and_stays_within_the_bound(padding):
  kernel, x = draw(3, 3, 5, 4), draw(2, 8, 7, 5)
  found = error(kernel, x, 1.0, padding=padding)
  size = float(np.abs(convolution(x, kernel, padding=padding)).max())
  assert 0.1 * size < found < error_bound(kernel, 1.0, float(np.abs(x).max()))


def worst_share(kernel, alpha, dilation=1):
  """The largest error of any image within 1, as a share of the bound: the layer is linear, so it is a norm."""
  with jax.enable_x64(True):
    kernel = jnp.asarray(kernel, jnp.float64)[..., None, None]
    options = {"padding": "SAME", "dilation": dilation}
    soft, exact = (
      conv_to_attention(kernel, mode=m, alpha=a, **options) for m, a in (("quadratic", alpha), ("table", None))
    )
    x = jnp.zeros((1, 13, 13, 1))
    middle = jax.jit(jax.grad(lambda x: (soft[0].apply(soft[1], x) - exact[0].apply(exact[1], x))[0, 6, 6, 0]))(x)
    found = error(kernel, jnp.sign(middle), alpha, **options)  # of the adversary
    assert found >= np.abs(middle).sum() - 1e-14
    return found / error_bound(kernel, alpha, 1.0)


@pytest.mark.parametrize("alpha", [2.0, 5.0, 12.0])
def test_adversarial_images_reach_the_bound(alpha):
  one_tap, board, ones = np.eye(1, 9, 1).reshape(3, 3), (-1.0) ** np.add.outer(range(3), range(3)), np.ones((3, 3))
  assert worst_share(one_tap, alpha) == pytest.approx(1, abs=1e-6)
  assert worst_share(ones, alpha, dilation=2) > 0.99
  assert worst_share(board, alpha) > 0.89
  # What one tap takes from its neighbours they take from it: only the corners and sides of the window are left.
  assert 0.33 < worst_share(ones, alpha) < 0.37


def test_too_small_an_alpha_is_beyond_the_bound_of_a_larger_one():
  kernel = np.eye(1, 9, 1).reshape(3, 3, 1, 1).astype(np.float32)
  image = -jnp.ones((1, 9, 9, 1)).at[:, 4, 4].set(-1)
  floor = rounding_floor(kernel, 1.0)
  assert error(kernel, image, 5.0, padding="SAME") < error_bound(kernel, 5.0, 1.0) + floor
  assert error(kernel, image, 4.0, padding="SAME") > 2 * error_bound(kernel, 5.0, 1.0)


def test_the_error_falls_as_exp_of_minus_alpha():
  with jax.enable_x64(True):
    kernel, x = draw(3, 3, 2, 2, dtype=np.float64), draw(1, 7, 7, 2, dtype=np.float64)
    errors = [math.log(error(kernel, x, alpha, padding="SAME")) for alpha in (5.0, 10.0, 15.0)]
    np.testing.assert_allclose(np.diff(errors) / 5, -1, atol=0.05)
    bounds = [math.log(error_bound(kernel, alpha, 1.0)) for alpha in (5.0, 10.0, 15.0)]
    np.testing.assert_allclose(np.diff(bounds) / 5, -1, atol=0.05)


def test_the_mass_beside_the_target_is_the_sum():
  grid = np.add.outer(np.arange(-200, 201) ** 2, np.arange(-200, 201) ** 2)
  for alpha in (0.01, 0.3, 0.999, 1.0, 2.5, 18.0):
    weights = np.exp(-alpha * grid)
    beside = weights.sum() - 1
    assert off_target_mass(alpha) == pytest.approx(beside / (1 + beside), rel=1e-9)
    assert off_target_mass(alpha, 1) == pytest.approx(1 - 1 / np.exp(-alpha * grid[200]).sum(), rel=1e-7)
  assert off_target_mass(46.0) == pytest.approx(4 * math.exp(-46), rel=1e-9)  # far below eps of 1
  assert off_target_mass(1e-9) == pytest.approx(1, abs=1e-8)


def test_the_bound_holds_over_patches():
  with jax.enable_x64(True):
    kernel, x = draw(3, 3, 2, 2, dtype=np.float64), draw(1, 6, 8, 2, dtype=np.float64)
    layer, variables = patch_conv_to_attention(kernel, patch=2, padding="SAME", mode="quadratic", alpha=4.0)
    found = jax.jit(lambda x: to_pixels(layer.apply(variables, to_patches(x, 2)), 2))(x)
    apart = np.abs(found - convolution(x, kernel, padding="SAME")).max()
    assert 1e-3 < apart < error_bound(patch_kernel(kernel, 2), 4.0, float(np.abs(x).max()))


@pytest.mark.parametrize(
  "arguments, message",
  [
    ((np.ones((3, 3)), 5.0, 1.0), r"kernel has shape \(3, 3\), but must be \[k, c, o\] or"),
    ((np.ones((3, 3, 1, 1)), 0.0, 1.0), "alpha is 0.0, but must be positive and finite"),
    ((np.ones((3, 3, 1, 1)), 5.0, -1.0), "max_abs is -1.0, but must be a finite number, not negative"),
    ((np.ones((3, 3, 1, 1)), 5.0, float("nan")), "max_abs is nan"),
  ],
)
def test_bounds_of_nothing_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    error_bound(*arguments)
