"""What a query may see, and the one behaviour of a query that may see nothing."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import ops

B, T, N, D = 2, 5, 2, 3


def tokens(seed=0, length=T):
  rng = np.random.default_rng(seed)
  return [jnp.asarray(rng.standard_normal((B, length, N, D)), jnp.float32) for _ in range(3)]


def literal(query, key, value, mask):
  """A loop over the allowed keys alone."""
  query, key, value = (np.asarray(a, np.float64) for a in (query, key, value))
  mask = np.broadcast_to(mask, (B, N, query.shape[1], key.shape[1]))
  out, weights = np.zeros(query.shape), np.zeros(mask.shape)
  for b, n, q in np.ndindex(*mask.shape[:3]):
    allowed = np.flatnonzero(mask[b, n, q])
    if len(allowed):
      terms = np.exp(key[b, allowed, n] @ query[b, q, n] / np.sqrt(D))
      weights[b, n, q, allowed] = terms / terms.sum()
    out[b, q, n] = weights[b, n, q] @ value[b, :, n]
  return out, weights


MASKS = {
  "causal": lambda: ops.causal_mask(T),
  "padding": lambda: np.asarray(ops.padding_mask(jnp.array([2, 5]), T)),
  "both": lambda: ops.causal_mask(T) & np.asarray(ops.padding_mask(jnp.array([0, 3]), T)),
  "any": lambda: np.random.default_rng(3).random((B, N, T, T)) < 0.4,
}


@pytest.mark.parametrize("name", MASKS)
def test_attention_under_a_mask_equals_a_loop_over_the_allowed_keys(name):
  mask = MASKS[name]()
  for ours, wanted in zip(ops.attend(*tokens(), mask=mask), literal(*tokens(), mask), strict=True):
    np.testing.assert_allclose(ours, wanted, atol=2e-6)


def test_the_masks_themselves():
  np.testing.assert_array_equal(ops.causal_mask(2, 3)[0, 0], [[1, 0, 0], [1, 1, 0]])
  np.testing.assert_array_equal(ops.causal_mask(3)[0, 0], [[1, 0, 0], [1, 1, 0], [1, 1, 1]])
  np.testing.assert_array_equal(ops.padding_mask(jnp.array([0, 2, 3]), 3)[:, 0, 0], [[0, 0, 0], [1, 1, 0], [1, 1, 1]])
  three = ops.neighbour_mask(3, 4, 3)[0, 0].reshape(3, 4, 12)
  np.testing.assert_array_equal(three[0, 0].reshape(3, 4), [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
  np.testing.assert_array_equal(three[1, 2].reshape(3, 4), [[0, 1, 1, 1]] * 3)
  with pytest.raises(ValueError, match="window is 4, but must be odd"):
    ops.neighbour_mask(3, 3, 4)


NOTHING = {
  "mask": {"mask": np.zeros((1, 1, T, 1), bool)},
  "bias": {"bias": jnp.full((N, T, T), -jnp.inf)},
  "bias of each image": {"bias": jnp.full((B, N, T, T), -jnp.inf)},
  "similarity": {"similarity": lambda query, key: jnp.where(True, -jnp.inf, ops.dot(query, key))},
}


@pytest.mark.parametrize("name", NOTHING)
def test_a_query_that_sees_nothing_gives_zero_and_finite_gradients(name):
  def loss(query, key, value):
    out, weights = ops.attend(query, key, value, **NOTHING[name])
    return jnp.sum(jnp.cos(out)) + jnp.sum(weights), (out, weights)

  (_, seen), gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(*tokens())
  chex.assert_trees_all_equal(seen, jax.tree.map(jnp.zeros_like, seen))
  chex.assert_trees_all_equal(gradients, jax.tree.map(jnp.zeros_like, gradients))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_without_a_mask_it_is_the_softmax_of_jax(dtype):
  logits = jnp.asarray(30 * np.random.default_rng(0).standard_normal((B, N, 4, 33)), dtype)
  wide = logits.astype(jnp.float32)
  np.testing.assert_array_equal(ops.attention_weights(logits), jax.nn.softmax(wide))
  ours, theirs = (
    jax.jit(jax.grad(lambda x, f=f: jnp.sum(jnp.sin(9 * f(x)))))(wide) for f in (ops.attention_weights, jax.nn.softmax)
  )
  np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_logits_at_the_ends_of_float32():
  logits = jnp.array([[[[3e38, -3e38, 0], [-3e38, -3e38, -3e38], [-jnp.inf, -3e38, -jnp.inf]]]])
  np.testing.assert_allclose(ops.attention_weights(logits)[0, 0], [[1, 0, 0], [1 / 3] * 3, [0, 1, 0]], rtol=1e-6)


def test_a_static_weight_is_masked_too():
  mask = ops.causal_mask(T)
  static = jnp.ones((N, T, T))
  _, weights = ops.attend(*tokens(), static_weights=static, mask=mask)
  np.testing.assert_array_equal(np.asarray(weights)[np.broadcast_to(~mask, weights.shape)], 0)
  np.testing.assert_allclose(
    weights - ops.attend(*tokens(), mask=mask)[1], np.broadcast_to(mask, weights.shape), atol=1e-6
  )


def test_windows_come_back_and_say_what_does_not_fit():
  x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 9, 3)))
  windows = ops.window_partition(x, (2, 3))
  assert windows.shape == (2 * 2 * 3, 6, 3)
  np.testing.assert_array_equal(windows[4], x[0, 2:4, 3:6].reshape(6, 3))  # row by row
  np.testing.assert_array_equal(ops.window_reverse(windows, (2, 3), (4, 9)), x)
  with pytest.raises(ValueError, match="the image is 4x9, but must be a multiple of the window 3x3"):
    ops.window_partition(x, (3, 3))
  with pytest.raises(AssertionError, match="multiple of the 6 windows"):
    ops.window_reverse(windows[:-1], (2, 3), (4, 9))
  with pytest.raises(ValueError, match="window is 2, but must be odd"):
    ops.neighbourhoods(x, 2)
  for window, shift in (((3, 3), (0, 0)), ((2, 3), (2, 0)), ((2, 3), (0, -1))):
    with pytest.raises(ValueError, match="must divide the grid"):
      ops.shifted_window_mask((4, 9), window, shift)


@pytest.mark.parametrize("shift", [(0, 0), (1, 2), (1, 0)])
def test_a_shifted_window_holds_neighbours_only(shift):
  """Literally: label the pixels, roll, cut; two may meet if their places differ by less than the window."""
  grid, window = (4, 9), (2, 3)
  place = np.stack(np.mgrid[: grid[0], : grid[1]], -1)
  rolled = np.roll(place, (-shift[0], -shift[1]), (0, 1))
  windows = np.asarray(ops.window_partition(jnp.asarray(rolled)[None], window))
  near = np.all(np.abs(windows[:, :, None] - windows[:, None]) < np.array(window), -1)
  mask = ops.shifted_window_mask(grid, window, shift)[:, 0]
  np.testing.assert_array_equal(mask, near)
  assert mask.all() == (shift == (0, 0))


def test_attention_over_neighbourhoods_is_attention_under_the_mask_of_neighbours():
  h, w, window = 3, 4, 3
  rng = np.random.default_rng(0)
  query, key, value = (jnp.asarray(rng.standard_normal((2, h, w, 6)), jnp.float32) for _ in range(3))
  heads = [a.reshape(2, h * w, 2, 3) for a in (query, key, value)]
  wanted, _ = ops.attend(*heads, mask=ops.neighbour_mask(h, w, window))
  (keys, inside), (values, _) = (ops.neighbourhoods(a, window) for a in (key, value))
  near = [a.reshape(2 * h * w, -1, 2, 3) for a in (query, keys, values)]
  mask = np.tile(inside.reshape(h * w, 1, 1, window**2), (2, 1, 1, 1))
  out, weights = ops.attend(*near, mask=mask)
  np.testing.assert_allclose(out.reshape(2, h * w, 2, 3), wanted, atol=1e-6)
  assert weights.shape == (2 * h * w, 2, 1, window**2)
  np.testing.assert_array_equal(inside[0, 0].reshape(3, 3), [[0, 0, 0], [0, 1, 1], [0, 1, 1]])
