"""How much a query resembles a key: the logits of attention. `attend` takes any of these, or any function like them.

Each maps query [b, q, n, d] and key [b, k, n, d], n heads, to logits [b, n, q, k] in promote_types(query.dtype,
float32). Those with parameters become such a function by `functools.partial`. A logit of -inf means: not at all.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from convattn.ops.meshes import on_any_mesh
from convattn.ops.shapes import check_shapes


@on_any_mesh
def dot(query: jax.Array, key: jax.Array) -> jax.Array:
  """query . key (Luong et al. 2015)."""
  check_shapes(query=(query, "b q n d"), key=(key, "b k n d"))
  # Heads first: 5.5 ms in place of 27 for einsums over bqnd, 37 in place of 40 for the gradient (8 images, 196 tokens,
  # 12 heads of 32, float32, 2 CPU cores).
  query, key = (jnp.swapaxes(a, 1, 2) for a in (query, key))
  return jnp.einsum("bnqd,bnkd->bnqk", query, key, preferred_element_type=_wide(query))


@on_any_mesh
def scaled_dot(query: jax.Array, key: jax.Array) -> jax.Array:
  """query . key / sqrt(d): of unit variance where the components are (Vaswani et al. 2017)."""
  sizes = check_shapes(query=(query, "b q n d"), key=(key, "b k n d"))
  return dot(query * sizes["d"] ** -0.5, key)


@on_any_mesh
def cosine(query: jax.Array, key: jax.Array) -> jax.Array:
  """query . key / (|query| |key|), in [-1, 1]; 0 where one of them is zero (Graves et al. 2014; Liu et al. 2022).

  Attention usually multiplies it by a temperature: `lambda q, k: scale * cosine(q, k)`.
  """
  check_shapes(query=(query, "b q n d"), key=(key, "b k n d"))
  return dot(_unit(query), _unit(key))


@on_any_mesh
def bilinear(query: jax.Array, key: jax.Array, weight: jax.Array) -> jax.Array:
  """query' W key, W = weight [n, d, f] for keys of width f ("general" of Luong et al. 2015)."""
  check_shapes(query=(query, "b q n d"), key=(key, "b k n f"), weight=(weight, "n d f"))
  return dot(jnp.einsum("bqnd,ndf->bqnf", query, weight.astype(query.dtype)), key)


@on_any_mesh
def additive(
  query: jax.Array, key: jax.Array, query_weight: jax.Array, key_weight: jax.Array, vector: jax.Array
) -> jax.Array:
  """v . tanh(query W + key U) (Bahdanau et al. 2015; with [W; U] stacked it is "concat" of Luong et al. 2015).

  W = query_weight [n, d, m], U = key_weight [n, f, m] for keys of width f, v = vector [n, m]. |logit| <= |v|_1. It
  makes an array [b, q, k, n, m].
  """
  check_shapes(
    query=(query, "b q n d"),
    key=(key, "b k n f"),
    query_weight=(query_weight, "n d m"),
    key_weight=(key_weight, "n f m"),
    vector=(vector, "n m"),
  )
  dtype = query.dtype
  queries = jnp.einsum("bqnd,ndm->bqnm", query, query_weight.astype(dtype))
  keys = jnp.einsum("bknf,nfm->bknm", key, key_weight.astype(dtype))
  hidden = jnp.tanh(queries[:, :, None] + keys[:, None])
  return jnp.einsum("bqknm,nm->bnqk", hidden, vector.astype(dtype), preferred_element_type=_wide(query))


@on_any_mesh
def exact_match(query: jax.Array, key: jax.Array) -> jax.Array:
  """0 where every component of query and key is equal, else -inf: attention is then a look-up in a dictionary.

  Several matches share the weight, and a query without a match is a fully masked row: weights and output are zero.
  Query 1 among keys 0 1 2 has weights 0 1 0, which times the values 8 3 4 gives 0 3 0: their sum, 3, is looked up.
  """
  check_shapes(query=(query, "b q n d"), key=(key, "b k n d"))
  equal = jnp.all(query[:, :, None] == key[:, None], axis=-1)
  return jnp.where(jnp.moveaxis(equal, -1, 1), 0.0, -jnp.inf).astype(_wide(query))


def _wide(array: jax.Array) -> jnp.dtype:
  return jnp.promote_types(array.dtype, jnp.float32)


def _unit(vectors: jax.Array) -> jax.Array:
  wide = vectors.astype(_wide(vectors))
  squares = jnp.sum(jnp.square(wide), axis=-1, keepdims=True)
  # Vectors shorter than 1e-12 stay shorter than one, so that the gradient is finite at zero, which a norm's is not.
  return (wide * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))).astype(vectors.dtype)
