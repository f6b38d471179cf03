import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import ops

LOWERINGS = [ops.depthwise_conv, ops.depthwise_conv_shifted, ops.depthwise_conv_grouped]
B, C = 2, 3


def image_and_kernel(height=5, width=6, size=3, dtype=np.float32):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.standard_normal((B, height, width, C)), dtype)
  return x, jnp.asarray(rng.standard_normal((size, size, 1, C)), dtype)


def reference(x, kernel, stride):
  """The equation, pixel by pixel: odd kernels are centred, even ones start at the pixel."""
  x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
  _, h, w, c = x.shape
  size = kernel.shape[0]
  before = (size - 1) // 2 if size % 2 else 0
  out = np.zeros((B, -(-h // stride), -(-w // stride), c))
  for p, q, i, j in np.ndindex(*out.shape[1:3], size, size):
    row, column = p * stride + i - before, q * stride + j - before
    if 0 <= row < h and 0 <= column < w:
      out[:, p, q] += x[:, row, column] * kernel[i, j, 0]
  return out


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("stride, size", [(1, 3), (2, 3), (3, 5), (2, 2), (4, 4), (1, 1)])
def test_depthwise_equals_the_equation(lowering, stride, size):
  x, kernel = image_and_kernel(size=size)
  np.testing.assert_allclose(lowering(x, kernel, stride=stride), reference(x, kernel, stride), atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_lowerings_have_equal_gradients(stride):
  with jax.enable_x64(True):
    x, kernel = image_and_kernel(dtype=np.float64)
    out = ops.depthwise_conv_grouped(x, kernel, stride=stride)
    cotangent = jnp.asarray(np.random.default_rng(1).standard_normal(out.shape))
    of = [jax.vjp(lambda x, k, f=f: f(x, k, stride=stride), x, kernel)[1](cotangent) for f in LOWERINGS]
    for ours in of[:2]:
      for gradient, expected in zip(ours, of[2], strict=True):
        np.testing.assert_allclose(gradient, expected, atol=1e-12)


def test_bfloat16_is_summed_in_float32():
  x, kernel = image_and_kernel(dtype=jnp.bfloat16)
  for lowering in LOWERINGS:
    out = lowering(x, kernel)
    assert out.dtype == jnp.bfloat16
    exact = reference(x.astype(np.float32), kernel.astype(np.float32), 1)
    assert np.abs(np.asarray(out, np.float64) - exact).max() <= 2**-8 * np.abs(exact).max()  # one rounding


@pytest.mark.parametrize("platform, convolution", [("cpu", False), ("cuda", True), ("tpu", True)])
def test_the_platform_of_the_program_picks_the_lowering(platform, convolution):
  x, kernel = image_and_kernel()
  step = jax.jit(jax.value_and_grad(lambda x, k: jnp.sum(ops.depthwise_conv(x, k) ** 2), (0, 1)))
  text = step.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
  assert ("stablehlo.convolution" in text) == convolution


@pytest.mark.parametrize("stride, size", [(1, 3), (2, 3), (16, 16), (4, 4)])
def test_dense_of_one_channel_each_is_depthwise(stride, size):
  x, kernel = image_and_kernel(17, 19, size)
  dense = kernel * np.eye(C, dtype=np.float32)[None, None]  # [i, j, c, c]
  np.testing.assert_allclose(
    ops.conv(x, dense, stride=stride), ops.depthwise_conv_grouped(x, kernel, stride=stride), atol=1e-4
  )


def test_moving_the_image_moves_the_interior():
  x, kernel = image_and_kernel(9, 8)
  moved = ops.depthwise_conv(jnp.roll(x, (2, 1), (1, 2)), kernel)
  np.testing.assert_allclose(moved[:, 3:-1, 2:-1], ops.depthwise_conv(x, kernel)[:, 1:-3, 1:-2], atol=1e-5)
