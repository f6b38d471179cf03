"""Attention over tokens: against NumPy, its masks, its positions, and what it refuses."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import layers, ops

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from by_hand import apply, image, initialise

B, T, C, N = 2, 5, 6, 2
X = image(B, T, C)


def project(x, p):
  return np.einsum("btc,cnd->bntd", x, p["kernel"]) + np.asarray(p.get("bias", np.zeros(1)))[..., None, :]


def softmax(logits, mask=True):
  terms = np.exp(logits) * mask
  return terms / terms.sum(-1, keepdims=True)


def by_hand(p, x, context, logits, mask=True, values=None):
  """values [q, k, d]: vectors of pairs, added to the values."""
  query, key, value = (
    project(np.asarray(a, np.float64), p[part]) for part, a in (("query", x), ("key", context), ("value", context))
  )
  weights = softmax(logits(query, key), mask)
  out = weights @ value + (0 if values is None else np.einsum("bnqk,qkd->bnqd", weights, values))
  return np.einsum("bnqd,ndo->bqo", out, p["out"]["kernel"]) + np.asarray(p["out"]["bias"]), weights


def scaled(query, key):
  return query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_self_attention_is_one_head():
  layer = layers.SelfAttention(4)
  variables = initialise(layer, X)
  p = variables["params"]
  query, key, value = (np.asarray(X, np.float64) @ p[part]["kernel"][:, 0] for part in ("query", "key", "value"))
  out, seen = apply(layer, variables, X, mutable=["intermediates"])
  weights = softmax(query @ key.swapaxes(1, 2) / 2)
  np.testing.assert_allclose(out, weights @ value, atol=2e-5)
  np.testing.assert_allclose(seen["intermediates"]["attention"][0][:, 0], weights, atol=1e-5)


@pytest.mark.parametrize("similarity", ["dot", "scaled_dot", "cosine", "bilinear", "additive"])
def test_multi_head_attention_takes_any_similarity(similarity):
  layer = layers.MultiHeadAttention(N, similarity=similarity)
  variables = initialise(layer, X)
  p = variables["params"]
  own = {k: np.asarray(v, np.float64) for k, v in p.get("similarity", {}).items()}
  logits = {
    "dot": lambda q, k: q @ k.swapaxes(-1, -2),
    "scaled_dot": scaled,
    "cosine": lambda q, k: unit(q) @ unit(k).swapaxes(-1, -2) * np.exp(own["scale"])[None, :, None, None],
    "bilinear": lambda q, k: q @ own["weight"] @ k.swapaxes(-1, -2),
    "additive": lambda q, k: (
      np.tanh((q @ own["query_weight"])[:, :, :, None] + (k @ own["key_weight"])[:, :, None])
      * own["vector"][None, :, None, None]
    ).sum(-1),
  }[similarity]
  np.testing.assert_allclose(apply(layer, variables, X), by_hand(p, X, X, logits)[0], atol=3e-5)


def test_clipped_relations_equal_the_literal_form_in_the_layer():
  """A vector for every pair, added to the keys and to the values: [b, n, q, k, d]."""
  layer = layers.MultiHeadAttention(N, clip=1)
  variables = initialise(layer, X)
  p = variables["params"]
  index = np.clip(np.arange(T)[None] - np.arange(T)[:, None], -1, 1) + 1
  keys, values = (np.asarray(p[name], np.float64)[index] for name in ("key_shifts", "value_shifts"))

  def logits(query, key):
    return np.einsum("bnqd,bnqkd->bnqk", query, key[:, :, None] + keys[None, None]) / np.sqrt(3)

  np.testing.assert_allclose(apply(layer, variables, X), by_hand(p, X, X, logits, values=values)[0], atol=3e-5)
  without = {"params": p | {name: jnp.zeros_like(p[name]) for name in ("key_shifts", "value_shifts")}}
  plain = {"params": {k: v for k, v in p.items() if "shifts" not in k}}
  np.testing.assert_allclose(layer.apply(without, X), apply(layers.MultiHeadAttention(N), plain, X), atol=1e-6)


def test_clip_zero_changes_the_output_by_a_constant_only():
  layer = layers.MultiHeadAttention(N, clip=0)
  p = initialise(layer, X)["params"]
  plain = {"params": {k: v for k, v in p.items() if "shifts" not in k}}
  shift = apply(layer, {"params": p}, X) - apply(layers.MultiHeadAttention(N), plain, X)
  constant = np.einsum("d,ndo->o", p["value_shifts"][0], p["out"]["kernel"])
  np.testing.assert_allclose(shift, np.broadcast_to(constant, shift.shape), atol=2e-5)


def test_cross_attention_reads_the_context_alone():
  context = image(B, 4, 7, seed=3)
  layer = layers.CrossAttention(N, width=4, out_width=5)
  variables = initialise(layer, X, context)
  out, seen = apply(layer, variables, X, context, mutable=["intermediates"])
  wanted, weights = by_hand(variables["params"], X, context, scaled)
  np.testing.assert_allclose(out, wanted, atol=2e-5)
  np.testing.assert_allclose(seen["intermediates"]["attention"][0], weights, atol=1e-5)
  same = apply(layers.MultiHeadAttention(N, width=4, out_width=5), variables, X, context)
  np.testing.assert_array_equal(same, out)


def test_masks_join_and_a_token_that_sees_nothing_gets_the_bias():
  layer = layers.MultiHeadAttention(N, causal=True)
  variables = initialise(layer, X)
  mask = ops.padding_mask(jnp.array([0, 3]), T)
  out, seen = apply(layer, variables, X, mask=mask, mutable=["intermediates"])
  bias = variables["params"]["out"]["bias"]
  np.testing.assert_allclose(out[0], np.broadcast_to(bias, (T, C)), atol=1e-6)
  allowed = np.asarray(mask) & np.tri(T, dtype=bool)
  wanted = by_hand(variables["params"], X[1:], X[1:], scaled, allowed[1:])[0]
  np.testing.assert_allclose(out[1:], wanted, atol=2e-5)
  assert not np.asarray(seen["intermediates"]["attention"][0])[np.broadcast_to(~allowed, (B, N, T, T))].any()


def test_concatenating_heads_is_summing_them_and_their_order_does_not_matter():
  layer = layers.MultiHeadAttention(N)
  p = initialise(layer, X)["params"]
  order = np.array([1, 0])
  axis = {"kernel": 1, "bias": 0}
  swapped = {
    part: {leaf: jnp.take(a, order, 0 if part == "out" else axis[leaf]) for leaf, a in p[part].items()}
    for part in ("query", "key", "value")
  }
  swapped["out"] = {"kernel": p["out"]["kernel"][order], "bias": p["out"]["bias"]}
  np.testing.assert_allclose(apply(layer, {"params": swapped}, X), apply(layer, {"params": p}, X), atol=1e-5)


def test_absolute_positions_are_added():
  np.testing.assert_allclose(apply(layers.SinusoidalPositions(), {}, X), X + ops.sinusoids(T, C)[None], atol=1e-6)
  layer = layers.LearnedPositions(7)
  variables = initialise(layer, X)
  np.testing.assert_array_equal(apply(layer, variables, X), X + variables["params"]["table"][None, :T])
  with pytest.raises(ValueError, match="the sequence is 8 long, but must be at most length = 7"):
    apply(layer, variables, image(1, 8, C))


@pytest.mark.parametrize(
  ("layer", "arguments", "message"),
  [
    (layers.MultiHeadAttention(4), {}, "width is 6, but must be a multiple of num_heads = 4"),
    (layers.MultiHeadAttention(2, similarity="l2"), {}, "similarity is 'l2', but must be one of 'dot', "),
    (layers.MultiHeadAttention(2, clip=3), {"context": X}, "clip is 3 with a context"),
    (layers.MultiHeadAttention(2, clip=3, similarity="dot"), {}, "clip is 3 with similarity 'dot'"),
    (layers.MultiHeadAttention(2), {"context": X[:1]}, r"'context' has shape \(1, 5, 6\), but must be .* b = 2"),
    (layers.MultiHeadAttention(2), {"mask": np.ones((2, 5, 5), bool)}, r"'mask' has shape \(2, 5, 5\), but must be"),
    (layers.MultiHeadAttention(2), {"mask": np.ones((1, 1, 5, 4), bool)}, r"'mask' has shape .*k = 5"),
  ],
)
def test_bad_input_gets_one_error_with_both_values(layer, arguments, message):
  with pytest.raises((ValueError, AssertionError), match=message):
    initialise(layer, X, **arguments)


@pytest.mark.parametrize(
  "mask, told",
  [
    (np.ones((5, 5), bool), r"has shape \(5, 5\), but must be \[b, n, q, k\] with b = 5, n = 2, q = 5, k = 5"),
    (np.ones((1, 1, 1, 3), bool), r"has shape \(1, 1, 1, 3\)"),
    (np.ones((5, 1, 1, 5), np.float32), "is float32, but must be bool"),
  ],
)
@pytest.mark.parametrize("causal", [False, True])
def test_a_mask_that_does_not_fit_is_refused_with_and_without_causality(mask, told, causal):
  x = jnp.ones((5, 5, 4))
  with pytest.raises(AssertionError, match=told):
    jax.eval_shape(lambda x: layers.MultiHeadAttention(2, causal=causal).init(jax.random.key(0), x, mask=mask), x)
