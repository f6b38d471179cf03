"""The laws of the layers: one table of (layer, shape of its input, laws with their keywords)."""

import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import layers, properties

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from by_hand import image, initialise

TOKENS, IMAGE = (2, 5, 6), (2, 5, 6, 4)
ON_GRID = {"axes": (-3, -2)}
# One row of pixels, where the order of the pixels is an axis that can be permuted.
ROW = (2, 1, 5, 4)
MHA, GRID, LOCAL = layers.MultiHeadAttention, layers.GridAttention, layers.LocalAttention
CAUSAL = {"causal": {}, "causal_jacobian": {}, "positions_matter": {}}
ANY_ORDER = {"permutation_equivariant": {}, "not_affine": {}, "content_matters": {}}
CASES = {
  "attention of tokens": (MHA(2), TOKENS, ANY_ORDER),
  "attention of tokens with clipped shifts": (MHA(2, clip=2), TOKENS, {"positions_matter": {}}),
  "causal attention": (MHA(2, causal=True), TOKENS, CAUSAL),
  "causal attention with clipped shifts": (MHA(2, causal=True, clip=1), TOKENS, CAUSAL),
  "one head": (layers.SelfAttention(4), TOKENS, ANY_ORDER),
  "attention without a table": (layers.RelativeAttention(2, relative="none"), ROW, ANY_ORDER),
  "attention with a table": (layers.RelativeAttention(2), ROW, {"positions_matter": {}}),
  "pixels without positions": (GRID(2, "none"), ROW, ANY_ORDER),
  "pixels with positions": (GRID(2, "quadratic"), ROW, {"positions_matter": {}, "not_affine": {}}),
  "position alone": (GRID(2, "quadratic", content=False), IMAGE, {"affine": {}}),
  "rows and columns alone": (GRID(2, "row_column", content=False), IMAGE, {"affine": {}}),
  "neighbours": (LOCAL(2, 3), IMAGE, {"local": {"radius": 1}, "reach": {"radius": 1}}),
  "neighbours, moved": (LOCAL(2, 3), IMAGE, {"interior_translation": {"radius": 1}}),
  "windows": (layers.WindowAttention(2, 2), (2, 4, 6, 4), {"windows_isolated": {"window": 2}}),
  "depthwise": (layers.DepthwiseConv(width=8), IMAGE, {"depthwise": {}, "zero_border": {}, "local": {"radius": 1}}),
  "dense": (
    layers.Conv(3, stride=2),
    IMAGE,
    {"affine": {}, "zero_border": {"stride": 2}, "reach": {"radius": 1, "stride": 2}},
  ),
  "one pixel": (layers.Conv(3, 1), IMAGE, {"pointwise": {}}),
  "causal rows": (layers.CausalConv(3, taps=3, dilation=2), IMAGE, {"causal": {}, "affine": {}}),
  "a stack of causal rows": (layers.DilatedStack(3, (1, 2)), IMAGE, {"causal": {}, "not_affine": {}}),
  "a block of causal rows": (layers.CausalBlock(4, depth=2), IMAGE, {"causal": {}, "not_affine": {}}),
  "layer norm": (layers.LayerNorm(), IMAGE, {"pointwise": {}, "not_affine": {}}),
  "squeeze and excite": (layers.SqueezeExcite(3), ROW, {"permutation_equivariant": {}, "not_affine": {}}),
  "feed-forward": (layers.FeedForward(), IMAGE, {"pointwise": {}, "not_affine": {}}),
}


def evaluated(layer, x):
  """The layer as a compiled function of its input, and its variables."""
  keywords = {"train": False} if "train" in layer.__call__.__annotations__ else {}
  variables = initialise(layer, x, **keywords)
  return jax.jit(functools.partial(layer.apply, **keywords)), variables


@pytest.mark.parametrize("name", CASES)
def test_a_layer_keeps_its_laws(name):
  layer, shape, laws = CASES[name]
  x = image(*shape)
  fn, variables = evaluated(layer, x)
  for law, keywords in laws.items():
    properties.LAWS[law].check(lambda x: fn(variables, x), x, **keywords)


