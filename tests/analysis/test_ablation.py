"""Heads switched off, keys hidden, pixels painted over: what is left is what the equations leave, by hand."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.analysis import Grid, attention_maps, without_heads, without_keys, without_pixels
from convattn.equivalence import conv_to_attention
from convattn.layers.seen import HIDDEN
from convattn.models.coatnet import CoAtNet
from convattn.models.spec import Run, Spec, Stage
from tests.analysis.attending import CASES, IMAGES, drawn, looked_at, of_attention, output

RNG = np.random.default_rng(3)


def run(case, variables, **options):
  return jax.jit(case.layer.apply)(variables, case.x, *case.others, **case.options, **options)


@pytest.mark.parametrize("name", CASES)
def test_without_a_head_the_rest_is_the_output(name):
  case, (params, _, found) = CASES[name], looked_at(name)
  weights = np.nan_to_num(found.dense().astype(np.float64))
  last = found.num_heads - 1
  left = output(params, case, found, weights * (np.arange(last + 1) != last)[:, None, None])
  assert np.abs(left - output(params, case, found, weights)).max() > 0.01
  before = drawn(case)
  out = run(case, without_heads(before, {found.layer: [last]}))
  np.testing.assert_allclose(of_attention(case, out), left, rtol=1e-4, atol=1e-5)
  jax.tree.map(np.testing.assert_array_equal, before, drawn(case))  # as they were
  out = run(case, without_heads(before, {found.layer: range(last + 1)}))
  np.testing.assert_allclose(of_attention(case, out), output(params, case, found, 0 * weights), atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_what_is_hidden_leaves_its_weight_to_the_others(name):
  """A softmax over the keys that are left, by hand from the logits of before."""
  case, (params, _, found) = CASES[name], looked_at(name)
  count = found.key_grid.cells
  hidden = np.arange(count) % 3 == 1
  if name == "local":
    hidden[[0, 1, 6, 7]] = True  # all that the first pixel sees

  def softmax(mode):
    logits = np.where(hidden, -np.inf, np.nan_to_num(found.dense(mode).astype(np.float64), nan=-np.inf))
    powers = np.exp(logits - np.maximum(logits.max(-1, keepdims=True), -1e9))
    return powers / np.maximum(powers.sum(-1, keepdims=True), 1e-300)

  if name == "gated":
    gate = found.gate[:, None, None].astype(np.float64)
    weights = (1 - gate) * softmax("content") + gate * softmax("position")
  else:
    weights = softmax("logits")
  if name == "relative post":
    static = found.probabilities - np.asarray(jax.nn.softmax(found.logits))
    weights = weights + static * ~hidden
  variables = without_keys(drawn(case), [found], {found.layer: np.flatnonzero(hidden)})
  np.testing.assert_allclose(
    of_attention(case, run(case, variables)), output(params, case, found, weights), rtol=1e-4, atol=1e-5
  )
  (after,) = attention_maps(case.layer, variables, case.x, *case.others, **case.options)
  np.testing.assert_allclose(np.nan_to_num(after.dense()), weights, rtol=1e-4, atol=1e-6)
  assert (np.nan_to_num(after.dense())[..., hidden] == 0).all()
  if name == "local":
    assert (after.probabilities[:, :, 0] == 0).all()  # and no not-a-number


@pytest.mark.parametrize("mode", ["quadratic", "table"])
def test_convolutions_as_attention_lose_heads_and_keys_too(mode):
  kernel, bias = RNG.standard_normal((3, 2, 2, 4)).astype(np.float32), np.arange(4, dtype=np.float32)
  options = {"alpha": 1.0} if mode == "quadratic" else {}
  layer, variables = conv_to_attention(kernel, bias, padding="SAME", strides=(1, 2), mode=mode, **options)
  x = RNG.standard_normal((2, 4, 5, 2)).astype(np.float32)
  (found,) = attention_maps(layer, variables, x)
  padded = np.pad(x, [(0, 0), (1, 1), (0, 1), (0, 0)]).reshape(2, -1, 2)
  value = np.float64(variables["params"]["value"])

  def by_hand(weights):
    return np.einsum("bnqk,bkc,nco->bqo", weights, padded, value) + bias

  apply = jax.jit(layer.apply)
  weights = found.probabilities.astype(np.float64)
  np.testing.assert_allclose(apply(variables, x).reshape(2, -1, 4), by_hand(weights), rtol=1e-4, atol=1e-5)
  out = apply(without_heads(variables, {"QuadraticAttention": [0, 4]}), x).reshape(2, -1, 4)
  weights_left = weights * ~np.isin(np.arange(6), [0, 4])[:, None, None]
  np.testing.assert_allclose(out, by_hand(weights_left), rtol=1e-4, atol=1e-5)
  hidden = [7, 8, 14, 30]
  left = np.where(np.isin(np.arange(36), hidden), 0, weights)
  left = left / np.maximum(left.sum(-1, keepdims=True), 1e-300)
  out = apply(without_keys(variables, [found], {found.layer: hidden}), x).reshape(2, -1, 4)
  np.testing.assert_allclose(out, by_hand(left), rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def trained():
  stages = (Stage((Run("C", 1, 6),)), Stage((Run("T", 2, 8),)))
  model = CoAtNet(Spec(stages, (4,), stem_stride=1, head_size=4, head="plain"), num_classes=3)
  x = RNG.standard_normal((2, 12, 8, 1)).astype(np.float32)
  variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), x)
  return model, variables, x, attention_maps(model, variables, x)


def test_logits_change_with_the_heads_and_keys_of_a_model(trained):
  model, variables, x, maps = trained
  apply = jax.jit(functools.partial(model.apply, train=False))
  before = apply(variables, x)
  for name in (each.layer for each in maps):
    fewer = apply(without_heads(variables, {name: [1]}), x)
    hidden = without_keys(variables, maps, {name: [0, 5]})
    assert np.abs(fewer - before).max() > 1e-4 and np.abs(apply(hidden, x) - before).max() > 1e-4
    after = attention_maps(model, hidden, x, layers=name)[0].probabilities
    assert (after[..., [0, 5]] == 0).all()
    np.testing.assert_allclose(after.sum(-1), 1, rtol=1e-5)
  np.testing.assert_array_equal(apply(without_heads(variables, {}), x), before)
  np.testing.assert_array_equal(apply(without_keys(variables, maps, {maps[0].layer: []}), x), before)
  both = without_keys(without_keys(variables, maps, {maps[0].layer: [1]}), maps, {maps[1].layer: [2]})
  assert jax.tree.leaves(jax.tree.map(np.flatnonzero, both[HIDDEN])) == [1, 2]
  assert HIDDEN not in variables
  recomputed = jax.jit(functools.partial(model.clone(remat="block").apply, train=False))
  np.testing.assert_allclose(recomputed(hidden, x), apply(hidden, x), rtol=1e-5, atol=1e-6)


def test_a_layer_is_named_as_its_map_is(trained):
  _, variables, _, maps = trained
  name = maps[0].layer
  with pytest.raises(ValueError, match=f"no layer 'stage_9' that attends; there are {name}, stage_2/block_1/attention"):
    without_heads(variables, {"stage_9": [0]})
  with pytest.raises(ValueError, match="no layer 'stem/conv_1'"):
    without_heads(variables, {"stem/conv_1": [0]})
  with pytest.raises(ValueError, match=f"no map of 'stage_9'; there are {name}"):
    without_keys(variables, maps, {"stage_9": [0]})
  for wrong in (2, -1, 0.5):
    with pytest.raises(ValueError, match=f"among the heads of {name} is {wrong}, .* from 0 to 1"):
      without_heads(variables, {name: [0, wrong]})
  with pytest.raises(ValueError, match=f"among the keys of {name} is 6, .* from 0 to 5"):
    without_keys(variables, maps, {name: [6]})


def test_keys_are_hidden_for_one_size_of_image():
  layer = CASES["grid quadratic"].layer
  variables = drawn(CASES["grid quadratic"])
  hidden = without_keys(variables, [looked_at("grid quadratic")[2]], {"GridAttention": [3]})
  with pytest.raises(ValueError, match="GridAttention has 20 keys, but those that are hidden are of 30"):
    layer.apply(hidden, np.ones((1, 4, 5, 8), np.float32))


class Foreign(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.MultiHeadDotProductAttention(2, name="attention")(x, sow_weights=True)


def test_other_peoples_layers_lose_heads_but_no_keys():
  x = RNG.standard_normal((2, 5, 4)).astype(np.float32)
  variables = Foreign().init(jax.random.key(0), x)
  maps = attention_maps(Foreign(), variables, x)
  none = Foreign().apply(without_heads(variables, {"attention": [0, 1]}), x)
  bias = variables["params"]["attention"]["out"]["bias"]
  np.testing.assert_allclose(none, np.broadcast_to(bias, none.shape), atol=1e-6)
  with pytest.raises(ValueError, match="attention is no layer of ours"):
    without_keys(variables, maps, {"attention": [0]})


def test_pixels_of_a_cell_are_painted_over():
  grid = Grid(2, 3, (3, 2), (-1, 0), (4, 5))
  images = RNG.standard_normal((2, 4, 5, 2)).astype(np.float32)
  painted = without_pixels(images, grid, [0, 5], fill=[7.0, 8.0])
  where = np.zeros((4, 5), bool)
  where[:2, :2] = where[2:, 4:] = True
  np.testing.assert_array_equal(painted[:, where], np.broadcast_to([7.0, 8.0], (2, 8 - 2, 2)))
  np.testing.assert_array_equal(painted[:, ~where], images[:, ~where])
  np.testing.assert_array_equal(without_pixels(images, grid, range(6), images[::-1]), images[::-1])
  with pytest.raises(ValueError, match=r"images have shape \(2, 4, 4, 2\)"):
    without_pixels(images[:, :, :4], grid, [0])
  with pytest.raises(ValueError, match="among the cells is 6"):
    without_pixels(images, grid, [6])


def test_nothing_is_hidden_in_a_usual_program():
  """A mask of what is hidden is made where there is such, and nowhere else."""
  case = CASES["shifted windows"]
  variables = drawn(case)
  hidden = without_keys(variables, [looked_at("shifted windows")[2]], {"WindowAttention": []})
  usual, masked = (str(jax.make_jaxpr(case.layer.apply)(each, IMAGES)) for each in (variables, hidden))
  assert "iota" not in usual and "iota" in masked  # pixels are numbered for the mask alone
  assert usual.count("dot_general") == masked.count("dot_general")
  assert jnp.asarray(hidden[HIDDEN]["keys"]).shape == (30,)
