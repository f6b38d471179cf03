"""Similarities against their equations, and attention over any of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import ops

B, Q, K, N, D, F, M = 2, 3, 5, 2, 4, 6, 3


def draw(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


QUERY, KEY, WIDE_KEY = draw(B, Q, N, D), draw(B, K, N, D, seed=1), draw(B, K, N, F, seed=2)
WEIGHT, W, U, V = draw(N, D, F, seed=3), draw(N, D, M, seed=4), draw(N, F, M, seed=5), draw(N, M, seed=6)
# name -> (similarity, key, the equation for head n in float64)
EQUATIONS = {
  "dot": (ops.dot, KEY, lambda n, q, k: q @ k),
  "scaled_dot": (ops.scaled_dot, KEY, lambda n, q, k: q @ k / np.sqrt(D)),
  "cosine": (ops.cosine, KEY, lambda n, q, k: q @ k / np.linalg.norm(q) / np.linalg.norm(k)),
  "bilinear": (functools.partial(ops.bilinear, weight=WEIGHT), WIDE_KEY, lambda n, q, k: q @ f64(WEIGHT)[n] @ k),
  "additive": (
    functools.partial(ops.additive, query_weight=W, key_weight=U, vector=V),
    WIDE_KEY,
    lambda n, q, k: f64(V)[n] @ np.tanh(q @ f64(W)[n] + k @ f64(U)[n]),
  ),
}


def f64(array):
  return np.asarray(array, np.float64)


@pytest.mark.parametrize("name", EQUATIONS)
def test_similarity_equals_its_equation_and_attention_takes_it(name):
  similarity, key, equation = EQUATIONS[name]
  similarity = jax.jit(similarity)
  logits = np.zeros((B, N, Q, K))
  for b, n, q, k in np.ndindex(*logits.shape):
    logits[b, n, q, k] = equation(n, f64(QUERY)[b, q, n], f64(key)[b, k, n])
  np.testing.assert_allclose(similarity(QUERY, key), logits, atol=2e-6)
  value = draw(B, K, N, 7, seed=7)
  attend = jax.jit(functools.partial(ops.attend, similarity=similarity))
  out, weights = attend(QUERY, key, value)
  wanted = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  np.testing.assert_allclose(weights, wanted, atol=2e-6)
  np.testing.assert_allclose(out, np.einsum("bnqk,bkne->bqne", wanted, f64(value)), atol=5e-6)


def test_the_hard_look_up():
  """Query 1 among keys 0 1 2 with values 8 3 4."""
  query, key, value = (jnp.asarray(a, jnp.float32)[None, :, None, None] for a in ([1], [0, 1, 2], [8, 3, 4]))
  out, weights = ops.attend(query, key, value, similarity=ops.exact_match)
  np.testing.assert_array_equal(weights[0, 0, 0], [0, 1, 0])
  np.testing.assert_array_equal(weights[0, 0, 0] * value[0, :, 0, 0], [0, 3, 0])
  assert out.item() == 3
  missing, none = ops.attend(query + 6, key, value, similarity=ops.exact_match)
  assert missing.item() == 0 and not none.any()
  twice = ops.attend(query, jnp.minimum(key, 1), value, similarity=ops.exact_match)[0]
  assert twice.item() == 3.5


def test_a_match_is_a_match_of_every_component():
  keys = jnp.asarray([[1.0, 2], [1, 3], [2, 2]])[None, :, None]
  logits = ops.exact_match(keys[:, :1], keys)[0, 0, 0]
  np.testing.assert_array_equal(logits, [0, -np.inf, -np.inf])


def test_exact_match_is_the_cold_limit_of_a_distance():
  keys = jnp.asarray([0.0, 1, 2, 1])[None, :, None, None]
  cold = ops.attention_weights(-90 * jnp.square(jnp.moveaxis(keys - jnp.swapaxes(keys, 1, 2), (3, 0), (0, 1))))
  hard = ops.attention_weights(ops.exact_match(keys, keys))
  np.testing.assert_allclose(cold, hard, atol=1e-7)


def test_cosine_has_a_value_and_a_gradient_at_zero_and_no_sight_of_large_and_small():
  both = jax.jit(lambda q, k: (ops.cosine(q, k), jax.grad(lambda q: ops.cosine(q, k).sum())(q)))
  value, gradient = both(0 * QUERY, KEY)
  assert not value.any() and np.isfinite(gradient).all()
  np.testing.assert_allclose(both(1e3 * QUERY, 1e-3 * KEY)[0], both(QUERY, KEY)[0], atol=1e-6)


@pytest.mark.parametrize("name", [*EQUATIONS, "exact_match"])
def test_similarity_is_float32_under_bfloat16_and_float64_under_float64(name):
  similarity, key, _ = EQUATIONS.get(name, (ops.exact_match, KEY, None))
  assert jax.eval_shape(similarity, QUERY.astype(jnp.bfloat16), key.astype(jnp.bfloat16)).dtype == jnp.float32
  with jax.enable_x64(True):
    assert jax.eval_shape(similarity, QUERY.astype(jnp.float64), key.astype(jnp.float64)).dtype == jnp.float64


def test_parameter_free_attention():
  x = 0.7 * draw(B, K, D)
  out, weights = ops.parameter_free_attention(x)
  logits = f64(x) @ f64(x).swapaxes(1, 2)
  terms = np.exp(logits)
  np.testing.assert_allclose(weights, terms / terms.sum(-1, keepdims=True), atol=1e-6)
  np.testing.assert_allclose(out, f64(weights) @ f64(x), atol=1e-6)
  values = np.linalg.eigvals(f64(weights))
  assert np.abs(values.imag).max() < 1e-6 and values.real.min() > 0 and abs(values.real.max() - 1) < 1e-5
