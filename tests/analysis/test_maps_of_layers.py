"""Every layer that attends: its map has the weights that make its output, computed by hand from its parameters."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import layers
from convattn.analysis import attention_maps
from convattn.layers.grid_positions import GRID_POSITIONS

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((2, 5, 6, 8)).astype(np.float32)
TOKENS = RNG.standard_normal((2, 7, 8)).astype(np.float32)
CONTEXT = RNG.standard_normal((2, 4, 5)).astype(np.float32)
MASK = (RNG.random((2, 1, 7, 7)) < 0.7) | np.eye(7, dtype=bool)


@dataclasses.dataclass(frozen=True)
class Case:
  layer: nn.Module
  x: Any = dataclasses.field(default_factory=lambda: IMAGES)
  others: tuple[Any, ...] = ()
  options: dict[str, Any] = dataclasses.field(default_factory=dict)
  modes: tuple[str, ...] = ("probabilities", "logits", "content", "position", "norm_weighted")


BY_CONTENT = ("probabilities", "logits", "content", "norm_weighted")
BY_POSITION = ("probabilities", "logits", "position", "norm_weighted")
relative, grid = functools.partial(layers.RelativeAttention, 2), functools.partial(layers.GridAttention, 2)
tokens = functools.partial(layers.MultiHeadAttention, 2)
CASES = {
  "relative": Case(relative(out_width=5)),
  "relative post": Case(relative(relative="post"), modes=BY_CONTENT),
  "relative none": Case(relative(relative="none"), modes=BY_CONTENT),
  "relative mlp": Case(relative(position="mlp", position_hidden=4)),
  "relative by centre": Case(relative(position=GRID_POSITIONS["predicted_centre"])),
  **{f"grid {name}": Case(grid(name, width=4)) for name in GRID_POSITIONS},
  **{f"only {name}": Case(grid(name, content=False), modes=BY_POSITION) for name in GRID_POSITIONS},
  "grid none": Case(grid("none"), modes=BY_CONTENT),
  "gated": Case(layers.GatedPositionalAttention(4), modes=("probabilities", "content", "position", "norm_weighted")),
  "augmented": Case(layers.AugmentedConv(10, 4, 6, 2)),
  "sagan": Case(layers.SAGANAttention(4, 2), modes=BY_CONTENT),
  "sagan pooled": Case(layers.SAGANAttention(4, 2, pool=2), modes=BY_CONTENT),
  "sagan pooled by 3": Case(layers.SAGANAttention(4, 2, pool=3), modes=BY_CONTENT),
  "local": Case(layers.LocalAttention(2, 3)),
  "local, larger than the image": Case(layers.LocalAttention(2, 7, width=12)),
  "windows": Case(layers.WindowAttention(2, 3)),
  "shifted windows": Case(layers.WindowAttention(2, 4, shift=1)),
  "one shifted window": Case(layers.WindowAttention(2, 6, shift=2)),
  "self": Case(layers.SelfAttention(6), TOKENS, modes=BY_CONTENT),
  "self cosine, masked": Case(layers.SelfAttention(6, "cosine"), TOKENS, options={"mask": MASK}, modes=BY_CONTENT),
  "heads": Case(tokens(out_width=3, similarity="additive"), TOKENS, modes=BY_CONTENT),
  "causal": Case(tokens(causal=True), TOKENS, options={"mask": MASK}, modes=BY_CONTENT),
  "clipped": Case(tokens(clip=2), TOKENS),
  "clipped beyond, causal": Case(tokens(clip=9, causal=True), TOKENS),
  "cross": Case(layers.CrossAttention(2, 6, 3), TOKENS, (CONTEXT,), modes=BY_CONTENT),
}
WINDOWS = ("windows", "shifted windows", "one shifted window")
LOCAL = ("local", "local, larger than the image")


def drawn(case):
  init = functools.partial(case.layer.init, **case.options)
  shapes = jax.eval_shape(init, jax.random.key(0), case.x, *case.others)
  rng = np.random.default_rng(2)
  return jax.tree.map(lambda leaf: np.asarray(0.4 * rng.standard_normal(leaf.shape), np.float32), shapes)


@functools.cache
def looked_at(name):
  """(parameters in float64, output, map) of a case."""
  case = CASES[name]
  variables = drawn(case)
  out = jax.jit(case.layer.apply)(variables, case.x, *case.others, **case.options)
  (found,) = attention_maps(case.layer, variables, case.x, *case.others, **case.options)
  return jax.tree.map(np.float64, variables["params"]), np.asarray(out), found


def values(params, case, found):
  """[b, k, n, e] and, for vectors of shifts, [q, k, e] beside it."""
  seen = case.others[0] if case.others else case.x
  made = np.einsum("...c,cne->...ne", seen.astype(np.float64), params["value"]["kernel"])
  made = made + params["value"].get("bias", 0)
  if isinstance(case.layer, layers.SAGANAttention):  # the largest in the box of each key
    boxes = found.key_grid.boxes().astype(int)
    made = np.stack([made[:, top:bottom, left:right].max((1, 2)) for top, left, bottom, right in boxes], axis=1)
  made = made.reshape(len(made), -1, *made.shape[-2:])
  if "value_shifts" not in params:
    return made, np.zeros((1, made.shape[1], made.shape[-1]))
  clip, places = case.layer.clip, np.arange(made.shape[1])
  return made, params["value_shifts"][np.clip(places[None] - places[:, None], -clip, clip) + clip]


@pytest.mark.parametrize("name", CASES)
def test_the_weights_make_the_output(name):
  case = CASES[name]
  params, out, found = looked_at(name)
  made, shifts = values(params, case, found)
  heads, size = made.shape[-2:]
  kernel = params["out"]["kernel"] if "out" in params else np.eye(heads * size).reshape(heads, size, -1)
  weights = np.nan_to_num(found.dense().astype(np.float64))
  vectors = made[:, None] + shifts[..., None, :]  # [b, q or 1, k, n, e]
  behind = np.einsum("bqkne,neo->bnqko", vectors, kernel)
  seen = np.einsum("bnqk,bnqko->bqo", weights, np.broadcast_to(behind, (*weights.shape, kernel.shape[-1])))
  expected = seen + params.get("out", {}).get("bias", 0)
  if isinstance(case.layer, layers.SAGANAttention):
    expected = case.x.reshape(expected.shape) + params["gamma"] * expected
  actual = out[..., -case.layer.value_width :] if isinstance(case.layer, layers.AugmentedConv) else out
  np.testing.assert_allclose(actual.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)

  lengths = np.linalg.norm(behind, axis=-1)
  np.testing.assert_allclose(np.nan_to_num(found.dense("norm_weighted")), weights * lengths, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_the_parts_make_the_weights(name):
  case = CASES[name]
  params, _, found = looked_at(name)
  assert found.modes == case.modes
  assert found.layer == type(case.layer).__name__
  queries = found.query_grid.cells
  assert found.probabilities.shape[:3] == (2, found.num_heads, queries)
  parts = [getattr(found, mode) for mode in ("content", "position") if mode in found.modes]
  if name == "gated":
    gate = found.gate[None, :, None, None]
    np.testing.assert_allclose(found.gate, 1 / (1 + np.exp(-params["gate"])), rtol=1e-5)
    expected = (1 - gate) * jax.nn.softmax(found.content) + gate * jax.nn.softmax(found.position)
  else:
    np.testing.assert_allclose(sum(parts), found.logits, rtol=1e-5, atol=1e-5)
    expected = jax.nn.softmax(found.logits)
  if name == "relative post":  # the table is added behind the softmax
    row, column = np.divmod(np.arange(30), 6)
    table = params["bias_table"][:, row[None] - row[:, None] + 4, column[None] - column[:, None] + 5]
    expected = np.asarray(expected) + table
  else:
    np.testing.assert_allclose(found.probabilities.sum(-1), 1, rtol=1e-5)
  np.testing.assert_allclose(found.probabilities, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in CASES if name not in (*WINDOWS, *LOCAL)])
def test_the_weights_are_those_that_are_sown(name):
  case = CASES[name]
  run = jax.jit(functools.partial(case.layer.apply, mutable=["intermediates"]))
  _, seen = run(drawn(case), case.x, *case.others, **case.options)
  (sown,) = seen["intermediates"]["attention"]
  _, _, found = looked_at(name)
  np.testing.assert_allclose(
    found.probabilities, np.broadcast_to(sown, found.probabilities.shape), rtol=1e-5, atol=1e-7
  )


def together(name):
  """[q, k]: which pixels see each other, said without windows."""
  layer = CASES[name].layer
  row, column = np.divmod(np.arange(30), 6)
  near = np.ones((30, 30), bool)
  for place, size in ((row, 5), (column, 6)):
    if name in LOCAL:
      near &= np.abs(place[None] - place[:, None]) <= layer.window // 2
    else:
      part = (place - (layer.shift if size > layer.window else 0)) // layer.window
      near &= part[None] == part[:, None]
  return near


@pytest.mark.parametrize("name", [*WINDOWS, *LOCAL])
def test_windows_are_attention_under_a_mask(name):
  """A softmax over the whole image of which a query sees its part; logits by hand."""
  layer, (params, _, found) = CASES[name].layer, looked_at(name)
  query, key = (
    np.einsum("bhwc,cnd->bhwnd", IMAGES, part["kernel"]) + part.get("bias", 0)
    for part in (params["query"], params["key"])
  )
  query, key = (each.reshape(2, 30, *each.shape[-2:]) for each in (query, key))
  row, column = np.divmod(np.arange(30), 6)
  shift = (row[None] - row[:, None], column[None] - column[:, None])
  if name in LOCAL:
    inside = [np.clip(each + layer.window // 2, 0, layer.window - 1) for each in shift]
    vectors = np.concatenate([params["rows"][inside[0]], params["columns"][inside[1]]], -1)  # [q, k, d]
    content, position = np.einsum("bqnd,bknd->bnqk", query, key), np.einsum("bqnd,qkd->bnqk", query, vectors)
  else:
    inside = [np.clip(each + layer.window - 1, 0, 2 * layer.window - 2) for each in shift]
    content = np.einsum("bqnd,bknd->bnqk", query, key) / query.shape[-1] ** 0.5
    position = np.broadcast_to(params["bias_table"][:, inside[0], inside[1]], content.shape)
  seen = np.broadcast_to(together(name), content.shape)
  expected = jax.nn.softmax(jnp.where(seen, content + position, -jnp.inf))
  for mode, array in {"content": content, "position": position, "probabilities": expected}.items():
    dense = found.dense(mode)
    np.testing.assert_array_equal(np.isnan(dense), ~seen)
    np.testing.assert_allclose(dense[seen], np.asarray(array)[seen], rtol=1e-4, atol=1e-5)


def test_masked_pairs_have_no_logit():
  allowed = np.broadcast_to(MASK & np.tri(7, dtype=bool), (2, 2, 7, 7))
  _, _, found = looked_at("causal")
  for mode in ("logits", "content"):
    np.testing.assert_array_equal(np.isneginf(getattr(found, mode)), ~allowed)
  assert (found.probabilities[~allowed] == 0).all() and (found.probabilities[allowed] > 0).all()


def test_a_masked_window_has_no_key():
  _, _, found = looked_at("shifted windows")
  assert found.key_cells.shape == (30, 16)
  np.testing.assert_array_equal(np.isneginf(found.logits[0, 0]), found.key_cells < 0)
  assert (found.key_cells == np.arange(30)[:, None]).sum() == 30  # each sees itself once


def test_without_content_all_images_are_alike():
  _, _, found = looked_at("only quadratic")
  assert found.probabilities.strides[0] == 0 and found.norm_weighted.strides[0] > 0
  _, _, predicted = looked_at("only predicted_centre")
  assert np.abs(predicted.probabilities[0] - predicted.probabilities[1]).max() > 1e-3
