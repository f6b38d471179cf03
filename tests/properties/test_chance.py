"""What is right is rejected by no draw: rare events and kinks, for every key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import properties
from convattn.properties.chance import far, keys_for, standard_error
from tests.properties.group import draw
from tests.properties.transformed import KINKED

(X,) = draw((2, 5, 3))


def depth(rate):
  return jax.jit(lambda x, key: x + jnp.where(jax.random.bernoulli(key, 1 - rate, (len(x), 1, 1)), x / (1 - rate), 0))


@pytest.mark.parametrize("rate", [0.1, 0.05, 0.01, 0.99])
def test_rare_draws_are_found_whatever_the_key(rate):
  for seed in range(3 if rate == 0.01 else 8):
    properties.check_key_decides(depth(rate), X, key=seed)


def test_the_rate_decides_how_many_keys():
  assert keys_for(None) == keys_for(0.01) == keys_for(0.99) == 1375
  assert 0.99**1375 < 1e-6 < 0.99**1370 and keys_for(1e-3) > 13000
  for rate, wanted in ((0.0, "more than 0"), (1.0, "below 1"), (-0.1, "more than 0")):
    with pytest.raises(ValueError, match=f"rate is .* must be .*{wanted}"):
      properties.check_key_decides(depth(0.5), X, rate=rate)
  properties.check_draws_per_example(depth(0.02), X, rate=0.02)


def test_a_mean_of_rare_events_is_rejected_less_than_once_in_a_million():
  """Exactly: over all numbers of events among the draws."""
  log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, 2001)))])
  seen = np.arange(2001)
  spread = (seen % 2000 > 0) * 1.0
  share = seen / 2000
  numbers = [np.r_[np.ones(k), np.zeros(2000 - k)] for k in (3, 20)]
  for k, each in zip((3, 20), numbers, strict=True):
    exact = np.sqrt((share[k] * (1 - share[k]) + 24 * spread[k] / 2000) / 2000)
    np.testing.assert_allclose(standard_error(each), exact)
  error = far(1) * np.sqrt((share * (1 - share) + 24 * spread / 2000) / 2000)
  for rate in (0.01, 0.1, 0.5, 0.9, 0.99):
    chance = log_factorial[2000] - log_factorial[seen] - log_factorial[2000 - seen]
    chance = np.exp(chance + seen * np.log(rate) + (2000 - seen) * np.log(1 - rate))
    assert chance[np.abs(share - rate) > error].sum() < 1e-7


@pytest.mark.parametrize("name", KINKED.theirs)
def test_right_gradients_with_kinks_hold_whatever_the_key(name):
  fn = jax.jit(KINKED.theirs[name])
  for seed in range(2):
    properties.check_gradient_is_slope(fn, jax.random.normal(jax.random.key(seed), (8, 5)), key=seed)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 6, 5), (64, 64)])
@pytest.mark.parametrize("name", KINKED.theirs)
def test_right_gradients_with_kinks_hold_for_twenty_keys(name, shape):
  if "dense" in name and shape == (64, 64):
    shape = (820, 5)
  fn = jax.jit(KINKED.theirs[name])
  for seed in range(20):
    properties.check_gradient_is_slope(fn, jax.random.normal(jax.random.key(seed), shape), key=seed)


def test_precision_sees_kinks_and_half_precision():
  x = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
  for seed in range(5):
    properties.check_precision(jax.nn.relu, x, key=seed)
    properties.check_precision(lambda x: jnp.clip(x, -1, 1).max(-1), x, key=seed)
    with pytest.raises(properties.LawBroken):
      properties.check_precision(lambda x: jax.nn.relu(x).astype(jnp.float16).astype(x.dtype), x, key=seed)


def test_laws_that_want_an_influence_try_more_than_one_draw():
  """Of a maximum most inputs have none."""
  (x,) = draw((1, 9, 1))

  def pooled(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 5, 1), (1, 1, 1), "SAME")

  for seed in range(10):
    properties.check_reach(pooled, x, radius=2, key=seed)
    properties.check_sees_itself(pooled, x, key=seed)
    properties.check_content_matters(lambda x: (x > 1).any(1) * 1.0, x, key=seed)
    properties.check_not_affine(lambda x: jnp.clip(x, -20, 20), x, key=seed)
