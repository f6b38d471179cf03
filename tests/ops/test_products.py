"""Attention by position alone, along rows and columns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import equivalence, ops
from convattn.ops import attend_pairs, attend_row_column, pair_weights

ROWS, COLUMNS = (2, 3, 4, 5), (2, 3, 6, 7)  # heads, terms, outputs, keys


def draw(*shape):
  return jnp.asarray(np.random.default_rng(shape).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("terms", [1, 3])
def test_products_along_the_axes_are_products_with_their_weights(terms):
  rows, columns, x = draw(*ROWS)[:, :terms], draw(*COLUMNS)[:, :terms], draw(2, 5, 7, 3)
  weights = pair_weights(rows, columns)
  np.testing.assert_allclose(
    weights[1, 2 * 6 + 1, 4 * 7 + 3], jnp.sum(rows[1, :, 2, 4] * columns[1, :, 1, 3]), rtol=1e-5
  )
  expected = attend_pairs(weights, x.reshape(2, 35, 3)).reshape(2, 4, 6, 2, 3)
  found = jax.jit(attend_row_column)(rows, columns, x)
  assert found.shape == expected.shape
  np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def softmax(logits):
  return jax.nn.softmax(logits, axis=-1)


def test_logits_that_are_a_sum_over_the_axes_have_weights_that_are_a_product():
  rows, columns = draw(2, 4, 5), draw(2, 6, 7)
  both = rows[:, :, None, :, None] + columns[:, None, :, None, :]
  expected = softmax(both.reshape(2, 24, 35))
  np.testing.assert_allclose(pair_weights(softmax(rows)[:, None], softmax(columns)[:, None]), expected, rtol=1e-5)
  uneven = both.at[:, 0, 0, 0, 0].add(9)  # a logit of its own: no longer a sum
  weights = softmax(uneven.reshape(2, 24, 35))
  assert np.abs(weights - expected).max() > 0.01


def test_the_cost_is_that_of_the_axes():
  def flops(fn, *shapes):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(fn).lower(*arguments).cost_analysis()["flops"]

  n, c = 4, 8
  for h, w in ((6, 10), (12, 20)):
    along = flops(attend_row_column, (n, 1, h, h), (n, 1, w, w), (1, h, w, c))
    pairs = flops(attend_pairs, (n, h * w, h * w), (1, h * w, c))
    assert along == pytest.approx(2 * n * c * h * w * (h + w), rel=0.05)
    assert pairs == pytest.approx(2 * n * c * (h * w) ** 2, rel=0.05)


def test_equivalence_offers_them_too():
  for name in ("attend_pairs", "attend_row_column", "pair_weights"):
    assert getattr(equivalence, name) is getattr(ops, name)
