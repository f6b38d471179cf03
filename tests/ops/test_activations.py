"""GELU against the closed form, number by number."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.ops import gelu

POINTS = np.concatenate([np.linspace(-9, 9, 361), [1e-300, -1e-300, 1e-8, -1e-8, 0.0]])
density = np.vectorize(lambda x: math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi))
# By erfc: precise for x << 0 too.
distribution = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)))


def value(x):
  return x * distribution(x)


def first_derivative(x):
  return distribution(x) + x * density(x)


def second_derivative(x):
  return (2 - x * x) * density(x)


def elementwise(function):
  return jax.vmap(function)


@pytest.mark.parametrize(
  "derivative, expected",
  [(gelu, value), (jax.grad(gelu), first_derivative), (jax.grad(jax.grad(gelu)), second_derivative)],
)
def test_value_and_derivatives_equal_the_closed_form(derivative, expected):
  with jax.enable_x64(True):
    found = jax.jit(elementwise(derivative))(jnp.asarray(POINTS))
    assert found.dtype == jnp.float64
    assert np.all(np.abs(found - expected(POINTS)) <= 1e-15 * np.maximum(1, np.abs(POINTS)))


def test_it_is_not_the_approximation_by_tanh():
  with jax.enable_x64(True):
    x = jnp.asarray(POINTS)
    assert np.abs(jax.nn.gelu(x, approximate=True) - value(POINTS)).max() > 1e-4


def test_float32_is_a_rounding_of_x_away():
  x = np.float32(POINTS)
  error = np.abs(np.float64(gelu(jnp.asarray(x))) - value(np.float64(x)))
  assert np.all(error <= 2**-23 * np.maximum(1, np.abs(x)))
  slope = jax.jit(elementwise(jax.grad(gelu)))(jnp.asarray(x))
  assert np.abs(np.float64(slope) - first_derivative(np.float64(x))).max() <= 2**-22


def test_bfloat16_is_float32_rounded():
  x = jnp.asarray(POINTS, jnp.bfloat16)
  for function in (gelu, jax.jit(elementwise(jax.grad(gelu)))):
    found = function(x)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, function(x.astype(jnp.float32)).astype(jnp.bfloat16))


def test_far_from_zero():
  """The identity on one side, 0 on the other, with slopes 1 and 0 and no curvature; at infinity as jax.nn.gelu."""
  x = jnp.asarray([0, -0.0, 1e3, -1e3, 1e15, -1e15, 3e38, -3e38], jnp.float32)
  found, slope = (jax.jit(elementwise(f))(x) for f in (gelu, jax.grad(gelu)))
  np.testing.assert_array_equal(found, np.where(x > 0, x, 0))
  np.testing.assert_array_equal(slope, [0.5, 0.5, 1, 0, 1, 0, 1, 0])
  # Above the root of the largest number the square in the density overflows.
  np.testing.assert_array_equal(jax.jit(elementwise(jax.grad(jax.grad(gelu))))(x[2:6]), np.zeros(4))
  infinite = jnp.asarray([np.inf, -np.inf], jnp.float32)
  np.testing.assert_array_equal(gelu(infinite), jax.nn.gelu(infinite, approximate=False))


def test_a_cpu_computes_the_distribution_again_for_the_gradient():
  """Two error functions in the program of value and gradient: one would be an array to keep for the backward pass."""
  step = jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(gelu(x)))))
  assert step.lower(jnp.ones((5, 3))).compile().as_text().count(" erf(") == 2

  def simple(x):
    return 0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5)))

  theirs = jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(simple(x)))))
  assert theirs.lower(jnp.ones((5, 3))).compile().as_text().count(" erf(") == 1
