"""Multiply-adds and activations: published figures, and modules counted by hand."""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl

import convattn
from convattn.analysis import Cost, by_stage, costs, costs_of_call, multiply_adds
from convattn.layers import BatchNorm, LayerNorm
from convattn.models.timm_variants import TIMM_VARIANTS
from convattn.ops import attend, depthwise_conv

# Giga multiply-adds: (variant, image size) -> published reference implementation's count; the last three are computed
# independently at 512 px.
GIGA = {
  ("coatnet_0", 224): 4.14,
  ("coatnet_1", 224): 8.24,
  ("coatnet_2", 224): 15.50,
  ("coatnet_3", 224): 34.37,
  ("coatnet_0", 384): 13.05,
  ("coatnet_1", 384): 26.60,
  ("coatnet_2", 384): 48.75,
  ("coatnet_3", 384): 105.8,
  ("coatnet_4", 384): 186.5,
  ("coatnet_2", 512): 93.35,
  ("coatnet_3", 512): 198.1,
  ("coatnet_4", 512): 351.5,
  ("coatnet_5", 512): 803.98,
  ("coatnet_6", 512): 1465.4,
  ("coatnet_7", 512): 2538.5,
}

# Giga multiply-adds and million activations as timm publishes them, both measured with fvcore; None: not published.
TIMM = {
  "coatnet_pico_rw_224": (2.05, None),
  "coatnet_nano_cc_224": (2.24, None),
  "coatnext_nano_rw_224": (2.47, 12.80),
  "coatnet_nano_rw_224": (2.41, 15.41),
  "coatnet_rmlp_nano_rw_224": (2.62, 20.34),
  "coatnet_0_rw_224": (4.43, 18.73),
  "coatnet_bn_0_rw_224": (4.67, 22.04),
  "coatnet_rmlp_0_rw_224": (4.72, None),
  "coatnet_rmlp_1_rw_224": (7.85, 35.47),
  "coatnet_1_rw_224": (8.04, 34.60),
  "coatnet_rmlp_1_rw2_224": (8.11, 40.13),
  "coatnet_2_rw_224": (15.09, 49.22),
  "coatnet_rmlp_2_rw_224": (15.18, 54.78),
  "coatnet_rmlp_2_rw_384": (47.69, 209.43),
  "coatnet_rmlp_3_rw_224": (33.56, None),
  "coatnet_3_rw_224": (33.44, None),
  "coatnet_0_224": (4.58, None),
  "coatnet_1_224": (8.70, None),
  "coatnet_2_224": (16.50, None),
  "coatnet_3_224": (36.56, None),
  "coatnet_4_224": (62.48, None),
  "coatnet_5_224": (145.49, None),
}
FAST = (
  "coatnet_nano_cc_224",
  "coatnext_nano_rw_224",
  "coatnet_rmlp_nano_rw_224",
  "coatnet_bn_0_rw_224",
  "coatnet_0_224",
)
CLASSES = {"coatnet_3_rw_224": 11821}  # was measured with its only weights


def shapes(model, height, width, channels):
  images = jax.ShapeDtypeStruct((1, height, width, channels), jnp.float32)
  return jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)


def slow_but(fast, cases):
  """Sizes and depths that a large model has tests/models/test_sizes.py sees, by its parameters."""
  return [pytest.param(*case, marks=[] if case[0] == fast else pytest.mark.slow) for case in cases]


@pytest.mark.parametrize("name, size", slow_but("coatnet_0", GIGA))
def test_multiply_adds(name, size):
  rows = costs(convattn.create_model(name), (size, size, 3))
  total = sum(row.multiply_adds for row in rows)
  assert abs(total / (GIGA[name, size] * 1e9) - 1) < 0.01


@pytest.mark.parametrize(
  "name, giga", slow_but("coatnet_0", [("coatnet_0", 4.547), ("coatnet_1", 8.643), ("coatnet_2", 16.427)])
)
def test_multiply_adds_with_strided_depthwise(name, giga):
  """Table 9's second column is 4.6, 8.8 and 16.6 G; the softmax is not in ours."""
  rows = costs(convattn.create_model(name, conv_stride="depthwise"), (224, 224, 3))
  assert abs(sum(row.multiply_adds for row in rows) / 1e9 - giga) < 1e-3


