import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.training.state import count_nonfinite, no_nonfinite, sha256, update_average


@pytest.mark.parametrize("decay", [0.5, 0.9999])
def test_average_equals_its_closed_form(decay):
  values = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
  average = {"w": jnp.full(3, jnp.float32(123))}  # whatever it starts from
  for count, value in enumerate(values, 1):
    average = update_average(average, {"w": jnp.asarray(value)}, decay=decay, count=jnp.int32(count))
    weights = decay ** np.arange(count - 1, -1, -1, dtype=np.float64)
    expected = np.einsum("k,kc->c", weights, values[:count].astype(np.float64)) / weights.sum()
    np.testing.assert_allclose(average["w"], expected, rtol=1e-4, atol=1e-5)


def test_average_takes_integers_over_and_keeps_dtypes():
  old = {"count": jnp.int32(3), "half": jnp.zeros(2, jnp.bfloat16)}
  new = {"count": jnp.int32(8), "half": jnp.ones(2, jnp.bfloat16)}
  average = update_average(old, new, decay=0.5, count=jnp.int32(2))
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
