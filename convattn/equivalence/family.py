"""Equations 1 to 3 of CoAtNet (Dai et al. 2021): four weighted sums over the pixels of an image, in one notation.

In all of them y_i = sum_j weight(i, j) x_j, and a table holds the weights w of the shifts j - i, as everywhere here
(the paper writes w_{i-j}: its tables are ours with both axes flipped). Logits are not divided by sqrt(c), as in the
paper. What they have in common:

    (relative_sum_after - attention_sum)(x) = static_sum(x, the same table for every channel)
    relative_sum_before(0, 0, x, log p) = static_sum(x, p) / static_sum(1, p)     a fixed, averaging convolution
    relative_sum_before(x, x, x, 0) = relative_sum_after(x, x, x, 0) = attention_sum(x)
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from convattn.equivalence.inputs import check_images
from convattn.ops.attention import attend
from convattn.ops.positions import relative_bias
from convattn.ops.shapes import check_shapes
from convattn.ops.similarities import dot


def static_sum(x: jax.Array, table: jax.Array) -> jax.Array:
  """Eq. 1, depthwise convolution: y_i = sum_j w_{j-i} * x_j, channel by channel; no softmax.

  x [b, h, w, c], table [c, 2h-1, 2w-1] -> [b, h, w, c]. Shifts beyond a window of the table are 0 for a small kernel.
  """
  _check(x=x, table=table)
  sizes = check_shapes(x=(x, "b h w c"), table=(table, "c u v"))
  _check_table(x, table)
  tokens = x.reshape(sizes["b"], -1, sizes["c"])
  return jnp.einsum("cqk,bkc->bqc", relative_bias(table), tokens, precision="highest").reshape(x.shape)


def attention_sum(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
  """Eq. 2, self-attention where all three are x: y_i = sum_j softmax_j(x_i . x_j) x_j. Images [b, h, w, c]."""
  return _attend(query, key, value)


def relative_sum_after(query: jax.Array, key: jax.Array, value: jax.Array, table: jax.Array) -> jax.Array:
  """Eq. 3, y_post: y_i = sum_j (softmax_j(x_i . x_j) + w_{j-i}) x_j. table [2h-1, 2w-1]."""
  return _attend(query, key, value, static_weights=_one_table(query, key, value, table))


def relative_sum_before(query: jax.Array, key: jax.Array, value: jax.Array, table: jax.Array) -> jax.Array:
  """Eq. 3, y_pre, what CoAtNet uses: y_i = sum_j softmax_j(x_i . x_j + w_{j-i}) x_j. table [2h-1, 2w-1]."""
  return _attend(query, key, value, bias=_one_table(query, key, value, table))


def _one_table(query: jax.Array, key: jax.Array, value: jax.Array, table: jax.Array) -> jax.Array:
  """One table for all channels, as weights of every pair of pixels: [1, q, k]."""
  _check(query=query, key=key, value=value, table=table)
  check_shapes(query=(query, "b h w c"), key=(key, "b h w c"), value=(value, "b h w e"), table=(table, "u v"))
  _check_table(value, jnp.asarray(table)[None])
  return relative_bias(jnp.asarray(table)[None])


def _attend(query: jax.Array, key: jax.Array, value: jax.Array, **static: Any) -> jax.Array:
  _check(query=query, key=key, value=value)
  sizes = check_shapes(query=(query, "b h w c"), key=(key, "b h w c"), value=(value, "b h w e"))
  images = (jnp.asarray(x) for x in (query, key, value))
  tokens = [x.reshape(sizes["b"], sizes["h"] * sizes["w"], 1, x.shape[-1]) for x in images]
  out, _ = attend(*tokens, similarity=dot, **static)
  return out.reshape(value.shape)


def _check(**arrays: Any) -> None:
  for name, array in arrays.items():
    check_images(name, array)


def _check_table(x: jax.Array, table: jax.Array) -> None:
  wanted = tuple(2 * size - 1 for size in x.shape[1:3])
  if table.shape[1:] != wanted:
    raise ValueError(f"table has shape {table.shape}, but images {x.shape} need {wanted} shifts: (2h - 1, 2w - 1).")