def norm_elements(model, image_shape):
  """Numbers that BatchNorms and LayerNorms see for one image."""
  elements = {BatchNorm: 0, LayerNorm: 0}

  def count(call, arguments, options, context):
    if context.method_name == "__call__" and type(context.module) in elements:
      elements[type(context.module)] += math.prod(arguments[0].shape)
    return call(*arguments, **options)

  with nn.intercept_methods(count):
    shapes(model, *image_shape)
  return elements[BatchNorm], elements[LayerNorm]


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in TIMM])
def test_timms_figures_to_their_last_digit(name):
  """fvcore adds 2 for each number that a BatchNorm sees and 5 for a LayerNorm's; then nothing remains but rounding."""
  giga, million = TIMM[name]
  model, size = convattn.create_model(name, CLASSES.get(name, 1000)), int(name[-3:])
  rows = costs(model, (size, size, 3))
  batch, layer = norm_elements(model, (size, size, 3))
  assert abs((sum(row.multiply_adds for row in rows) + 2 * batch + 5 * layer) / 1e9 - giga) < 0.0051
  assert million is None or abs(sum(row.activations for row in rows) / 1e6 - million) < 0.0051


def test_every_architecture_of_timms_has_a_figure():
  assert set(TIMM) == set(TIMM_VARIANTS) - {"test_coatnet"}


class Mixed(nn.Module):
  """Everything that a block of anybody's may be made of: [b, 7, 5, 6] -> [b, 9]."""

  remat: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x, *, train):
    scale = self.param("scale", nn.initializers.ones, (6,))
    x = nn.Conv(8, (3, 2), (2, 1), feature_group_count=2, kernel_dilation=(1, 2), dtype=self.dtype, name="conv")(
      x * scale[None, None, None]
    )
    block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
    for i in range(2):
      x = block(self.dtype, name=f"block_{i}")(x, train)
    return nn.Dense(9, dtype=self.dtype, name="head")(jnp.mean(x, (1, 2)))


