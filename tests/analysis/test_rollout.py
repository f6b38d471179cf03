"""Rollout against products that are known: identity, shifts, uniform heads, pooling, windows, prefix tokens."""

import jax
import numpy as np
import pytest

from convattn.analysis import AttentionMap, Grid, attention_maps, rollout, rollout_overlay
from convattn.models import CoAtNet, Run, Spec, Stage

IMAGE = (10, 6)
FINE = Grid(5, 3, (2.0, 2.0), image=IMAGE)
COARSE = Grid(3, 2, (4.0, 4.0), image=IMAGE)


def layer(weights, grid=FINE, **fields):
  """Of weights [b, heads, q, k]."""
  return AttentionMap("layer", grid, fields.pop("key_grid", grid), np.asarray(weights, np.float32), **fields)


def shift(places, grid=FINE):
  """A hard head: every query looks at the cell so many places on, around the end."""
  return np.roll(np.eye(grid.cells), places, 1)[None, None]


def drawn(grid=FINE, heads=2, images=2, seed=0, prefix=0):
  tokens = grid.cells + prefix
  weights = np.exp(np.random.default_rng(seed).normal(size=(images, heads, tokens, tokens)))
  return weights / weights.sum(-1, keepdims=True)


def rolled(*maps):
  return rollout(maps).probabilities[:, 0]


def test_heads_that_look_at_themselves_move_nothing():
  np.testing.assert_array_equal(rolled(*[layer(shift(0))] * 3), np.eye(15)[None])


def test_hard_heads_compose():
  one, two = shift(1)[0, 0], shift(4)[0, 0]
  expected = (np.eye(15) + one + two + shift(5)[0, 0]) / 4
  np.testing.assert_array_equal(rolled(layer(shift(1)), layer(shift(4)))[0], expected)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_uniform_heads_keep_what_the_shortcuts_keep(depth):
  left = 0.5**depth
  expected = left * np.eye(15) + (1 - left) / 15
  np.testing.assert_allclose(rolled(*[layer(np.full((1, 3, 15, 15), 1 / 15))] * depth)[0], expected, rtol=1e-6)


def test_later_layers_stand_on_the_left_and_heads_are_averaged():
  first, last = drawn(seed=1), drawn(seed=2)
  a, b = (0.5 * each.mean(1) + 0.5 * np.eye(15) for each in (first, last))
  np.testing.assert_allclose(rolled(layer(first), layer(last)), b @ a, rtol=1e-6)
  assert np.abs(b @ a - a @ b).max() > 1e-3


