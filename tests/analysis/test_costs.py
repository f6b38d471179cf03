"""Multiply-adds and activations: published figures, and the formulas against the traced program."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

import convattn
from convattn.analysis import Cost, by_stage, costs
from convattn.layers import BatchNorm, LayerNorm
from convattn.models.timm_variants import TIMM_VARIANTS

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


@pytest.mark.parametrize("name, size", GIGA)
def test_multiply_adds(name, size):
  rows = costs(convattn.create_model(name), (size, size, 3))
  total = sum(row.multiply_adds for row in rows)
  assert abs(total / (GIGA[name, size] * 1e9) - 1) < 0.01


@pytest.mark.parametrize("name, giga", [("coatnet_0", 4.547), ("coatnet_1", 8.643), ("coatnet_2", 16.427)])
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


def products(jaxpr):
  """[multiply-adds, outputs] of every dot_general and convolution in a jaxpr, counted from their shapes."""
  total = np.zeros(2, np.int64)
  for equation in jaxpr.eqns:
    outputs = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
    if equation.primitive.name == "dot_general":
      (contracted, _), _ = equation.params["dimension_numbers"]
      lhs = equation.invars[0].aval.shape
      total += (outputs * math.prod(lhs[i] for i in contracted), outputs)
    elif equation.primitive.name == "conv_general_dilated":
      kernel = equation.invars[1].aval.shape  # [row, column, in per group, out]
      total += (outputs * math.prod(kernel[:3]), outputs)
    elif equation.primitive.name == "cond":  # the lowerings of one operation: count the one that is a convolution
      total += max((products(branch.jaxpr) for branch in equation.params["branches"]), key=tuple)
    else:
      for inner in jax.extend.core.jaxprs_in_params(equation.params):
        total += products(inner)
  return total


def counted(model, image_shape):
  """The same from `costs`, and from the traced program."""
  variables = shapes(model, *image_shape)
  images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  jaxpr = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(variables, images)
  rows = costs(model, image_shape)
  from_costs = sum(row.multiply_adds for row in rows), sum(row.activations for row in rows)
  return from_costs, tuple(products(jaxpr.jaxpr))


def shallow(spec):
  """The spec with at most two blocks of a kind in a row; a third one costs what the second does."""
  stages = [dataclasses.replace(stage, runs=tuple(map(clipped, stage.runs))) for stage in spec.stages]
  return dataclasses.replace(spec, stages=tuple(stages))


def clipped(run):
  return dataclasses.replace(run, depth=min(run.depth, 2))


@pytest.mark.parametrize(
  "name, size, overrides",
  [
    ("coatnet_0", (64, 96), {}),
    ("coatnet_0", (61, 35), {"conv_stride": "depthwise", "head": "plain"}),
    ("coatnet_6", (64, 64), {}),
    ("vit_rel", (50, 64), {"relative_attention": "post"}),
    ("vit_rel", (50, 64), {"relative_attention": "none", "relative_position": "mlp"}),
    ("coatnet_mini_8", (8, 9), {}),
    (
      "test_coatnet",
      (33, 50),
      {"conv_stride": "expand", "conv_expand_from": "output", "attention_width_from": "output"},
    ),
    ("test_coatnet", (33, 50), {"conv_stride": "depthwise", "squeeze_from": "output", "relative_position": "mlp"}),
    ("test_coatnet", (33, 50), {"head": "tanh", "conv_expansion": 3, "attention_expansion": 2, "head_size": 16}),
  ],
)
def test_the_formulas_agree_with_the_traced_program(name, size, overrides):
  spec = shallow(convattn.models.spec_for(name, **overrides))
  from_costs, traced = counted(convattn.models.CoAtNet(spec, num_classes=10), (*size, 1))
  assert from_costs == traced


@pytest.mark.parametrize("name", TIMM_VARIANTS)
def test_the_formulas_agree_with_every_architecture_of_timms(name):
  model = convattn.models.CoAtNet(shallow(TIMM_VARIANTS[name]), num_classes=10)
  from_costs, traced = counted(model, (49, 66, 3))
  assert from_costs == traced


def test_stages_are_sums_of_their_blocks():
  rows = [Cost("stem", (4, 4, 2), 1, 2, 3), Cost("stage_1/block_0", (2, 2, 5), 10, 20, 30)]
  rows += [Cost("stage_1/block_1", (2, 2, 7), 100, 200, 300), Cost("classifier", (1, 1, 3), 0, 0, 0)]
  assert by_stage(rows) == [rows[0], Cost("stage_1", (2, 2, 7), 110, 220, 330), rows[3]]


def test_parts_add_up_to_the_whole():
  model = convattn.create_model("coatnet_mini_8", num_classes=10)
  rows = costs(model, (8, 8, 1))
  variables = shapes(model, 8, 8, 1)
  assert sum(row.parameters for row in rows) == sum(math.prod(a.shape) for a in jax.tree.leaves(variables["params"]))
  assert [row.name for row in rows][:2] == ["stem", "stage_1/block_0"] and rows[-1].output == (1, 1, 10)
