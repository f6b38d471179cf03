"""The ops inside other people's transformations: jit, vmap, per-example gradients, forward mode, checkpoint."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import ops, properties
from tests.ops.every_op import GOOD, OTHER

PROMISED = {"attend", "avg_pool", "depthwise_conv", "max_pool", "quadratic_table", "relative_bias", "row_column_logits"}


def two_of(name):
  """The op, floating-point arrays and others: of two examples, stacked."""
  rng = np.random.default_rng(len(name))
  two = {
    argument: rng.random((2, *shape)) < 0.7 if argument == "mask" else np.float32(rng.standard_normal((2, *shape)))
    for argument, shape in GOOD[name].items()
  }
  if name == "padding_mask":
    two["lengths"] = np.arange(6, dtype=np.int32).reshape(2, 3) % 5
  fixed = {argument: array for argument, array in two.items() if array.dtype != np.float32}
  free = {argument: array for argument, array in two.items() if argument not in fixed}
  return functools.partial(getattr(ops, name), **OTHER.get(name, {})), free, fixed


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in PROMISED else [pytest.mark.slow]) for n in GOOD])
def test_every_op_under_transformations(name):
  function, *two = two_of(name)

  def loss(free, fixed):
    leaves = jax.tree.leaves(function(**free, **fixed))
    return sum(jnp.sum(jnp.sin(leaf.astype(jnp.float32))) for leaf in leaves)

  def plain(free, fixed):
    along = jax.tree.map(jnp.cos, free)
    gradient = jax.grad(loss)(free, fixed)
    slope = sum(jnp.sum(a * b) for a, b in zip(*map(jax.tree.leaves, (gradient, along)), strict=True))
    return {"out": function(**free, **fixed), "gradient": gradient, "again": gradient, "tangent": slope}

  def transformed(free, fixed):
    tangents = jax.tree.map(jnp.cos, free)
    return {
      "out": function(**free, **fixed),
      "gradient": jax.grad(loss)(free, fixed),
      "again": jax.grad(jax.checkpoint(loss))(free, fixed),
      "tangent": jax.jvp(lambda free: loss(free, fixed), (free,), (tangents,))[1] if free else 0,
    }

  one_by_one = jax.jit(plain)
  wanted = [one_by_one(*jax.tree.map(lambda leaf, i=i: leaf[i], two)) for i in range(2)]
  wanted = jax.tree.map(lambda *leaves: jnp.stack(jnp.asarray(leaves)), *wanted)
  found = jax.jit(jax.vmap(transformed, axis_size=2))(*two)
  chex.assert_trees_all_close(found.pop("out"), wanted.pop("out"), atol=2e-5, rtol=2e-5)
  chex.assert_trees_all_close(found.pop("tangent"), wanted.pop("tangent"), atol=1e-3, rtol=1e-3)
  chex.assert_trees_all_close(found, wanted, atol=1e-4, rtol=1e-4)
  assert name not in PROMISED or min(jnp.abs(leaf).max() for leaf in jax.tree.leaves(wanted)) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_compiled_and_eager_results_agree(name):
  function, free, fixed = two_of(name)
  one = jax.tree.map(lambda leaf: leaf[0], {**free, **fixed})
  properties.check_jit_agrees(lambda arrays: function(**arrays), one)