def test_a_coarser_grid_takes_the_mean_of_the_cells_in_it():
  found = rollout([layer(shift(0)), layer(shift(0, COARSE), COARSE)])
  assert (found.query_grid, found.key_grid) == (COARSE, FINE)
  expected = np.zeros((3, 2, 5, 3))
  for i in range(3):
    for j in range(2):
      children = expected[i, j, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
      children[:] = 1 / children.size
  np.testing.assert_allclose(found.probabilities[0, 0], expected.reshape(6, 15), rtol=1e-6)


def test_a_finer_grid_takes_the_cell_that_it_lies_in():
  found = rolled(layer(shift(0, COARSE), COARSE), layer(shift(0)))[0].reshape(5, 3, 3, 2)
  for i in range(5):
    for j in range(3):
      assert found[i, j, i // 2, j // 2] == found[i, j].sum() == 1


def test_pooled_keys_are_shared_out_over_their_cells():
  weights = drawn()[..., :6]
  weights /= weights.sum(-1, keepdims=True)
  found = rolled(layer(weights, key_grid=COARSE))
  children = rolled(layer(shift(0)), layer(shift(0, COARSE), COARSE))[0]
  np.testing.assert_allclose(found, 0.5 * weights.mean(1) @ children + 0.5 * np.eye(15), rtol=1e-5)


def test_windows_reach_as_far_as_they_do():
  left = np.arange(15)[:, None] - 1 + np.arange(2)  # each query sees the cell before it, where there is one, and itself
  weights = np.where(left[:, :1] < 0, [0.0, 1.0], [0.25, 0.75])[None, None]
  found = rolled(layer(weights, key_cells=left))[0]
  expected = 0.875 * np.eye(15) + 0.125 * np.eye(15, k=-1)
  expected[0, 0] = 1
  np.testing.assert_array_equal(found, expected)


def test_prefix_tokens_stay_what_they_are_between_grids():
  maps = [layer(drawn(prefix=2), prefix_tokens=2), layer(drawn(COARSE, prefix=2), COARSE, prefix_tokens=2)]
  a, b = (0.5 * each.probabilities.mean(1) + 0.5 * np.eye(each.probabilities.shape[-1]) for each in maps)
  children = np.zeros((8, 17))
  children[:2, :2] = np.eye(2)
  children[2:, 2:] = rolled(layer(shift(0)), layer(shift(0, COARSE), COARSE))[0]
  found = rollout(maps)
  assert found.prefix_tokens == 2
  np.testing.assert_allclose(found.probabilities[:, 0], b @ children @ a, rtol=1e-5)
  seen = rollout_overlay(maps, query=0)
  np.testing.assert_array_equal(seen.values, found.probabilities[:, 0, 0, 2:].reshape(2, 5, 3))


def test_prefix_tokens_are_no_cells_where_keys_are_pooled():
  weights = drawn(COARSE, prefix=1, images=1, heads=1)[:, :, :1].repeat(16, 2)  # [1, 1, 16, 7]
  found = rolled(layer(weights, key_grid=COARSE, prefix_tokens=1))[0] - 0.5 * np.eye(16)
  np.testing.assert_allclose(found[:, 0], 0.5 * weights[0, 0, :, 0], rtol=1e-5)
  # The first pooled key is the mean of four cells: each has a quarter of its weight.
  np.testing.assert_allclose(
    found[:, 1 + np.array([0, 1, 3, 4])], 0.125 * weights[0, 0, :, 1:2].repeat(4, 1), rtol=1e-5
  )


def test_rows_sum_to_one():
  pooled = drawn()[..., :6] * 3
  maps = [layer(pooled, key_grid=COARSE), layer(drawn(seed=3)), layer(drawn(COARSE, seed=4), COARSE)]
  np.testing.assert_allclose(rolled(*maps).sum(-1), 1, rtol=1e-6)


def test_an_overlay_is_what_the_mean_of_the_cells_sees():
  maps = [layer(drawn(seed=1)), layer(drawn(COARSE, seed=2), COARSE)]
  found = rollout_overlay(maps)
  assert found.grid == FINE and not found.exact
  np.testing.assert_allclose(found.values, rolled(*maps).mean(1).reshape(2, 5, 3), rtol=1e-6)
  np.testing.assert_allclose(found.values.sum((1, 2)), 1, rtol=1e-6)


def test_a_coatnet_is_rolled_out_over_its_strides():
  stages = (Stage((Run("C", 1, 8),), 1), Stage((Run("T", 2, 8),), 1), Stage((Run("T", 1, 8),), 2))
  model = CoAtNet(Spec(stages, (4, 8), head_size=4), num_classes=3)
  images = np.random.default_rng(0).normal(size=(2, 10, 6, 1)).astype(np.float32)
  variables = jax.jit(lambda images: model.init(jax.random.key(0), images, train=False))(images)
  maps = attention_maps(model, variables, images)
  found = rollout(maps)
  assert (found.query_grid, found.key_grid) == (COARSE, FINE)
  a, b, c = (0.5 * each.probabilities.mean(1) + 0.5 * np.eye(each.probabilities.shape[-1]) for each in maps)
  children = rolled(layer(shift(0)), layer(shift(0, COARSE), COARSE))[0]
  np.testing.assert_allclose(found.probabilities[:, 0], c @ children @ b @ a, rtol=1e-5)
  np.testing.assert_allclose(found.probabilities.sum(-1), 1, rtol=1e-6)


def test_maps_that_make_no_flow_are_refused():
  below = drawn()
  below[0, :, 0, 0] = -1
  other = layer(np.full((2, 1, 4, 4), 0.25), Grid(2, 2, (3.0, 3.0), image=(6, 6)))
  for maps, message in (
    ([], "at least one"),
    ([layer(below)], "at least 0; those of layer are not"),
    ([layer(np.full((1, 1, 15, 15), np.nan))], "finite"),
    ([layer(np.zeros((1, 1, 15, 15)))], "a query of layer has none"),
    ([layer(drawn(images=2)), layer(drawn(images=3))], "differ in images: 2 and 3"),
    ([layer(drawn()), other], r"differ in pixels: \(10, 6\) and \(6, 6\)"),
    ([layer(drawn()), layer(drawn(prefix=1), prefix_tokens=1)], "differ in prefix tokens: 0 and 1"),
    ([layer(drawn(Grid(1, 4)), Grid(1, 4)), layer(drawn(Grid(1, 2)), Grid(1, 2))], "cannot bring 4 tokens to 2"),
  ):
    with pytest.raises(ValueError, match=message):
      rollout(maps)
  with pytest.raises(ValueError, match="query is 15"):
    rollout_overlay([layer(drawn())], query=15)
