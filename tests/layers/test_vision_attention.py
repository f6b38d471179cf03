"""Attention as a block of vision models: SAGAN, augmented convolution, local attention, windows."""

import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from convattn import layers, ops

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import by_hand
from by_hand import apply, image, initialise

B, H, W, C = 2, 4, 6, 8
X = image(B, H, W, C)


def softmax(logits):
  terms = np.exp(logits - logits.max(-1, keepdims=True))
  return terms / terms.sum(-1, keepdims=True)


def project(p, x=X):
  """[b, n, h, w, d]."""
  return np.einsum("bhwc,cnd->bnhwd", np.asarray(x, np.float64), p["kernel"])


@pytest.mark.parametrize("form", ["paper", "code"])
def test_sagan_equals_its_equation(form):
  layer = layers.SAGANAttention(**layers.SAGAN_FORMS[form])
  variables = initialise(layer, X)
  p = variables["params"]
  query, key, value = (project(p[part])[:, 0] for part in ("query", "key", "value"))
  assert value.shape[-1] == {"paper": 1, "code": 4}[form]
  if form == "code":
    key, value = (by_hand.pool(a, "max", 2) for a in (key, value))
  query, key, value = (a.reshape(B, -1, a.shape[-1]) for a in (query, key, value))
  weights = softmax(query @ key.swapaxes(1, 2))
  branch = (weights @ value @ p["out"]["kernel"][0]).reshape(X.shape)
  out, seen = apply(layer, variables, X, mutable=["intermediates"])
  np.testing.assert_allclose(out, np.asarray(X) + float(p["gamma"]) * branch, atol=2e-5)
  np.testing.assert_allclose(seen["intermediates"]["attention"][0][:, 0], weights, atol=1e-5)


def conv_by_hand(x, kernel):
  padded = np.pad(np.asarray(x, np.float64), [(0, 0), (1, 1), (1, 1), (0, 0)])
  return sum(padded[:, i : i + H, j : j + W] @ np.asarray(kernel)[i, j] for i, j in np.ndindex(3, 3))


def test_augmented_convolution_equals_its_equation():
  layer = layers.AugmentedConv(7, key_width=4, value_width=6, num_heads=2)
  variables = initialise(layer, X)
  p = variables["params"]
  query, key, value = (project(p[part]).reshape(B, 2, H * W, -1) for part in ("query", "key", "value"))
  place = np.stack(np.divmod(np.arange(H * W), W), -1)
  shift = place[None] - place[:, None]
  rows, columns = (np.asarray(p["position"][name], np.float64) for name in ("rows", "columns"))
  relative = rows[shift[..., 0] + H - 1] + columns[shift[..., 1] + W - 1]
  logits = query @ key.swapaxes(-1, -2) + np.einsum("bnqd,qkd->bnqk", query, relative)
  heads = softmax(logits / np.sqrt(2)) @ value
  attention = np.einsum("bnqd,ndo->bqo", heads, p["out"]["kernel"]) + np.asarray(p["out"]["bias"])
  wanted = np.concatenate([conv_by_hand(X, p["conv"]["kernel"]), attention.reshape(B, H, W, 6)], -1)
  np.testing.assert_allclose(apply(layer, variables, X), wanted, atol=5e-5)


def test_augmented_convolution_without_attention_is_the_convolution_and_without_convolution_attention():
  layer = layers.AugmentedConv(5, key_width=4, value_width=0, num_heads=2)
  variables = initialise(layer, X)
  assert set(variables["params"]) == {"conv"}
  conv = apply(layers.Conv(5), {"params": variables["params"]["conv"]}, X)
  np.testing.assert_array_equal(apply(layer, variables, X), conv)
  with pytest.raises(AssertionError, match=r"'x' has shape \(2, 4, 6, 7\), but must be \[b, h, w, 8\]"):
    apply(layer, variables, X[..., 1:])
  layer = layers.AugmentedConv(6, key_width=4, value_width=6, num_heads=2)
  variables = initialise(layer, X)
  assert "conv" not in variables["params"]
  assert apply(layer, variables, X).shape == (B, H, W, 6)


