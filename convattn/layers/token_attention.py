"""Attention over sequences of tokens [b, t, c]: one head, several, or from one sequence to another."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.heads import Similarity, from_heads, head_width, to_heads
from convattn.layers.inputs import check_input
from convattn.layers.seen import Parts, parts_wanted, sow_parts, value_lengths, without_hidden
from convattn.ops.attention import attention_weights, check_mask, weighted_sum
from convattn.ops.encodings import clipped_logits, clipped_values, sinusoids
from convattn.ops.masks import causal_mask
from convattn.ops.shapes import check_shapes


class SelfAttention(nn.Module):
  """One head: out = softmax(Q K' / sqrt(width)) V with Q, K, V = x W_Q, x W_K, x W_V (Vaswani et al. 2017, eq. 1).

  [b, t, c] -> [b, t, width] (c if None). mask: booleans [b, 1, t, t], each axis as long as that or 1. Without biases
  and without a layer behind it. The weights [b, 1, t, t] are sown as "attention" in "intermediates".
  """

  width: int | None = None
  similarity: str = "scaled_dot"
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, mask: Any = None) -> jax.Array:
    sizes = check_input(self, x, "b t c", "query/kernel")
    width = sizes["c"] if self.width is None else self.width
    query, key, value = (to_heads(self, name, 1, width, use_bias=False)(x) for name in ("query", "key", "value"))
    logits = Similarity(self.similarity, self.param_dtype, name="similarity")(query, key)
    mask = without_hidden(self, mask, key.shape[1])
    weights = attention_weights(logits, mask=mask)
    self.sow("intermediates", "attention", weights)
    if parts_wanted(self):
      sow_parts(self, Parts(weights, logits, mask=mask, lengths=value_lengths(self, value)))
    return weighted_sum(weights, value)[:, :, 0]


class MultiHeadAttention(nn.Module):
  """Several heads side by side, then a dense layer over all of them (Vaswani et al. 2017, section 3.2.2).

      out = concat_n(softmax(similarity(Q_n, K_n) + bias_n) V_n) W_O

  [b, q, c] -> [b, q, out_width]; keys and values come from `context` [b, k, f], or from x itself. Query, key and value
  are `width` wide in all (c if None, and so out_width: width). The key has no bias, which the softmax would not see.

  - similarity: one of layers.heads.SIMILARITIES.
  - causal: a token sees itself and those before it. mask: booleans [b, n, q, k], each axis as long as that or 1; both
    hold. A token that sees nothing gets the bias of the last layer.
  - clip: relation-aware keys and values: a vector for every shift k - q, clipped to +-clip, is added to the key and
    another to the value, the same for all heads (Shaw et al. 2018). For self-attention; the similarity is
    "scaled_dot".

  The weights [b, n, q, k] are sown as "attention" in "intermediates".

  Raises:
    ValueError: num_heads does not divide the width, an unknown similarity, or a clip with a context or with another
      similarity.
  """

  num_heads: int
  width: int | None = None
  out_width: int | None = None
  similarity: str = "scaled_dot"
  causal: bool = False
  clip: int | None = None
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, context: jax.Array | None = None, *, mask: Any = None) -> jax.Array:
    sizes = check_input(self, x, "b q c", "query/kernel")
    if self.clip is not None and (context is not None or self.similarity != "scaled_dot"):
      given = "a context" if context is not None else f"similarity {self.similarity!r}"
      raise ValueError(f"clip is {self.clip} with {given}, but needs self-attention with similarity 'scaled_dot'.")
    width = sizes["c"] if self.width is None else self.width
    size = head_width(width, self.num_heads)
    seen = x if context is None else context
    check_shapes(x=(x, "b q c"), context=(seen, "b k f"))
    query = to_heads(self, "query", self.num_heads, size)(x)
    key = to_heads(self, "key", self.num_heads, size, use_bias=False)(seen)
    value = to_heads(self, "value", self.num_heads, size)(seen)
    content = Similarity(self.similarity, self.param_dtype, name="similarity")(query, key)
    logits, bias, value_shifts = content, None, None
    if self.clip is not None:
      bias = clipped_logits(query * size**-0.5, self._vectors("key_shifts", size))
      logits = logits + bias
    if self.causal:
      allowed = causal_mask(query.shape[1], key.shape[1])
      if mask is not None:
        check_mask(mask, logits.shape)  # before it is joined with another, which would hide what is wrong with it
      mask = allowed if mask is None else jnp.asarray(mask) & allowed
    mask = without_hidden(self, mask, key.shape[1])
    weights = attention_weights(logits, mask=mask)
    self.sow("intermediates", "attention", weights)
    out = weighted_sum(weights, value)
    if self.clip is not None:
      value_shifts = self._vectors("value_shifts", size)
      out = out + clipped_values(weights, value_shifts)
    out = from_heads(self, width if self.out_width is None else self.out_width)(out)
    if parts_wanted(self):
      sow_parts(self, Parts(weights, content, bias, mask, value_lengths(self, value, value_shifts)))
    return out

  def _vectors(self, name: str, size: int) -> jax.Array:
    assert self.clip is not None
    initializer = nn.initializers.xavier_uniform()
    table: jax.Array = self.param(name, initializer, (2 * self.clip + 1, size), self.param_dtype)
    return table.astype(self.dtype)


class CrossAttention(MultiHeadAttention):
  """MultiHeadAttention from x [b, q, c] to another sequence, `context` [b, k, f]: [b, q, out_width]."""

  def __call__(self, x: jax.Array, context: jax.Array, *, mask: Any = None) -> jax.Array:  # type: ignore[override]
    return super().__call__(x, context, mask=mask)


class SinusoidalPositions(nn.Module):
  """x + sinusoids(t, c) for x [b, t, c] (Vaswani et al. 2017): no parameters, any length, c even."""

  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    sizes = check_shapes(x=(x, "b t c"))
    return x.astype(self.dtype) + jnp.asarray(sinusoids(sizes["t"], sizes["c"], dtype=self.dtype))[None]


class LearnedPositions(nn.Module):
  """x + table[:t] for x [b, t, c], a vector for each of the first `length` places.

  Raises:
    ValueError: a longer sequence.
  """

  length: int
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    sizes = check_input(self, x, "b t c", "table", 1)
    if sizes["t"] > self.length:
      raise ValueError(f"the sequence is {sizes['t']} long, but must be at most length = {self.length}.")
    initializer = nn.initializers.truncated_normal(0.02)
    table = self.param("table", initializer, (self.length, sizes["c"]), self.param_dtype)
    return x.astype(self.dtype) + table[: sizes["t"]].astype(self.dtype)[None]
