"""`jax.default_matmul_precision` reaches the products of tangents, which are lowered when it has ended."""

import jax
import jax.numpy as jnp
import pytest

from convattn import ops
from convattn.ops.gradients import matmul_precision


def test_matmul_precision_is_that_of_the_context():
  assert matmul_precision() is None
  with jax.default_matmul_precision("highest"):
    assert matmul_precision() == "highest"
    with jax.default_matmul_precision("bfloat16"):
      assert matmul_precision() == "bfloat16"
  assert matmul_precision() is None


@pytest.mark.parametrize("convolution, channels", [(ops.conv, 3), (ops.depthwise_conv, 1)])
def test_the_precision_at_tracing_is_that_of_the_program(convolution, channels):
  x = jnp.ones((2, 5, 4, 3))
  kernel = jnp.ones((3, 3, channels, 3))
  forward = lambda x, k: jax.jvp(convolution, (x, k), (x, k))  # noqa: E731
  backward = jax.value_and_grad(lambda x, k: jnp.sum(convolution(x, k) ** 2), (0, 1))

  def highest(traced):
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    return text.count("stablehlo.convolution"), text.count("precision HIGHEST")

  for function in (forward, backward):
    assert highest(jax.jit(function).trace(x, kernel)) == (3, 0)
    with jax.default_matmul_precision("highest"):
      traced = jax.jit(function).trace(x, kernel)
      assert highest(traced) == (3, 6)  # of both operands
    assert highest(traced) == (3, 6)  # lowered when the context has ended
