"""Every layer that attends: its map has the weights that make its output, computed by hand from its parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.analysis.attending import (
  CASES,
  IMAGES,
  LOCAL,
  MASK,
  WINDOWS,
  contributions,
  drawn,
  looked_at,
  of_attention,
  output,
)


@pytest.mark.parametrize("name", CASES)
def test_the_weights_make_the_output(name):
  case, (params, out, found) = CASES[name], looked_at(name)
  weights = np.nan_to_num(found.dense().astype(np.float64))
  expected = output(params, case, found, weights)
  np.testing.assert_allclose(of_attention(case, out), expected, rtol=1e-4, atol=1e-5)
  lengths = np.linalg.norm(contributions(params, case, found)[0], axis=-1)
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
