"""What holds for every public layer: the contract with other people's JAX code."""

import functools
import pathlib
import re
import sys

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.nnx import bridge

from convattn import layers

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from every_layer import EXAMPLES, TABLES, apply, example_input, initialise, randomised
from parameter_names import NAMES

# The promised ones, and one of each kind of the others, are for the fast tests.
FAST = {"RelativeAttention", "MBConv", "SqueezeExcite", "TransformerBlock", "StochasticDepth", "MultiHeadAttention"}
FAST |= {"GridAttention", "WindowAttention", "DilatedStack", "Classifier", "ConvNeXtBlock"}
every_layer = pytest.mark.parametrize(
  "name", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in EXAMPLES]
)


def loss(example, params, variables, x, **keywords):
  return jnp.sum(jnp.sin(apply(example, {**variables, "params": params}, x, **keywords)))


def test_every_public_layer_is_listed():
  assert set(layers.__all__) == set(EXAMPLES) | TABLES


@every_layer
def test_shape_and_jit_agree(name):
  example = EXAMPLES[name]
  variables, x = randomised(initialise(example)), example_input(example)
  out = apply(example, variables, x)
  assert out.shape == example.output
  np.testing.assert_allclose(jax.jit(lambda v, x: apply(example, v, x))(variables, x), out, rtol=1e-5, atol=1e-5)


@every_layer
def test_an_image_does_not_see_its_batch_unless_training_with_statistics(name):
  example = EXAMPLES[name]
  variables, x = randomised(initialise(example)), example_input(example)
  together = jax.jit(lambda v, x: apply(example, v, x))(variables, x)
  alone = jax.jit(jax.vmap(lambda x: apply(example, variables, x[None])[0]))(x)
  np.testing.assert_allclose(alone, together, atol=1e-5)


@every_layer
def test_every_parameter_gets_a_gradient_per_example_and_under_checkpoint(name):
  example = EXAMPLES[name]
  variables, x = randomised(initialise(example)), example_input(example)
  params = variables.get("params", {})

  def gradients(x):
    return jax.grad(lambda p: loss(example, p, variables, x))(params)

  whole = jax.jit(gradients)(x)
  per_example = jax.jit(jax.vmap(lambda x: gradients(x[None])))(x)
  remat = jax.jit(jax.grad(jax.checkpoint(lambda p: loss(example, p, variables, x))))(params)
  scale = max([float(jnp.abs(g).max()) for g in jax.tree.leaves(whole)], default=1.0)
  chex.assert_trees_all_close(jax.tree.map(lambda g: g.sum(0), per_example), whole, atol=1e-4 * scale)
  chex.assert_trees_all_close(remat, whole, atol=1e-5 * scale)
  sizes = {nn_path(path): float(jnp.abs(g).max()) for path, g in jax.tree_util.tree_leaves_with_path(whole)}
  idle = {path for path, size in sizes.items() if size < 1e-6 * scale}
  assert idle == set(example.idle)


def nn_path(path):
  return "/".join(part.key for part in path)


@every_layer
def test_training_differs_from_evaluation_only_by_chance_and_batch_statistics(name):
  example = EXAMPLES[name]
  variables, x = initialise(example), example_input(example)
  step = jax.jit(lambda key: apply(example, variables, x, train=True, key=key))
  evaluated, a, b = apply(example, variables, x), step(jax.random.key(1)), step(jax.random.key(2))
  differs = float(jnp.abs(a - evaluated).max()) > 1e-3
  assert differs == (example.needs_key or example.batch_statistics)
  assert (float(jnp.abs(a - b).max()) > 1e-3) == example.needs_key
  np.testing.assert_array_equal(step(jax.random.key(1)), a)


