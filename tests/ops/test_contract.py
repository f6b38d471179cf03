"""The promised ops inside other people's transformations: jit, vmap, per-example gradients, checkpoint."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import ops, properties
from tests.ops.every_op import GOOD, OTHER


def draw(*shape):
  return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape), jnp.float32)


# name -> (a function of one image or one set of tokens with its batch axis, parameters, batch)
PROMISED = {
  "attend under a mask": (  # the first query sees nothing
    lambda weight, x: ops.attend(
      x, x, x, similarity=functools.partial(ops.bilinear, weight=weight), mask=np.tri(4, 4, -1, dtype=bool)[None, None]
    )[0],
    draw(2, 5, 5),
    draw(3, 4, 2, 5),
  ),
  "attend": (lambda bias, x: ops.attend(x, x[:, 1:], x[:, :-1], bias=bias)[0], draw(2, 4, 3), draw(3, 4, 2, 5)),
  "avg_pool": (
    lambda scale, x: ops.avg_pool(x * scale[None, None, None], window=2, stride=2),
    draw(4),
    draw(3, 5, 6, 4),
  ),
  "depthwise_conv": (lambda kernel, x: ops.depthwise_conv(x, kernel, stride=2), draw(3, 3, 1, 4), draw(3, 5, 6, 4)),
  "max_pool": (
    lambda scale, x: ops.max_pool(x * scale[None, None, None], window=3, stride=2),
    draw(4),
    draw(3, 5, 6, 4),
  ),
  "quadratic_table": (
    lambda centre, x: ops.attend(x, x, x, bias=ops.relative_bias(ops.quadratic_table(centre, centre[:, 0], (2, 3))))[0],
    draw(2, 2),
    draw(3, 6, 2, 5),
  ),
  "relative_bias": (
    lambda table, x: ops.attend(x, x, x, bias=ops.relative_bias(table))[0],
    draw(2, 3, 5),
    draw(3, 6, 2, 5),
  ),
  "row_column_logits": (
    lambda rows, x: ops.attend(x, x, x, bias=ops.row_column_logits(x, rows, draw(5, 5)))[0],
    draw(3, 5),
    draw(3, 6, 2, 5),
  ),
}


@pytest.mark.parametrize("name", PROMISED)
def test_composes(name):
  function, parameters, x = PROMISED[name]
  along = draw(*parameters.shape, 1)[..., 0]

  def loss(parameters, x):
    return jnp.sum(jnp.sin(function(parameters, x)))

  @jax.jit
  def everything(parameters, x):
    return {
      "out": function(parameters, x),
      "alone": jax.vmap(lambda image: function(parameters, image[None])[0])(x),
      "whole": jax.grad(loss)(parameters, x),
      "per example": jax.vmap(lambda image: jax.grad(loss)(parameters, image[None]))(x).sum(0),
      "checkpoint": jax.grad(jax.checkpoint(loss))(parameters, x),
      "tangent": jax.jvp(functools.partial(loss, x=x), (parameters,), (along,))[1],
    }

  found = everything(parameters, x)
  whole = found["whole"]
  assert jnp.abs(whole).max() > 1e-3
  np.testing.assert_allclose(found["alone"], found["out"], atol=1e-5)
  np.testing.assert_allclose(found["per example"], whole, atol=1e-4)
  np.testing.assert_allclose(found["checkpoint"], whole, atol=1e-5)
  np.testing.assert_allclose(found["tangent"], jnp.sum(whole * along), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROMISED)
def test_compiled_and_eager_results_agree(name):
  function, parameters, x = PROMISED[name]
  properties.check_jit_agrees(function, parameters, x)


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_every_op_under_transformations(name):
  """jit, vmap, gradients per example and checkpoint agree with one plain call after another."""
  function = functools.partial(getattr(ops, name), **OTHER.get(name, {}))
  rng = np.random.default_rng(len(name))
  two = {
    argument: rng.random((2, *shape)) < 0.7 if argument == "mask" else np.float32(rng.standard_normal((2, *shape)))
    for argument, shape in GOOD[name].items()
  }
  if name == "padding_mask":
    two["lengths"] = np.arange(6, dtype=np.int32).reshape(2, 3) % 5
  fixed = {argument: array for argument, array in two.items() if array.dtype != np.float32}
  free = {argument: array for argument, array in two.items() if argument not in fixed}

  def loss(free, fixed):
    leaves = jax.tree.leaves(function(**free, **fixed))
    return sum(jnp.sum(jnp.sin(leaf.astype(jnp.float32))) for leaf in leaves)

  def everything(free, fixed):
    return function(**free, **fixed), jax.grad(loss)(free, fixed), jax.grad(jax.checkpoint(loss))(free, fixed)

  plain = [(function(**free, **fixed), jax.grad(loss)(free, fixed)) for free, fixed in each_of_two(free, fixed)]
  together, gradients, again = jax.jit(jax.vmap(everything))(free, fixed)
  stacked, wanted = jax.tree.map(lambda *leaves: jnp.stack(leaves), *plain)
  chex.assert_trees_all_close(together, stacked, atol=2e-5, rtol=2e-5)
  chex.assert_trees_all_close(gradients, wanted, atol=1e-4, rtol=1e-4)
  chex.assert_trees_all_close(again, wanted, atol=1e-4, rtol=1e-4)


def each_of_two(*trees):
  return [jax.tree.map(lambda leaf, i=i: leaf[i], trees) for i in range(2)]
