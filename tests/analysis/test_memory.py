"""Memory of a training step: against the derivative of the whole model, and what dtype and remat must do to it."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import pytest

from convattn.analysis import by_stage, costs, memory
from convattn.analysis.residuals import residuals
from convattn.models import CoAtNet, Run, Spec, Stage

STAGES = (Stage((Run("X", 1, 8),), 2), Stage((Run("C", 1, 12), Run("T", 3, 16)), 2))
SPEC = Spec(STAGES, (4, 8), conv_stride="depthwise", head_size=4, stochastic_depth=0.2, attention_layer_scale=1e-5)
SHAPE = (21, 17, 2)


def model(spec=SPEC, **fields):
  return CoAtNet(spec, num_classes=3, **fields)


@functools.cache
def rows(**fields):
  return memory(model(**fields), SHAPE)


def kept_by_the_whole(model, batch_size):
  """Bytes that the derivative of the whole model keeps."""
  images = jax.ShapeDtypeStruct((batch_size, *SHAPE), jnp.float32)
  variables = jax.eval_shape(functools.partial(model.init, jax.random.key(0), train=False), images)

  def forward(params, images, key):
    # Placeholders for the running averages, which training mode only writes.
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables["batch_stats"])
    rngs = {"dropout": key}
    return model.apply({"params": params, "batch_stats": state}, images, train=True, mutable=["batch_stats"], rngs=rngs)

  arrays = residuals(forward, variables["params"], images)
  return sum(math.prod(each.shape) * each.dtype.itemsize for each in arrays)


@pytest.mark.parametrize(
  "fields",
  [
    {},
    {"dtype": jnp.bfloat16},
    {"remat": "block"},
    {"remat": "dots"},
    {"spec": dataclasses.replace(SPEC, relative_position="mlp", relative_dropout=0.1, head="norm_first")},
  ],
)
def test_parts_keep_what_the_whole_keeps(fields):
  each = model(**fields)
  assert sum(row.kept(5) for row in rows(**fields)) == kept_by_the_whole(each, 5) > 5 * 4 * math.prod(SHAPE)


def test_rows_are_those_of_the_costs():
  expected = costs(model(), SHAPE)
  assert [row.name for row in rows()] == [row.name for row in expected]
  assert [row.parameters for row in rows()] == [4 * row.parameters for row in expected]
  halved = memory(model(param_dtype=jnp.bfloat16, remat="block"), SHAPE)
  assert [row.parameters for row in halved] == [2 * row.parameters for row in expected]
  assert [row.name for row in by_stage(rows())] == ["stem", "stage_1", "stage_2", "classifier"]


def test_a_block_that_is_computed_again_keeps_its_input():
  inputs = [row.output for row in costs(model(), SHAPE)][:-2]
  assert [row.kept_per_image for row in rows(remat="block")[1:-1]] == [4 * math.prod(shape) for shape in inputs]
  assert [row.kept_once for row in rows(remat="block")[1:-1]] == [0] * len(inputs)


def test_less_is_kept_in_order():
  totals = [sum(row.kept(4) for row in rows(**fields)) for fields in ({}, {"remat": "dots"}, {"remat": "block"})]
  assert totals[0] > 2 * totals[1] > 2 * totals[2]
  halved, whole = (sum(row.kept_per_image for row in rows(**fields)) for fields in ({"dtype": jnp.bfloat16}, {}))
  assert 0.5 < halved / whole < 0.8  # statistics stay float32