def test_local_attention_equals_a_loop_over_each_window():
  heads, window = 2, 3
  layer = layers.LocalAttention(heads, window)
  variables = initialise(layer, X)
  p = variables["params"]
  query, key, value = (project(p[part]) for part in ("query", "key", "value"))
  out = np.zeros((B, H, W, heads, C // heads))
  for b, n, y, x in np.ndindex(B, heads, H, W):
    near = [(i, j) for i in range(y - 1, y + 2) for j in range(x - 1, x + 2) if 0 <= i < H and 0 <= j < W]
    shifts = [np.concatenate([p["rows"][i - y + 1], p["columns"][j - x + 1]]) for i, j in near]
    logits = [query[b, n, y, x] @ (key[b, n, i, j] + s) for (i, j), s in zip(near, shifts, strict=True)]
    weights = softmax(np.array(logits))
    out[b, y, x, n] = sum(a * value[b, n, i, j] for a, (i, j) in zip(weights, near, strict=True))
  np.testing.assert_allclose(apply(layer, variables, X), out.reshape(X.shape), atol=5e-5)


def as_relative(p):
  """Parameters of RelativeAttention, whose key has a bias."""
  heads, size = p["key"]["kernel"].shape[1:]
  return {"params": p | {"key": p["key"] | {"bias": jnp.zeros((heads, size))}}}


@pytest.mark.parametrize("shift", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_one_window_is_attention_over_the_image(shift):
  x = image(B, 3, 3, C)
  layer = layers.WindowAttention(2, window=3, shift=shift)
  variables = initialise(layer, x)
  wanted = apply(layers.RelativeAttention(2), as_relative(variables["params"]), x)
  np.testing.assert_allclose(apply(layer, variables, x), wanted, atol=1e-5)


@pytest.mark.parametrize(
  ("shift", "grid"),
  [(0, (3, 5)), (1, (4, 6)), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((0, (4, 6)), (1, (5, 3))))],
)
def test_windows_equal_full_attention_under_a_literal_mask(shift, grid):
  """Pixels meet where the shifted grid of windows puts them into one cell."""
  h, w = grid
  x = image(B, h, w, C)
  layer = layers.WindowAttention(2, window=2, shift=shift)
  variables = initialise(layer, x)
  p = variables["params"]
  row, column = np.divmod(np.arange(h * w), w)
  cell = [(place - shift) // 2 for place in (row, column)]
  meet = np.all([a[None] == a[:, None] for a in cell], 0)
  offset = [np.clip(a[None] - a[:, None], -1, 1) + 1 for a in (row, column)]
  bias = p["bias_table"][:, offset[0], offset[1]]
  tokens = x.reshape(B, h * w, C)
  query, key, value = (
    jnp.einsum("btc,cnd->btnd", tokens, p[part]["kernel"]) + p[part].get("bias", jnp.zeros((2, 4)))[None, None]
    for part in ("query", "key", "value")
  )
  out, _ = ops.attend(query, key, value, bias=bias, mask=meet[None, None])
  wanted = jnp.einsum("btnd,ndo->bto", out, p["out"]["kernel"]) + p["out"]["bias"][None, None]
  np.testing.assert_allclose(apply(layer, variables, x), wanted.reshape(x.shape), atol=1e-5)


@pytest.mark.parametrize(
  ("layer", "message"),
  [
    (layers.SAGANAttention(reduction=3), "the input has 8 channels, but must have a multiple of reduction = 3"),
    (layers.AugmentedConv(7, 5, 4, 2), "key_width is 5, but must be a multiple of num_heads = 2"),
    (layers.AugmentedConv(7, 4, 5, 2), "value_width is 5, but must be a multiple of num_heads = 2"),
    (layers.AugmentedConv(7, 4, 8, 2), "value_width is 8, but must be from 0 to width = 7"),
    (layers.LocalAttention(3), "width is 8, but must be a multiple of num_heads = 3"),
    (layers.LocalAttention(8), "each head is 1 wide, but must be even"),
    (layers.LocalAttention(2, window=4), "window is 4, but must be odd"),
    (layers.WindowAttention(3, 2), "width is 8, but must be a multiple of num_heads = 3"),
    (layers.WindowAttention(2, 2, shift=2), "shift is 2, but must be at least 0 and less than window = 2"),
  ],
)
def test_a_vision_layer_refuses_bad_fields(layer, message):
  with pytest.raises(ValueError, match=message):
    initialise(layer, X)
