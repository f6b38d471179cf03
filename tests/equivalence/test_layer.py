"""The layers that constructions give back, on their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_lax import apply, convolution, difference, draw, with_alpha

from convattn import ops
from convattn.equivalence import MODES, PADDINGS, QuadraticAttention, conv_to_attention


def test_quadratic_heads_on_the_bare_image_are_the_quadratic_table():
  layer = QuadraticAttention(3, 2, (3, 3), padding="EDGE")
  x = draw(1, 4, 5, 2)
  params = jax.jit(layer.init)(jax.random.key(0), x)["params"] | {"alpha": jnp.array([0.3, 1.0, 4.0])}

  @jax.jit
  def both(params):
    (weights,) = layer.apply({"params": params}, x, mutable=["intermediates"])[1]["intermediates"]["attention"]
    return weights[0], jax.nn.softmax(ops.relative_bias(ops.quadratic_table(params["shifts"], params["alpha"], (4, 5))))

  np.testing.assert_allclose(*both(params), atol=1e-6)


def rounded(*arrays):
  """To bfloat16, and what that is in float32."""
  low = [each.astype(jnp.bfloat16) for each in arrays]
  return low, [each.astype(jnp.float32) for each in low]


@pytest.mark.parametrize("mode", MODES)
def test_a_kernel_in_bfloat16_is_as_exact_as_its_convolution(mode):
  kernel = jnp.einsum("tr,ro->to", draw(6, 2), draw(2, 12)).reshape(3, 2, 3, 4)
  (kernel, bias, x), exact = rounded(kernel, draw(4), draw(2, 5, 4, 3))
  layer, variables = conv_to_attention(kernel, bias, padding="SAME", **with_alpha(mode, np.float32))
  dtypes = {name: each.dtype for name, each in variables["params"].items()}
  position = {"quadratic": {"shifts", "alpha"}}.get(mode, {"table"})
  assert dtypes == {"value": "bfloat16", "bias": "bfloat16"} | dict.fromkeys(position, "float32")
  drawn = jax.eval_shape(layer.init, jax.random.key(0), x)
  assert {name: each.dtype for name, each in drawn["params"].items()} == dtypes
  found = apply(layer, variables, x)
  assert found.dtype == jnp.bfloat16
  # A rounding of 2^-8 at the end; rank's values, which are sums of taps, are rounded once more.
  tolerance = 2**-7 if mode == "rank" else 2**-8
  assert difference(found.astype(jnp.float32), convolution(exact[2], *exact[:2], padding="SAME")) < tolerance


def test_shifts_that_bfloat16_has_not_are_kept():
  (kernel, x), exact = rounded(draw(7, 2, 3), draw(1, 320, 2))
  layer, variables = conv_to_attention(kernel, padding="EDGE", dilation=101, mode="quadratic", alpha=18.3)
  np.testing.assert_array_equal(variables["params"]["shifts"][:, 0], np.arange(-303, 304, 101))
  expected = convolution(exact[1], exact[0], padding="EDGE", dilation=101)
  assert difference(apply(layer, variables, x).astype(jnp.float32), expected) < 2**-8


@pytest.mark.parametrize("padding", PADDINGS)
def test_a_batch_of_none_has_no_outputs(padding):
  for window, image in (((3, 2), (0, 4, 5, 2)), ((3,), (0, 5, 2))):
    kernel, x = draw(*window, 2, 3), jnp.zeros(image)
    layer, variables = conv_to_attention(kernel, padding=padding, strides=2, mode="table")
    theirs = jax.eval_shape(lambda x, kernel: convolution(x, kernel, padding=padding, strides=2), x, kernel)
    assert jax.eval_shape(layer.apply, variables, x).shape == theirs.shape
  with pytest.raises(ValueError, match=r"x has shape \(1, 0, 2\), but a window \(3,\) needs \[b, l, c\], with pixels"):
    layer.apply(variables, jnp.zeros((1, 0, 2)))


def test_images_come_as_numpy_has_them():
  layer, variables = conv_to_attention(draw(3, 2, 2, 3), padding="SAME", mode="table")
  x = np.arange(2 * 3 * 4 * 2).reshape(2, 3, 4, 2) % 7
  expected = apply(layer, variables, jnp.asarray(x, jnp.float32))
  np.testing.assert_array_equal(layer.apply(variables, x.astype(np.float64)), expected)
  for dtype in (np.float64, np.uint8, np.int64, np.float16):
    assert jax.eval_shape(lambda: layer.apply(variables, x.astype(dtype))).dtype == jnp.float32  # noqa: B023