class Block(nn.Module):
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x, train):
    b, h, w, c = x.shape
    x = depthwise_conv(x, self.param("taps", nn.initializers.ones, (3, 3, 1, c)).astype(x.dtype))
    tokens = nn.BatchNorm(not train, dtype=self.dtype)(x).reshape(b, h * w, 2, c // 2)
    x = attend(tokens, tokens, tokens)[0].reshape(b, h * w, c)
    kernel = self.param("kernel", nn.initializers.ones, (c, c)).astype(x.dtype)
    return jax.lax.scan(lambda y, _: (jnp.tanh(y @ kernel), None), x, length=3)[0].reshape(b, h, w, c)


IMAGE = jax.ShapeDtypeStruct((4, 7, 5, 6), jnp.float32)


def test_a_module_of_anybodys_costs_what_is_counted_by_hand():
  pixels = 4 * 5  # rows in strides of 2, columns in strides of 1
  block = pixels * 8 * 9 + 2 * (pixels * pixels * 8) + 3 * (pixels * 8 * 8)
  put_out = pixels * 8 + 2 * pixels * pixels + pixels * 8 + 3 * pixels * 8
  assert costs_of_call(Mixed(), IMAGE) == [
    Cost("Mixed", (9,), 6, 0, 0),
    Cost("conv", (4, 5, 8), 3 * 2 * 3 * 8 + 8, pixels * 8 * (3 * 2 * 3), pixels * 8),
    Cost("block_0", (4, 5, 8), 9 * 8 + 16 + 64, block, put_out),
    Cost("block_1", (4, 5, 8), 9 * 8 + 16 + 64, block, put_out),
    Cost("head", (9,), 8 * 9 + 9, 8 * 9, 9),
  ]


def test_neither_remat_nor_dtype_nor_batch_costs_more():
  rows = costs_of_call(Mixed(), IMAGE)
  assert costs_of_call(Mixed(remat=True), IMAGE) == rows == costs_of_call(Mixed(dtype=jnp.bfloat16), IMAGE)
  assert costs_of_call(Mixed(), jax.ShapeDtypeStruct((1, *IMAGE.shape[1:]), jnp.float32)) == rows


class Calling(nn.Module):
  """A module that calls a function of its input."""

  function: Callable[..., jax.Array]

  def __call__(self, x):
    return self.function(x)


def counted(function, *shape):
  (row,) = costs_of_call(Calling(function), jax.ShapeDtypeStruct((1, *shape), jnp.float32)) or [None]
  return row and (row.multiply_adds, row.activations)


def square(x):
  return x @ jnp.swapaxes(x, 1, 2)


def loop(x):
  return jax.lax.while_loop(lambda y: y[0, 0, 0] < 9, square, x)


def lowerings(x):
  return jax.lax.platform_dependent(x, cpu=lambda x: square(square(x)), default=square)


def branches(x):
  return jax.lax.cond(x[0, 0, 0] > 0, lambda x: square(square(x)), square, x)


@pytest.mark.parametrize(
  "function, times",
  [(square, 1), (jax.jit(square), 1), (jax.checkpoint(square), 1), (loop, 1), (lowerings, 1), (branches, 2)],
)
def test_what_runs_a_program_costs_its_program(function, times):
  assert counted(function, 5, 5) == (times * 5 * 5 * 5, times * 5 * 5)


def test_a_kernel_costs_what_it_declares():
  def kernel(x, estimate):
    def copy(read, write):
      write[...] = read[...]

    return pl.pallas_call(copy, jax.ShapeDtypeStruct(x.shape, x.dtype), cost_estimate=estimate)(x)

  estimate = pl.CostEstimate(flops=2 * 77, transcendentals=5, bytes_accessed=3)
  assert counted(functools.partial(kernel, estimate=estimate), 3, 5) == (77, 15)
  assert counted(functools.partial(kernel, estimate=None), 3, 5) is None


def test_what_is_no_product_costs_nothing():
  assert counted(lambda x: jax.nn.softmax(nn.max_pool(jnp.tanh(x), (2, 2)).sum(1)), 4, 4, 3) is None
  assert counted(lambda x: attend(x, x, x)[0], 4, 1, 3) == (2 * 4 * 4 * 3, 4 * 4 + 4 * 3)


def test_of_a_gradient_each_product_counts_three_times_but_the_first_which_has_no_gradient_of_the_images():
  def loss(kernels, x):
    hidden = jnp.tanh(x @ kernels[0])
    thrown_away = hidden @ hidden.T
    del thrown_away
    return (hidden @ kernels[1]).sum()

  x, kernels = jnp.ones((4, 7)), (jnp.ones((7, 5)), jnp.ones((5, 3)))
  first, second = 4 * 7 * 5, 4 * 5 * 3
  assert multiply_adds(jax.make_jaxpr(loss)(kernels, x)) == first + second
  assert multiply_adds(jax.make_jaxpr(jax.grad(loss))(kernels, x)) == 2 * first + 3 * second - second  # nor an output
  both = jax.make_jaxpr(jax.jit(jax.value_and_grad(loss, (0, 1))))(kernels, x)
  assert multiply_adds(both) == 3 * first + 3 * second


def test_of_a_convolutions_gradient_each_side_costs_what_the_forward_pass_does():
  def sums(kernel, x):
    out = jax.lax.conv_general_dilated(
      x, kernel, (2, 1), ((0, 0), (0, 0)), dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=3
    )
    return (out**2).sum()

  kernel, x = jnp.ones((2, 3, 2, 9)), jnp.ones((4, 8, 7, 6))
  forward = 4 * (4 * 5 * 9) * (2 * 3 * 2)
  assert multiply_adds(jax.make_jaxpr(sums)(kernel, x)) == forward
  assert multiply_adds(jax.make_jaxpr(jax.grad(sums))(kernel, x)) == 2 * forward
  # A step of 2 leaves zeros between rows; the places that touch the border of the images are counted in full.
  whole = multiply_adds(jax.make_jaxpr(jax.grad(sums, 1))(kernel, x)) - forward
  assert forward <= whole <= 1.5 * forward


def test_stages_are_sums_of_their_blocks():
  rows = [Cost("stem", (4, 4, 2), 1, 2, 3), Cost("stage_1/block_0", (2, 2, 5), 10, 20, 30)]
  rows += [Cost("stage_1/block_1", (2, 2, 7), 100, 200, 300), Cost("classifier", (1, 1, 3), 0, 0, 0)]
  assert by_stage(rows) == [rows[0], Cost("stage_1", (2, 2, 7), 110, 220, 330), rows[3]]


def test_parts_add_up_to_the_whole():
  model = convattn.create_model("coatnet_mini_8", num_classes=10)
  rows = costs(model, (8, 8, 1))
  variables = shapes(model, 8, 8, 1)
  assert sum(row.parameters for row in rows) == sum(math.prod(a.shape) for a in jax.tree.leaves(variables["params"]))
  assert [row.name for row in rows][:2] == ["stem", "stage_1/block_0"] and rows[-1].output == (10,)


class Keywords(nn.Module):
  """Takes what it is told in several ways; without it, it cannot be called."""

  @nn.compact
  def __call__(self, inputs, **fields):
    x = nn.Dropout(0.5, deterministic=not fields["train"])(inputs["x"])
    return nn.Dense(2)(x) * inputs["scale"] + inputs["shift"]


class Deterministic(nn.Module):
  @nn.compact
  def __call__(self, x, deterministic):
    return nn.Dense(2)(nn.Dropout(0.5)(x, deterministic=deterministic))


def test_a_module_is_called_as_it_can_be():
  x = jnp.ones((5, 3))
  assert costs_of_call(Deterministic(), x)[-1].multiply_adds == 6
  inputs = {"x": x, "scale": 2.0, "shift": jnp.float32(1)}
  assert costs_of_call(Keywords(), inputs)[-1].multiply_adds == 6
