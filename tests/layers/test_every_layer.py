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

from convattn import layers, properties

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from every_layer import EXAMPLES, TABLES, apply, compiled, example_input, initialise
from parameter_names import NAMES

# The promised ones, and one of each kind of the others, are for the fast tests.
FAST = {"RelativeAttention", "MBConv", "SqueezeExcite", "TransformerBlock", "StochasticDepth", "MultiHeadAttention"}
FAST |= {"GridAttention", "WindowAttention", "DilatedStack", "Classifier", "ConvNeXtBlock", "LayerScale"}
every_layer = pytest.mark.parametrize(
  "name", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in EXAMPLES]
)


def test_every_public_layer_is_listed():
  assert set(layers.__all__) == set(EXAMPLES) | TABLES


@every_layer
def test_an_image_does_not_see_its_batch_unless_training_with_statistics(name):
  example = EXAMPLES[name]
  fn, x = functools.partial(compiled(name), initialise(example)), example_input(example)
  assert fn(x).shape == example.output
  properties.check_batch_independent(fn, x)
  properties.check_vmap_agrees(fn, x)


@every_layer
def test_every_parameter_has_a_gradient(name):
  example = EXAMPLES[name]
  params = initialise(example).get("params", {})
  rest = {key: tree for key, tree in initialise(example).items() if key != "params"}
  if params:

    def fn(params, x):
      return compiled(name)({**rest, "params": params}, x)

    properties.check_every_parameter_used(fn, params, example_input(example), allow=example.idle)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_compiled_and_eager_results_agree_and_rematerialised_and_per_example_gradients(name):
  example = EXAMPLES[name]
  variables, x = initialise(example), example_input(example)
  properties.check_jit_agrees(functools.partial(apply, example), variables, x)
  if variables:
    properties.check_checkpoint_agrees(compiled(name), variables, x)

  def gradients(x):
    return jax.grad(lambda v: jnp.sum(jnp.sin(apply(example, v, x))))(variables)

  whole, each = jax.jit(lambda x: (gradients(x), jax.vmap(lambda x: gradients(x[None]))(x)))(x)
  scale = max([float(jnp.abs(g).max()) for g in jax.tree.leaves(whole)], default=1.0)
  chex.assert_trees_all_close(jax.tree.map(lambda g: g.sum(0), each), whole, atol=1e-4 * scale)


def nn_path(path):
  return "/".join(part.key for part in path)


@every_layer
def test_training_differs_from_evaluation_only_by_chance_and_batch_statistics(name):
  example = EXAMPLES[name]
  variables, x = initialise(example), example_input(example)
  step = jax.jit(lambda x, key: apply(example, variables, x, train=True, key=key))
  trained, evaluated = step(x, jax.random.key(1)), compiled(name)(variables, x)
  differs = float(jnp.abs(trained - evaluated).max()) > 1e-3
  assert differs == (example.needs_key or example.batch_statistics)
  check = properties.check_key_decides if example.needs_key else properties.check_key_ignored
  check(step, x)


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
      exact = jax.jit(lambda v, x: apply(example, v, x, layer=layer))(variables, x * (1 + 2**-40))
      assert 0 < np.abs(exact - out).max() < 1e-9


@every_layer
def test_works_inside_an_nnx_model(name):
  example = EXAMPLES[name]
  keywords = {"train": False} if example.takes_train else {}
  x = jnp.asarray(example_input(example))

  @jax.jit
  def wrapped(x):
    model = bridge.lazy_init(bridge.ToNNX(example.layer, rngs=nnx.Rngs(0)), x, **keywords)
    return model(x, **keywords), nnx.to_pure_dict(nnx.state(model))  # one tree for all collections

  out, held = wrapped(x)
  variables = {
    collection: jax.tree_util.tree_map_with_path(
      lambda path, _: functools.reduce(lambda node, part: node[part.key], path, held), tree
    )
    for collection, tree in initialise(example).items()
  }
  np.testing.assert_allclose(out, compiled(name)(variables, x), rtol=1e-5, atol=1e-5)


# StochasticDepth takes any array and SinusoidalPositions any even number of channels: no size is wrong.
@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"StochasticDepth", "SinusoidalPositions"}))
def test_a_wrong_rank_and_a_wrong_size_are_named(name):
  example = EXAMPLES[name]
  variables, x = initialise(example), example_input(example)
  of = functools.partial(jax.eval_shape, functools.partial(apply, example, variables))
  if name not in ("LayerNorm", "FeedForward", "LayerScale"):  # these take [..., c]
    first = r"b, h, w, " if len(x.shape) == 4 else r"b, [qt], "
    with pytest.raises(
      AssertionError, match=rf"argument 'x' has shape {re.escape(str(x.shape[1:]))}, but must be \[{first}"
    ):
      of(x[0])
  with pytest.raises(AssertionError, match=r"argument 'x' has shape \(\)"):
    of(np.float32(0))
  fewer = re.escape(str((*x.shape[:-1], 7)))
  with pytest.raises(AssertionError, match=rf"argument 'x' has shape {fewer}, but must be \[.*, 8\]"):
    of(x[..., :-1])


@pytest.mark.parametrize("name", EXAMPLES)
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
  variables = jax.jit(_Foreign().init)(jax.random.key(0), x)
  stacked = jax.tree.leaves(variables["params"])
  assert all(leaf.shape[0] == 3 for leaf in stacked)
  expected = x
  block = jax.jit(functools.partial(layers.TransformerBlock(8, head_size=4).apply, train=False))
  (scanned,) = variables["params"].values()
  for i in range(3):
    expected = block({"params": jax.tree.map(lambda a, i=i: a[i], scanned)}, expected)
  np.testing.assert_allclose(jax.jit(_Foreign().apply)(variables, x), expected, atol=1e-5)
