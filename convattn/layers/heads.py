"""What every attention layer of several heads begins and ends with."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from convattn.layers.choices import check_choice
from convattn.ops.dense import dense_dot
from convattn.ops.similarities import additive, bilinear, cosine, dot, scaled_dot

SIMILARITIES = ("dot", "scaled_dot", "cosine", "bilinear", "additive")


def head_width(width: int, num_heads: int, name: str = "width") -> int:
  """The width of each head; ValueError where num_heads does not divide the width."""
  if width % num_heads:
    raise ValueError(f"{name} is {width}, but must be a multiple of num_heads = {num_heads}.")
  return width // num_heads


def to_heads(
  module: Any, name: str, num_heads: int, size: int, use_bias: bool = True, **fields: Any
) -> nn.DenseGeneral:
  """[..., c] -> [..., num_heads, size], one dense layer for all heads."""
  return nn.DenseGeneral((num_heads, size), use_bias=use_bias, name=name, **(_dense_fields(module) | fields))


def from_heads(module: Any, width: int, use_bias: bool = True) -> nn.DenseGeneral:
  """[..., n, d] -> [..., width]: the heads side by side through one dense layer, "out"."""
  return nn.DenseGeneral(width, axis=(-2, -1), use_bias=use_bias, name="out", **_dense_fields(module))


def _dense_fields(module: Any) -> dict[str, Any]:
  return {
    "dot_general": dense_dot,
    "kernel_init": nn.initializers.xavier_uniform(),
    "dtype": module.dtype,
    "param_dtype": module.param_dtype,
  }


class Similarity(nn.Module):
  """A similarity of ops with its parameters: query [b, q, n, d] and key [b, k, n, d] to logits [b, n, q, k].

  - "dot", "scaled_dot": no parameters.
  - "cosine": times exp(min(scale, ln 100)), one scale per head that starts at ln 10 (Liu et al. 2022, Swin V2).
  - "bilinear": `weight` [n, d, d].
  - "additive": `query_weight` and `key_weight` [n, d, d], `vector` [n, d].

  Raises:
    ValueError: another kind.
  """

  kind: str = "scaled_dot"
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, query: jax.Array, key: jax.Array) -> jax.Array:
    check_choice("similarity", self.kind, SIMILARITIES)
    n, d = query.shape[-2:]
    square = functools.partial(
      self.param, init_fn=nn.initializers.xavier_uniform(batch_axis=0), shape=(n, d, d), dtype=self.param_dtype
    )
    if self.kind == "cosine":
      logits = cosine(query, key)
      scale = self.param("scale", nn.initializers.constant(jnp.log(10.0)), (n,), self.param_dtype)
      return logits * jnp.exp(jnp.minimum(scale, jnp.log(100.0))).astype(logits.dtype)[None, :, None, None]
    if self.kind == "bilinear":
      return bilinear(query, key, square("weight"))
    if self.kind == "additive":
      vector = self.param("vector", nn.initializers.normal(d**-0.5), (n, d), self.param_dtype)
      return additive(query, key, square("query_weight"), square("key_weight"), vector)
    return {"dot": dot, "scaled_dot": scaled_dot}[self.kind](query, key)
