"""Where attention gets its positions from: a table, a table resized in the call, or a small network."""

import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import layers, ops

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import by_hand
from by_hand import apply, image, initialise


def test_position_mlp_equals_its_equation_in_float32_at_least():
  layer = layers.PositionMLP(2, (3, 4), hidden=5, dtype=jnp.bfloat16)
  variables = initialise(layer)
  table = apply(layer, variables)
  assert (table.shape, table.dtype) == ((2, 5, 7), jnp.float32)
  np.testing.assert_allclose(table, by_hand.position_table(variables["params"], 3, 4), atol=1e-5)


def test_a_position_mlp_serves_every_grid_and_a_smaller_one_sees_the_same_shifts():
  small, large = (layers.PositionMLP(2, grid, hidden=5) for grid in ((2, 3), (4, 4)))
  variables = initialise(small)
  np.testing.assert_allclose(apply(large, variables)[:, 2:5, 1:6], apply(small, variables), atol=1e-6)


def test_a_position_mlp_drops_hidden_units_and_keeps_the_mean():
  """Read off where the last product is the identity: each hidden unit of each shift is 0 or 1 / (1 - rate) times it."""
  layer = layers.PositionMLP(5, (3, 4), hidden=5, dropout=0.25)
  variables = initialise(layer.clone(dropout=0.0))
  identity = {"kernel": jnp.eye(5), "bias": jnp.zeros(5)}
  read_off = {"params": variables["params"] | {"out": identity}}
  draw = jax.jit(lambda v, key: layer.apply(v, rngs={"dropout": key}))
  hidden = np.asarray(apply(layer.clone(dropout=0.0), read_off))
  dropped = np.asarray(draw(read_off, jax.random.key(3)))
  mask = dropped != 0
  assert 0 < mask.mean() < (hidden != 0).mean()
  np.testing.assert_allclose(dropped, mask * hidden / 0.75, rtol=1e-6)

  # The same key draws the same mask whatever the weights.
  out = variables["params"]["out"]
  expected = by_hand.dense(np.moveaxis(dropped, 0, -1), out)
  np.testing.assert_allclose(np.moveaxis(draw(variables, jax.random.key(3)), 0, -1), expected, atol=1e-5)

  keys = jax.random.split(jax.random.key(0), 400)
  mean = np.asarray(jax.jit(jax.vmap(draw, (None, 0)))(read_off, keys)).mean(0)
  deviation = hidden * np.sqrt(0.25 / 0.75 / 400)
  assert (np.abs(mean - hidden) <= 5 * deviation + 1e-6).all()


def test_position_dropout_acts_in_training_only_and_alike_on_all_images():
  x = jnp.repeat(image(1, 3, 4, 8), 2, axis=0)
  layer = layers.TransformerBlock(8, head_size=4, position="mlp", position_hidden=9, position_dropout=0.5)
  variables = initialise(layer, x, train=False)
  evaluated = apply(layer, variables, x, train=False)
  step = jax.jit(lambda key: layer.apply(variables, x, train=True, rngs={"dropout": key}))
  one, other = step(jax.random.key(0)), step(jax.random.key(1))
  assert min(float(jnp.abs(a - b).max()) for a, b in ((one, other), (one, evaluated), (other, evaluated))) > 1e-3
  np.testing.assert_allclose(one[0], one[1], atol=1e-6)  # one table for the whole batch
  without = layer.clone(position_dropout=0.0)
  np.testing.assert_allclose(apply(without, variables, x, train=True), evaluated, atol=1e-6)
  with pytest.raises(Exception, match='needs PRNG for "dropout"'):
    layer.apply(variables, x, train=True)


@pytest.mark.parametrize("relative", ["pre", "post", "none"])
@pytest.mark.parametrize("position", ["table", "mlp"])
def test_attention_with_widths_equals_its_equation(relative, position):
  x = image(2, 3, 4, 6)
  layer = layers.RelativeAttention(2, 8, 5, relative, position, position_hidden=7)
  variables = initialise(layer, x)
  assert ("bias_mlp" in variables["params"]) == (position == "mlp" and relative != "none")
  expected, weights = by_hand.attention(x, variables["params"], relative)
  ours, seen = apply(layer, variables, x, mutable=["intermediates"])
  assert ours.shape == (2, 3, 4, 5)
  np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(seen["intermediates"]["attention"][0], weights, atol=1e-5)


@functools.cache
def resizable(method):
  """Attention with a table for 3x4 pixels."""
  layer = layers.RelativeAttention(2, table_resize=method)
  return layer, initialise(layer, image(2, 3, 4, 6))


@pytest.mark.parametrize("method", ["bilinear", "timm"])
@pytest.mark.parametrize("grid", [(5, 7), (2, 3)])
def test_resizing_in_the_call_equals_resizing_before_it(method, grid):
  layer, variables = resizable(method)
  x = image(2, *grid, 6)
  table = ops.resize_table(variables["params"]["bias_table"], grid, method)
  assert table.shape == (2, 2 * grid[0] - 1, 2 * grid[1] - 1)
  resized = {"params": variables["params"] | {"bias_table": table}}
  fixed = layer.clone(table_resize="none")
  np.testing.assert_allclose(apply(layer, variables, x), apply(fixed, resized, x), atol=1e-6)
  with pytest.raises(ValueError, match=rf"grid of {grid[0]}x{grid[1]}.*belongs to 3x4.*resize.*table_resize"):
    fixed.apply(variables, x)


def test_the_two_ways_to_resize_differ_and_neither_touches_its_own_grid():
  (one, variables), (other, _) = resizable("bilinear"), resizable("timm")
  x = image(2, 5, 7, 6)
  assert float(jnp.abs(apply(one, variables, x) - apply(other, variables, x)).max()) > 1e-3
  x = image(2, 3, 4, 6)
  plain = apply(one.clone(table_resize="none"), variables, x)
  for layer in (one, other):
    np.testing.assert_array_equal(apply(layer, variables, x), plain)


def test_one_set_of_variables_learns_from_two_sizes_in_one_program():
  """As in training on crops of several sizes: the gradient of both reaches the trained table."""
  layer, variables = resizable("bilinear")
  large, small = image(2, 5, 7, 6), image(3, 2, 3, 6, seed=1)

  def loss(params, *images):
    return sum(jnp.sum(jnp.sin(layer.apply({"params": params}, x))) for x in images)

  both = jax.jit(jax.grad(loss))(variables["params"], large, small)
  parts = [jax.jit(jax.grad(loss))(variables["params"], x) for x in (large, small)]
  tables = [g["bias_table"] for g in (both, *parts)]
  assert all(table.shape == (2, 5, 7) and float(jnp.abs(table).max()) > 1e-3 for table in tables)
  np.testing.assert_allclose(tables[0], tables[1] + tables[2], atol=1e-4)
  table = variables["params"]["bias_table"]
  step = 1e-2 * jnp.sign(tables[0])
  value = jax.jit(lambda table: loss(variables["params"] | {"bias_table": table}, large, small))
  change = float(value(table + step) - value(table - step))
  np.testing.assert_allclose(change / 2, jnp.vdot(step, tables[0]), rtol=2e-2)


@pytest.mark.parametrize(
  "layer, message",
  [
    (layers.RelativeAttention(2, position="sine"), "position is 'sine', but must be one of 'table', 'mlp'"),
    (layers.RelativeAttention(2, table_resize="area"), "table_resize is 'area', but must be one of 'none', "),
  ],
)
def test_a_wrong_source_of_positions_is_named(layer, message):
  with pytest.raises(ValueError, match=message):
    initialise(layer, image(1, 3, 3, 6))
