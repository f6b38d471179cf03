"""Equations 1 to 3 of CoAtNet as one family."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_lax import convolution, difference, draw

from convattn.equivalence import attention_sum, relative_sum_after, relative_sum_before, static_sum

SIZE = (2, 3, 4, 5)
SHIFTS = (5, 7)


@pytest.fixture(autouse=True)
def _double():
  with jax.enable_x64(True):
    yield


def arrays():
  x, table = draw(*SIZE, dtype=np.float64), draw(*SHIFTS, dtype=np.float64)
  return x, table, jnp.broadcast_to(table[None], (SIZE[-1], *SHIFTS))


def written_out(x, table, weight):
  """y_i = sum_j weight(content_ij, w_{j-i}) x_j, pixel by pixel; content_ij are the logits x_i . x_j of all j."""
  x, table = np.asarray(x), np.asarray(table)
  _, h, w, _ = x.shape
  out = np.zeros_like(x)
  for b, i, j in np.ndindex(x.shape[:3]):
    content = x[b] @ x[b, i, j]
    static = np.array([[table[k - i + h - 1, m - j + w - 1] for m in range(w)] for k in range(h)])
    out[b, i, j] = np.einsum("km,kmc->c", weight(content, static), x[b])
  return out


def softmax(logits):
  return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


def test_each_is_its_equation():
  x, table, of_channels = arrays()
  expected = {
    "1": (static_sum(x, of_channels), lambda content, static: static),
    "2": (attention_sum(x, x, x), lambda content, static: softmax(content)),
    "3, after": (relative_sum_after(x, x, x, table), lambda content, static: softmax(content) + static),
    "3, before": (relative_sum_before(x, x, x, table), lambda content, static: softmax(content + static)),
  }
  for name, (found, weight) in expected.items():
    assert difference(found, written_out(x, table, weight)) < 1e-12, name


def test_the_static_sum_is_a_depthwise_convolution_of_the_whole_grid():
  x, _, _ = arrays()
  table = draw(5, *SHIFTS, dtype=np.float64)
  kernel = jnp.moveaxis(table, 0, -1)[:, :, None]
  assert difference(static_sum(x, table), convolution(x, kernel, padding="SAME", groups=5)) < 1e-12
  flipped = static_sum(x, table[:, ::-1, ::-1])  # the paper's sign
  assert difference(flipped, convolution(x, kernel, padding="SAME", groups=5)) > 0.1


def test_after_the_softmax_attention_and_convolution_add_up():
  x, table, of_channels = arrays()
  rest = relative_sum_after(x, x, x, table) - attention_sum(x, x, x)
  assert difference(rest, static_sum(x, of_channels)) < 1e-12
  before = relative_sum_before(x, x, x, table) - attention_sum(x, x, x)
  assert difference(before, static_sum(x, of_channels)) > 0.1


def test_before_the_softmax_and_without_content_it_is_an_averaging_convolution():
  x, table, of_channels = arrays()
  zero = jnp.zeros_like(x)
  found = relative_sum_before(zero, zero, x, table)
  shares = jnp.exp(of_channels)
  assert difference(found, static_sum(x, shares) / static_sum(jnp.ones_like(x), shares)) < 1e-12


def test_without_a_table_all_are_attention():
  x, table, _ = arrays()
  for each in (relative_sum_before, relative_sum_after):
    assert difference(each(x, x, x, 0 * table), attention_sum(x, x, x)) < 1e-12


def test_another_table_is_refused():
  x, table, of_channels = arrays()
  with pytest.raises(ValueError, match=r"table has shape \(1, 5, 6\), but images \(2, 3, 4, 5\) need \(5, 7\) shifts"):
    relative_sum_before(x, x, x, table[:, :6])
  with pytest.raises(AssertionError, match="'table' has shape"):
    static_sum(x, of_channels[:3])
