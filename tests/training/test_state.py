import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.training.state import (
  count_nonfinite,
  debiased_share,
  no_nonfinite,
  sha256,
  update_average,
  warming_share,
)


@pytest.mark.parametrize("decay", [0.5, 0.9999])
def test_average_equals_its_closed_form(decay):
  values = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
  average = {"w": jnp.full(3, jnp.float32(123))}  # whatever it starts from
  for count, value in enumerate(values, 1):
    average = update_average(average, {"w": jnp.asarray(value)}, debiased_share(decay, jnp.int32(count)))
    weights = decay ** np.arange(count - 1, -1, -1, dtype=np.float64)
    expected = np.einsum("k,kc->c", weights, values[:count].astype(np.float64)) / weights.sum()
    np.testing.assert_allclose(average["w"], expected, rtol=1e-4, atol=1e-5)


def warmed(values, decay):
  """The averages after each value, from something that must leave no trace."""
  step = jax.jit(lambda average, value, count: update_average(average, value, warming_share(decay, count)))
  averages = [jnp.full_like(values[0], 123)]
  for count, value in enumerate(values, 1):
    averages.append(step(averages[-1], jnp.asarray(value), jnp.int32(count)))
  return np.stack(averages[1:])


@pytest.mark.parametrize("decay", [0.05, 0.5, 0.9, 0.9999])
def test_an_average_that_warms_up_is_a_mean_whose_weights_sum_to_one(decay):
  """By the products of all decays, in float64; on constants, on a line and on noise, past the end of the warm-up."""
  count = 120
  number = np.arange(1, count + 1)
  decays = np.minimum(decay, (number - 1) / (number + 8))
  assert (decays[-1] == decay) == (decay <= 0.9)  # n reaches 82 for 0.9, and never what 0.9999 takes
  weights = np.zeros((count, count))
  for n, k in zip(*np.tril_indices(count), strict=True):
    weights[n, k] = (1 - decays[k]) * np.prod(decays[k + 1 : n + 1])
  np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-12)
  noise = np.random.default_rng(0).normal(size=count)
  values = np.stack([np.full(count, 3.7), number, noise], 1).astype(np.float32)
  averages = warmed(values, decay)
  np.testing.assert_allclose(averages, weights @ values.astype(np.float64), rtol=2e-5, atol=2e-6)


def test_while_it_warms_up_its_weights_are_binomials_and_it_lies_a_tenth_behind():
  count = 60
  weights = [math.comb(k + 7, 8) / math.comb(count + 8, 9) for k in range(1, count + 1)]
  noise = np.random.default_rng(0).normal(size=count).astype(np.float32)
  line = np.arange(1, count + 1, dtype=np.float32)
  averages = warmed(np.stack([noise, line], 1), 0.9999)
  np.testing.assert_allclose(averages[-1], [noise.astype(np.float64) @ weights, 0.9 * count + 0.1], rtol=1e-5)


def test_average_takes_integers_over_and_keeps_dtypes():
  old = {"count": jnp.int32(3), "half": jnp.zeros(2, jnp.bfloat16)}
  new = {"count": jnp.int32(8), "half": jnp.ones(2, jnp.bfloat16)}
  average = update_average(old, new, debiased_share(0.5, jnp.int32(2)))
  assert average["count"] == 8
  assert average["half"].dtype == jnp.bfloat16


def test_sha256_depends_on_path_dtype_shape_and_bytes_and_on_nothing_else():
  base = {"a": {"w": jnp.arange(6, dtype=jnp.float32)}, "n": jnp.int32(0)}
  others = [
    {"b": {"w": jnp.arange(6, dtype=jnp.float32)}, "n": jnp.int32(0)},
    {"a": {"w": jnp.arange(6, dtype=jnp.float32).reshape(2, 3)}, "n": jnp.int32(0)},
    {"a": {"w": jnp.arange(6, dtype=jnp.float32)}, "n": jnp.uint32(0)},
    {"a": {"w": jnp.arange(6, dtype=jnp.float32).at[3].set(3.0000002)}, "n": jnp.int32(0)},
  ]
  prints = [sha256(tree) for tree in [base, *others]]
  assert len(set(prints)) == len(prints)
  assert sha256(jax.tree.map(np.asarray, base)) == prints[0]


def test_the_newest_eight_updates_that_were_not_finite_are_kept():
  counters, bad = no_nonfinite(), [3, 4, 7, 8, 9, 11, 12, 13, 20, 21]
  for number in range(1, 25):
    counters = count_nonfinite(counters, finite=jnp.bool_(number not in bad), number=jnp.int32(number))
  assert (int(counters["count"]), int(counters["first"])) == (len(bad), 3)
  assert counters["steps"].tolist() == [20, 21, 7, 8, 9, 11, 12, 13]
  assert all(leaf.dtype == jnp.int32 for leaf in counters.values())
