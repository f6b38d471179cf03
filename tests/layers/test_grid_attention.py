"""Attention over pixels: every kind of position against NumPy, and the gate of GPSA."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import layers, ops

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from by_hand import apply, image, initialise, sigmoid

B, H, W, C, N = 2, 3, 4, 6, 2
X = image(B, H, W, C)
PLACE = np.stack(np.divmod(np.arange(H * W), W), -1)
SHIFT = PLACE[None] - PLACE[:, None]  # [q, k, 2], key - query
POSITIONS = ("row_column", "quadratic", "elliptic", "predicted_centre")


def softmax(logits):
  terms = np.exp(logits - logits.max(-1, keepdims=True))
  return terms / terms.sum(-1, keepdims=True)


def project(p, x=X):
  out = np.einsum("bhwc,cnd->bnhwd", np.asarray(x, np.float64), p["kernel"]).reshape(x.shape[0], N, H * W, -1)
  return out + np.asarray(p.get("bias", np.zeros((N, 1))))[None, :, None]


def bias_by_hand(kind, p, query):
  p = {k: np.asarray(v, np.float64) if not hasattr(v, "keys") else v for k, v in p.items()}
  if kind == "row_column":
    vectors = p["rows"][SHIFT[..., 0] + H - 1] + p["columns"][SHIFT[..., 1] + W - 1]
    return np.einsum("bnqd,qkd->bnqk", query, vectors) / np.sqrt(query.shape[-1])
  if kind == "predicted_centre":
    hidden = np.tanh(np.asarray(X).reshape(B, H * W, C) @ p["hidden"]["kernel"])
    centre = sigmoid(np.einsum("bqc,cnr->bnqr", hidden, p["place"]["kernel"])) * [H - 1, W - 1]
    return -np.square(PLACE - centre[..., None, :]).sum(-1) / 8
  away = SHIFT[None] - p["centre"][:, None, None]
  if kind == "quadratic":
    return -np.square(p["spread"])[None, :, None, None] / 2 * np.square(away).sum(-1)[None]
  return -np.square(np.einsum("nij,nqkj->nqki", p["root"], away)).sum(-1)[None] / 2


@pytest.mark.parametrize("content", [True, False])
@pytest.mark.parametrize("kind", POSITIONS)
def test_equals_its_equation(kind, content):
  layer = layers.GridAttention(N, kind, content)
  variables = initialise(layer, X)
  p = variables["params"]
  assert ("query" in p) == content
  if content:
    query = project(p["query"])
    logits = query @ project(p["key"]).swapaxes(-1, -2) / np.sqrt(C // N)
  else:
    query = np.broadcast_to(np.asarray(p.get("head_query", np.zeros((N, 3))))[None, :, None], (1, N, H * W, 3))
    logits = 0
  weights = softmax(logits + bias_by_hand(kind, p["position"], query))
  out = np.einsum("bnqd,ndo->bqo", weights @ project(p["value"]), p["out"]["kernel"]) + np.asarray(p["out"]["bias"])
  ours, seen = apply(layer, variables, X, mutable=["intermediates"])
  np.testing.assert_allclose(ours, out.reshape(X.shape), atol=5e-5)
  np.testing.assert_allclose(seen["intermediates"]["attention"][0], weights, atol=2e-5)


def test_parameters_of_a_window_serve_every_grid_and_those_of_a_grid_say_so():
  for kind in POSITIONS[1:]:
    layer = layers.GridAttention(N, kind)
    out = jax.eval_shape(layer.apply, initialise(layer, X), image(1, 5, 2, C))
    assert out.shape == (1, 5, 2, C)
  layer = layers.GridAttention(N, "row_column")
  with pytest.raises(ValueError, match="the image has 5 rows, but the parameters belong to 3"):
    layer.apply(initialise(layer, X), image(1, 5, 4, C))


def gated(**changed):
  layer = layers.GatedPositionalAttention(N)
  p = initialise(layer, X)["params"]
  return apply(layer, {"params": p | changed}, X, mutable=["intermediates"]), p


def test_gpsa_equals_its_equation():
  (out, seen), p = gated()
  content = softmax(project(p["query"]) @ project(p["key"]).swapaxes(-1, -2) / np.sqrt(C // N))
  features = np.concatenate([SHIFT, np.square(SHIFT).sum(-1, keepdims=True)], -1)
  position = softmax(np.einsum("nr,qkr->nqk", np.asarray(p["position"], np.float64), features))
  gate = sigmoid(p["gate"])[None, :, None, None]
  weights = (1 - gate) * content + gate * position[None]
  np.testing.assert_allclose(seen["intermediates"]["attention"][0], weights, atol=1e-5)
  np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-12)
  wanted = np.einsum("bnqd,ndo->bqo", weights @ project(p["value"]), p["out"]["kernel"]) + np.asarray(p["out"]["bias"])
  np.testing.assert_allclose(out, wanted.reshape(X.shape), atol=5e-5)


def test_the_gate_of_gpsa_at_its_ends():
  zeros = {"kernel": jnp.zeros((C, N, C // N))}
  shut, open_ = jnp.full((N,), -30.0), jnp.full((N,), 30.0)
  (by_position, _), _ = gated(gate=open_)
  (other_content, _), _ = gated(gate=open_, query=zeros)
  np.testing.assert_allclose(other_content, by_position, atol=1e-6)
  (by_content, _), _ = gated(gate=shut)
  (other_position, _), _ = gated(gate=shut, position=jnp.ones((N, 3)))
  np.testing.assert_allclose(other_position, by_content, atol=1e-6)
  assert np.abs(by_position - by_content).max() > 0.01


@pytest.mark.parametrize(("num_heads", "locality"), [(9, 1.0), (4, 2.0), (5, 1.0)])
def test_gpsa_starts_as_the_quadratic_encoding(num_heads, locality):
  x = image(1, 4, 5, 4 * num_heads)
  layer = layers.GatedPositionalAttention(num_heads, locality)
  p = jax.jit(layer.init)(jax.random.key(0), x)["params"]
  side = int(num_heads**0.5)
  centre = np.array([divmod(head, side) for head in range(side**2)], np.float32) - (side - 1) / 2
  table = ops.quadratic_table(jnp.asarray(centre), jnp.full((side**2,), locality), (4, 5))
  wanted = ops.attention_weights(ops.relative_bias(table)[None])
  _, seen = apply(layer, {"params": p | {"gate": jnp.full((num_heads,), 40.0)}}, x, mutable=["intermediates"])
  weights = seen["intermediates"]["attention"][0]
  np.testing.assert_allclose(weights[:, : side**2], wanted, atol=1e-6)
  np.testing.assert_allclose(weights[:, side**2 :], 1 / 20, atol=1e-6)
  np.testing.assert_array_equal(p["value"]["kernel"].reshape(4 * num_heads, -1), np.eye(4 * num_heads))
  np.testing.assert_array_equal(p["gate"], 1)


@pytest.mark.parametrize(
  ("layer", "message"),
  [
    (layers.GridAttention(4, "quadratic"), "width is 6, but must be a multiple of num_heads = 4"),
    (layers.GridAttention(2, "table"), "position is 'table', but must be one of 'row_column', "),
    (layers.GridAttention(2, "none", content=False), "position is 'none' and content is False"),
    (layers.GatedPositionalAttention(4), "width is 6, but must be a multiple of num_heads = 4"),
  ],
)
def test_a_grid_layer_refuses_bad_fields(layer, message):
  with pytest.raises(ValueError, match=message):
    initialise(layer, X)
