import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from convattn import ops
from convattn.ops import convolution_gradients_on_cpu as on_cpu, convolutions

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
  np.testing.assert_allclose(
    jax.jit(lowering, static_argnames="stride")(x, kernel, stride=stride), reference(x, kernel, stride), atol=1e-5
  )


def test_bfloat16_is_summed_in_float32():
  x, kernel = image_and_kernel(dtype=jnp.bfloat16)
  for lowering in LOWERINGS:
    out = jax.jit(lowering)(x, kernel)
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


WINDOWS = [(1, 1), (3, 3), (3, 5), (2, 3), *(pytest.param((n, n), marks=pytest.mark.slow) for n in (2, 4, 5))]
SIZES = [(5, 6), (8, 7), (3, 2)]  # the last is smaller than the larger windows


def xla_convolution(stride, groups):
  return functools.partial(convolutions._xla_conv, stride=stride, groups=groups, precision=None)


def draw(*shape, seed=0, dtype=None):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


@pytest.mark.parametrize("stride", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("window", WINDOWS)
def test_gradients_by_hand_equal_those_of_the_convolution(window, stride):
  """Of `conv` in the kernel, of `depthwise_conv` in the kernel and in x."""

  def ours(x, dense, depthwise, cotangent, depthwise_cotangent):
    return (
      on_cpu.kernel_gradient_by_rows(x, cotangent, stride=stride, window=window),
      on_cpu.depthwise_kernel_gradient_by_rows(x, depthwise_cotangent, stride=stride, window=window),
      on_cpu.depthwise_x_gradient_shifted(depthwise, depthwise_cotangent, stride=stride, size=x.shape[1:3]),
    )

  def theirs(x, dense, depthwise, cotangent, depthwise_cotangent):
    _, of_dense = jax.vjp(xla_convolution(stride, 1), x, dense)
    _, of_depthwise = jax.vjp(xla_convolution(stride, C), x, depthwise)
    (in_x, in_kernel) = of_depthwise(depthwise_cotangent)
    return of_dense(cotangent)[1], in_kernel, in_x

  with jax.enable_x64(True):
    inputs = []
    for height, width in SIZES if stride == 3 else SIZES[::2]:
      out = (B, -(-height // stride), -(-width // stride))
      shapes = [(B, height, width, C), (*window, C, 4), (*window, 1, C), (*out, 4), (*out, C)]
      inputs.append([draw(*shape, seed=seed) for seed, shape in enumerate(shapes)])
    found, expected = jax.jit(lambda all: [[f(*one) for one in all] for f in (ours, theirs)])(inputs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), found, expected)
    assert all(np.abs(gradient).max() > 0.1 for gradient in jax.tree.leaves(found))


def test_gradients_by_hand_are_summed_in_float32():
  """A bfloat16 sum of ones stays at 256; 1 + 2^-9 is 1."""
  ones = jnp.ones((1, 1000, 1, 1), jnp.bfloat16)
  for gradient in (on_cpu.kernel_gradient_by_rows, on_cpu.depthwise_kernel_gradient_by_rows):
    found = jax.jit(functools.partial(gradient, stride=1, window=(1, 1)))(ones, ones)
    assert (found.dtype, float(found.sum())) == (jnp.bfloat16, 1000)
  kernel = jnp.asarray([1, *[2**-9] * 4], jnp.bfloat16).reshape(1, 5, 1, 1)[:, ::-1]
  cotangent = jnp.ones((1, 1, 5, 1), jnp.bfloat16)
  found = on_cpu.depthwise_x_gradient_shifted(kernel, cotangent, stride=1, size=(1, 5))
  assert (found.dtype, float(found[0, 0, 2, 0])) == (jnp.bfloat16, 1 + 2**-7)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (jnp.bfloat16, 2**-7)])
def test_gradients_equal_those_of_the_convolution(stride, dtype, tolerance):
  """Within one rounding of each of two numbers, for bfloat16."""
  with jax.enable_x64(True):
    x, kernel = draw(B, 5, 6, C, dtype=dtype), draw(3, 3, C, 4, seed=1, dtype=dtype)
    cotangent = draw(*ops.conv(x, kernel, stride=stride).shape, seed=2, dtype=dtype)
    ours, theirs = (
      jax.jit(lambda x, k, f=f: jax.vjp(f, x, k)[1](cotangent))(x, kernel)
      for f in (functools.partial(ops.conv, stride=stride), xla_convolution(stride, 1))
    )
    for found, expected in zip(ours, theirs, strict=True):
      assert found.dtype == expected.dtype == dtype
      found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
      np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(
  "platform, size, arguments, convolutions_and_loops",
  [
    ("cpu", 3, (0, 1), (1, 1)),
    ("cpu", 3, 0, (1, 0)),
    ("cpu", 3, 1, (0, 1)),
    ("cpu", 7, (0, 1), (1, 1)),
    ("cpu", 8, (0, 1), (2, 0)),
    ("cpu", 16, (0, 1), (2, 0)),  # a patch embedding
    ("cuda", 3, (0, 1), (2, 0)),
    ("tpu", 3, (0, 1), (2, 0)),
  ],
)
def test_the_kernels_gradient_is_a_loop_in_a_cpus_program(platform, size, arguments, convolutions_and_loops):
  # The value, linear in both, is in none of these programs.
  step = jax.jit(jax.grad(lambda x, k: jnp.sum(ops.conv(x, k, stride=2)), arguments))
  traced = step.trace(jnp.ones((B, 17, 16, C)), jnp.ones((size, size, C, 4)))
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  assert (text.count("stablehlo.convolution"), text.count("stablehlo.while")) == convolutions_and_loops


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("op, kernel", [(ops.conv, (3, 3, C, 2)), (ops.depthwise_conv, (3, 3, 1, C))])
def test_gradients_over_any_kind_of_mesh_equal_those_of_one_device(op, kernel, kind):
  generator = np.random.default_rng(0)
  x, kernel = (generator.standard_normal(shape).astype(np.float32) for shape in ((4, 5, 6, C), kernel))
  gradients = jax.grad(lambda x, kernel: jnp.sum(op(x, kernel, stride=2) ** 2), (0, 1))
  expected = jax.jit(gradients)(x, kernel)
  mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
  spread = jax.device_put(x, NamedSharding(mesh, P("data"))), jax.device_put(kernel, NamedSharding(mesh, P()))
  for ours, wanted in zip(jax.jit(gradients)(*spread), expected, strict=True):
    np.testing.assert_allclose(ours, wanted, atol=1e-5)
  if kind == AxisType.Auto:  # a body that varies over a manual axis
    specs = (P("data"), P())
    inside = jax.shard_map(gradients, mesh=mesh, in_specs=specs, out_specs=specs)
    for ours, wanted in zip(jax.jit(inside)(x, kernel), expected, strict=True):
      np.testing.assert_allclose(ours, wanted, atol=1e-5)
