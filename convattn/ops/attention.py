"""Attention as a function of arrays: one softmax and one weighted sum for every variant.

A variant is a similarity (`similarities`), a bias (`positions`, `encodings`) or a mask (`masks`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from convattn.ops.gradients import with_gradients
from convattn.ops.meshes import on_any_mesh
from convattn.ops.shapes import check_shapes
from convattn.ops.similarities import dot, scaled_dot


@on_any_mesh
def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  similarity: Callable[[jax.Array, jax.Array], jax.Array] = scaled_dot,
  bias: jax.Array | None = None,
  static_weights: jax.Array | None = None,
  mask: Any = None,
) -> tuple[jax.Array, jax.Array]:
  """Attention over any similarity, with a static term before or after the softmax.

      out[q] = sum_k (softmax_k(similarity(query[q], key[k]) + bias[q, k]) + static_weights[q, k]) value[k]

  The similarity is query . key / sqrt(d) unless another is given. With `bias` alone it is then y_pre of CoAtNet (Dai et
  al. 2021, section 2.1), with `static_weights` alone its y_post.

  A query that may see no key, for which every pair is masked or has a logit or bias of -inf, has weights and output 0
  and finite gradients; so in every layer here. (`static_weights` are added to a row of -inf all the same, unless the
  mask forbids it.) A masked key has no weight, whatever is in it, as long as that is finite:
  0 * NaN is NaN, so clear what pads a batch.

  Args:
    query: [b, q, n, d], n heads of width d.
    key: [b, k, n, d] (of another width f where the similarity allows it).
    value: [b, k, n, e].
    similarity: of query and key, logits [b, n, q, k].
    bias: [n, q, k] or, one for each image, [b, n, q, k]; added to the logits.
    static_weights: [n, q, k], added to the weights after the softmax, where the mask allows it; rows then no longer
      sum to one.
    mask: booleans [b, n, q, k], each axis as long as that or 1; true where the query may see the key.

  Returns:
    out [b, q, n, e] in value's dtype, and the weights [b, n, q, k] in the dtype of the softmax,
    promote_types(query.dtype, float32). XLA drops the weights where nobody uses them.

  Raises:
    AssertionError: a shape does not fit, or the mask is not boolean.
  """
  shapes = {"query": (query, "b q n d"), "key": (key, "b k n f"), "value": (value, "b k n e")}
  if static_weights is not None:
    shapes["static_weights"] = (static_weights, "n q k")
  check_shapes(**shapes)
  weights = attention_weights(similarity(query, key), bias=bias, mask=mask)
  if static_weights is not None:
    static = static_weights[None].astype(weights.dtype)
    weights = weights + (static if mask is None else jnp.where(mask, static, 0))
  return weighted_sum(weights, value), weights


@on_any_mesh
def attention_weights(logits: jax.Array, *, bias: jax.Array | None = None, mask: Any = None) -> jax.Array:
  """softmax_k(logits + bias) over the keys that the mask allows: the one softmax of attention.

  Rows sum to one. A row that allows no key, whether by the mask or by -inf, is zero, and so are its gradients.

  Args:
    logits: [b, n, q, k].
    bias: [n, q, k] or [b, n, q, k].
    mask: booleans [b, n, q, k], each axis as long as that or 1; true where the query may see the key.

  Returns:
    [b, n, q, k] in promote_types(logits.dtype, float32).

  Raises:
    AssertionError: a shape does not fit, or the mask is not boolean.
  """
  shapes = {"logits": (logits, "b n q k")}
  if bias is not None:
    shapes["bias"] = (bias, "b n q k" if bias.ndim == 4 else "n q k")
  sizes = check_shapes(**shapes)
  softmax_dtype = jnp.promote_types(logits.dtype, jnp.float32)
  logits = logits.astype(softmax_dtype)
  if bias is not None:
    wide = bias.astype(softmax_dtype)
    logits = logits + (wide if bias.ndim == 4 else _over_batch(jnp.ones(sizes["b"], softmax_dtype), wide))
  if mask is not None:
    check_mask(mask, tuple(sizes[axis] for axis in "bnqk"))
    logits = jnp.where(mask, logits, -jnp.inf)
  return _softmax(logits)


@on_any_mesh
def weighted_sum(weights: jax.Array, value: jax.Array) -> jax.Array:
  """out[q] = sum_k weights[q, k] value[k]: [b, n, q, k] and [b, k, n, e] to [b, q, n, e], in value's dtype."""
  check_shapes(weights=(weights, "b n q k"), value=(value, "b k n e"))
  out = jnp.einsum("bnqk,bnke->bnqe", weights.astype(value.dtype), jnp.swapaxes(value, 1, 2))
  return jnp.swapaxes(out, 1, 2)


@on_any_mesh
def parameter_free_attention(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """softmax(X X') X for tokens X [b, t, c]: (the output [b, t, c], the weights [b, t, t]).

  Self-attention before anything is learned: each token becomes a mean of those it resembles.
  """
  check_shapes(x=(x, "b t c"))
  tokens = x[:, :, None]
  out, weights = attend(tokens, tokens, tokens, similarity=dot)
  return out[:, :, 0], weights[:, 0]


@jax.custom_jvp
def _softmax(logits: jax.Array) -> jax.Array:
  limits = jnp.finfo(logits.dtype)
  # For a row with a finite logit neither limit changes a bit: its largest term is exp(0) = 1, and 1 + tiny = 1.
  largest = jnp.maximum(jnp.max(logits, axis=-1, keepdims=True), limits.min)
  terms = jnp.exp(logits - largest)
  return terms / (jnp.sum(terms, axis=-1, keepdims=True) + limits.tiny)


@_softmax.defjvp
def _softmax_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
  weights = _softmax(primals[0])
  return weights, weights * (tangents[0] - jnp.sum(weights * tangents[0], axis=-1, keepdims=True))


def check_mask(mask: Any, sizes: tuple[int, ...]) -> None:
  """Refuses a mask that does not fit logits of these sizes [b, n, q, k].

  Raises:
    AssertionError: another rank or size, or not boolean.
  """
  shape = tuple(jnp.shape(mask))
  if len(shape) != 4 or any(given not in (1, wanted) for given, wanted in zip(shape, sizes, strict=True)):
    named = ", ".join(f"{axis} = {size}" for axis, size in zip("bnqk", sizes, strict=True))
    raise AssertionError(
      f"argument 'mask' has shape {shape}, but must be [b, n, q, k] with {named}, each axis as long as that or 1."
    )
  if jnp.result_type(mask) != jnp.bool_:
    raise AssertionError(
      f"argument 'mask' is {jnp.result_type(mask)}, but must be bool: true where a query may see a key."
    )


def _repeat(ones: jax.Array, bias: jax.Array) -> jax.Array:
  return ones[:, None, None, None] * bias[None]


def _sum_over_batch(ones: jax.Array, cotangent: jax.Array, bias: Any) -> jax.Array:
  def product(ones: jax.Array, cotangent: jax.Array) -> jax.Array:
    return jnp.einsum("b,bnqk->nqk", ones, cotangent, precision="highest")

  return jax.lax.platform_dependent(ones, cotangent, cpu=product, default=lambda _, cotangent: cotangent.sum(0))


# [b, n, q, k]: the same bias for every image. Its gradient is a sum over images, and as a product with ones it takes
# 0.8 ms on a CPU where XLA's sum over a leading axis takes 12.7 (8 images, 12 heads, 196 tokens, float32, 2 cores).
_over_batch = with_gradients(_repeat, kernel_gradient=_sum_over_batch)