@every_layer
@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float64, marks=pytest.mark.slow)])
def test_dtype_of_the_computation(name, dtype):
  example = EXAMPLES[name]
  if not hasattr(example.layer, "dtype"):
    layer = example.layer  # passes its input's dtype on
  else:
    layer = example.layer.clone(dtype=dtype)
  with jax.enable_x64(dtype == jnp.float64):
    x = jnp.asarray(example_input(example), dtype)
    variables = initialise(example, layer, x)
    if hasattr(layer, "dtype"):  # the field decides, not the input
      other = jax.eval_shape(lambda v, x: apply(example, v, x, layer=layer), variables, x.astype(jnp.float32))
      assert other.dtype == jax.eval_shape(lambda v, x: apply(example, v, x, layer=layer), variables, x).dtype
    chex.assert_type(jax.tree.leaves(variables), jnp.float32)
    out = jax.jit(lambda v, x: apply(example, v, x, layer=layer))(variables, x)
    chex.assert_tree_all_finite(out)
    assert out.dtype == (jnp.promote_types(dtype, jnp.float32) if name == "Classifier" else dtype)
    if dtype == jnp.float64:  # every step of it is in float64: rounding would show at 1e-7
      exact = apply(example, variables, x * (1 + 2**-40), layer=layer)
      assert 0 < np.abs(exact - out).max() < 1e-9


@every_layer
def test_works_inside_an_nnx_model(name):
  example = EXAMPLES[name]
  keywords = {"train": False} if example.takes_train else {}
  x = jnp.asarray(example_input(example))
  wrapped = bridge.lazy_init(bridge.ToNNX(example.layer, rngs=nnx.Rngs(0)), x, **keywords)
  held = nnx.to_pure_dict(nnx.state(wrapped))  # one tree for all collections
  variables = {
    collection: jax.tree_util.tree_map_with_path(
      lambda path, _: functools.reduce(lambda node, part: node[part.key], path, held), tree
    )
    for collection, tree in initialise(example).items()
  }
  np.testing.assert_allclose(wrapped(x, **keywords), apply(example, variables, x), rtol=1e-5, atol=1e-5)


# StochasticDepth takes any array and SinusoidalPositions any even number of channels: no size is wrong.
@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"StochasticDepth", "SinusoidalPositions"}))
def test_a_wrong_rank_and_a_wrong_size_are_named(name):
  example = EXAMPLES[name]
  variables, x = initialise(example), example_input(example)
  if name not in ("LayerNorm", "FeedForward", "LayerScale"):  # these take [..., c]
    first = r"b, h, w, " if len(x.shape) == 4 else r"b, [qt], "
    with pytest.raises(
      AssertionError, match=rf"argument 'x' has shape {re.escape(str(x.shape[1:]))}, but must be \[{first}"
    ):
      apply(example, variables, x[0])
  with pytest.raises(AssertionError, match=r"argument 'x' has shape \(\)"):
    apply(example, variables, np.float32(0))
  fewer = re.escape(str((*x.shape[:-1], 7)))
  with pytest.raises(AssertionError, match=rf"argument 'x' has shape {fewer}, but must be \[.*, 8\]"):
    apply(example, variables, x[..., :-1])


@every_layer
def test_parameter_names_and_shapes_are_stable(name):
  """They are in every checkpoint: changing them is a decision, not an accident."""
  found = {nn_path(p): a.shape for p, a in jax.tree_util.tree_leaves_with_path(initialise(EXAMPLES[name]))}
  assert found == NAMES[name]


class _Foreign(nn.Module):
  """Somebody else's model, with one of our layers inside a scan of theirs."""

  @nn.compact
  def __call__(self, x):
    step = nn.scan(
      lambda block, x, _: (block(x, train=False), None),
      variable_axes={"params": 0},
      split_rngs={"params": True},
      length=3,
    )
    return step(layers.TransformerBlock(8, head_size=4), x, None)[0]


def test_composes_with_lifted_transforms():
  x = example_input(EXAMPLES["TransformerBlock"])
  variables = _Foreign().init(jax.random.key(0), x)
  stacked = jax.tree.leaves(variables["params"])
  assert all(leaf.shape[0] == 3 for leaf in stacked)
  expected = x
  block = layers.TransformerBlock(8, head_size=4)
  (scanned,) = variables["params"].values()
  for i in range(3):
    expected = block.apply({"params": jax.tree.map(lambda a, i=i: a[i], scanned)}, expected, train=False)
  np.testing.assert_allclose(_Foreign().apply(variables, x), expected, atol=1e-5)