BROKEN = {
  "attention of tokens": "positions_matter",
  "attention of tokens with clipped shifts": "permutation_equivariant",
  "attention with a table": "permutation_equivariant",
  "pixels with positions": "permutation_equivariant",
  "one head": "causal",
  "position alone": "not_affine",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_layer_breaks_the_law_of_another(name):
  layer, shape, _ = CASES[name]
  x = image(*shape)
  fn, variables = evaluated(layer, x)
  with pytest.raises(properties.LawBroken):
    properties.LAWS[BROKEN[name]].check(lambda x: fn(variables, x), x)


def test_a_shifted_window_joins_neighbours():
  x = image(2, 4, 6, 4)
  fn, variables = evaluated(layers.WindowAttention(2, 2, shift=1), x)
  with pytest.raises(properties.LawBroken):
    properties.check_windows_isolated(lambda x: fn(variables, x), x, window=2)
  # The windows of the image without its first row and column.
  properties.check_windows_isolated(
    lambda inner: fn(variables, jnp.zeros_like(x).at[:, 1:, 1:].set(inner))[:, 1:, 1:], x[:, 1:, 1:], window=2
  )


def test_cross_attention_reads_a_set():
  x, context = image(2, 5, 6), image(2, 4, 7, seed=3)
  layer = layers.CrossAttention(2, width=4, out_width=5)
  fn = functools.partial(jax.jit(layer.apply), initialise(layer, x, context))
  properties.check_permutation_equivariant(fn, x, context, argnums=0)
  properties.check_permutation_invariant(fn, x, context, argnums=1, axis=1)
  properties.check_batch_independent(fn, x, context, argnums=(0, 1))


def test_a_padding_mask_isolates_and_equals_the_shorter_sequence():
  x, keep = image(2, 5, 6), np.arange(5)[None] < np.array([3, 4])[:, None]
  layer = layers.MultiHeadAttention(2)
  fn = jax.jit(functools.partial(layer.apply, initialise(layer, x)))
  masked = lambda x, keep: fn(x, mask=keep[:, None, None])  # noqa: E731
  properties.check_mask_isolates(masked, x, keep)
  properties.check_mask_is_truncation(masked, x, keep)


def test_stochastic_depth_keeps_the_mean():
  layer, x = layers.StochasticDepth(0.25), image(3, 2, 2)
  drop = lambda x, key: layer.apply({}, x, train=True, rngs={"dropout": key})  # noqa: E731
  properties.check_expectation(drop, x, evaluation=lambda x: x, draws=500)
  properties.check_key_decides(drop, x)
  properties.check_key_ignored(lambda x, key: layer.apply({}, x, train=False, rngs={"dropout": key}), x)


def test_batch_norm_standardises_in_training():
  x, layer = image(3, 5, 4, 2) * 3 + 7, layers.BatchNorm()
  variables = jax.jit(functools.partial(layer.init, train=False))(jax.random.key(0), x)
  trained = jax.jit(lambda x: layer.apply(variables, x, train=True, mutable=["batch_stats"])[0])
  properties.check_standardised(trained, x, axes=(0, 1, 2))
  properties.check_shift_invariant(trained, x, axes=(0, 1, 2))


def test_behind_the_gate_of_sagan_only_gamma_learns():
  x, layer = image(2, 4, 6, 8), layers.SAGANAttention()
  params = initialise(layer, x)["params"]
  branch = {name: tree for name, tree in params.items() if name != "gamma"}
  fn = jax.jit(lambda x, branch, gamma: layer.apply({"params": branch | {"gamma": gamma}}, x))
  np.testing.assert_array_equal(jax.jit(layer.init)(jax.random.key(0), x)["params"]["gamma"], 0)
  properties.check_zero_branch_is_identity(fn, x, branch, params["gamma"])
  properties.check_only_gate_learns(fn, x, branch, params["gamma"], argnums=1)
