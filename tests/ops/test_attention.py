import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.ops import attend

B, Q, K, N, D, E = 2, 3, 5, 2, 4, 7


def arrays(dtype=np.float32, seed=0):
  rng = np.random.default_rng(seed)
  shapes = {"query": (B, Q, N, D), "key": (B, K, N, D), "value": (B, K, N, E), "bias": (N, Q, K)}
  return {name: jnp.asarray(rng.standard_normal(shape), dtype) for name, shape in shapes.items()}


def reference(query, key, value, bias=None, static_weights=None):
  """The equation, element by element in float64."""
  query, key, value = (np.asarray(a, np.float64) for a in (query, key, value))
  out, weights = np.zeros((B, Q, N, E)), np.zeros((B, N, Q, K))
  for b in range(B):
    for n in range(N):
      for q in range(Q):
        logits = [query[b, q, n] @ key[b, k, n] / np.sqrt(D) + (0 if bias is None else bias[n, q, k]) for k in range(K)]
        weights[b, n, q] = np.exp(logits) / np.exp(logits).sum() + (
          0 if static_weights is None else static_weights[n, q]
        )
        out[b, q, n] = weights[b, n, q] @ value[b, :, n]
  return out, weights


@pytest.mark.parametrize("place", ["bias", "static_weights", None])
def test_equals_the_equation(place):
  a = arrays()
  static = a.pop("bias")
  static = {} if place is None else {place: static}
  for ours, theirs in zip(attend(**a, **static), reference(**a, **static), strict=True):
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_softmax_is_float32_under_bfloat16_and_float64_under_float64():
  out, weights = attend(**arrays(jnp.bfloat16))
  chex.assert_type([out, weights], [jnp.bfloat16, jnp.float32])
  np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)  # bfloat16 rows would miss by 1e-3
  with jax.enable_x64(True):
    out, weights = attend(**arrays(np.float64))
    chex.assert_type([out, weights], jnp.float64)


def test_large_logits_do_not_overflow():
  a = arrays()
  out, _ = attend(**(a | {"bias": a["bias"] * 1e30}))
  chex.assert_tree_all_finite(out)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_bias_of_all_images_has_the_sum_of_their_gradients(batch):
  with jax.enable_x64(True):
    rng = np.random.default_rng(3)
    shapes = {"query": (batch, Q, N, D), "key": (batch, K, N, D), "value": (batch, K, N, E)}
    images = {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in shapes.items()}
    bias, along = (jnp.asarray(rng.standard_normal((N, Q, K))) for _ in range(2))

    def loss(bias, images):
      return jnp.sum(jnp.sin(attend(**images, bias=bias)[0]))

    def of_one(image):
      return jax.grad(loss)(bias, {name: a[None] for name, a in image.items()})

    @jax.jit
    def everything(bias, images):
      alone = [of_one({name: a[i] for name, a in images.items()}) for i in range(batch)]
      # Forward mode has no sum over the batch.
      forward = jax.jacfwd(loss)(bias, images), jax.jvp(lambda bias: loss(bias, images), (bias,), (along,))[1]
      return jax.grad(loss)(bias, images), forward, jax.vmap(of_one)(images), jnp.stack(alone)

    whole, (slopes, tangent), each, alone = jax.tree.map(np.asarray, everything(bias, images))
    assert np.abs(whole).max() > 1e-2
    for found, wanted in ((slopes, whole), (tangent, np.sum(whole * along)), (each.sum(0), whole), (each, alone)):
      np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
