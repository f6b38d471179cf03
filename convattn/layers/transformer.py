"""The Transformer block of CoAtNet."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.activations import ACTIVATIONS
from convattn.layers.attention import RelativeAttention
from convattn.layers.inputs import check_input
from convattn.layers.normalization import NORMS
from convattn.layers.shortcut import Shortcut, pool
from convattn.layers.stochastic_depth import StochasticDepth


class FeedForward(nn.Module):
  """Two dense layers, an activation between, back to the input's width: [..., c] -> [..., c] (Vaswani et al. 2017)."""

  expansion: int = 4
  activation: str = "gelu"
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    check_input(self, x, "... c", "expand/kernel")
    initializer = nn.initializers.xavier_uniform()
    dense = functools.partial(nn.Dense, kernel_init=initializer, dtype=self.dtype, param_dtype=self.param_dtype)
    hidden = ACTIVATIONS[self.activation](dense(self.expansion * x.shape[-1], name="expand")(x))
    return dense(x.shape[-1], name="project")(hidden)


class TransformerBlock(nn.Module):
  """Pre-normalised relative attention and feed-forward network, pooling if strided (Dai et al. 2021, eq. 4).

      x <- Proj(Pool(x)) + Attention(Pool(Norm(x)))
      x <- x + FeedForward(Norm(x))

  [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), width]. The first norm sees the image before it is pooled;
  query, key and value all come from the pooled image, and attention is as wide as the block's output.

  Raises:
    ValueError: head_size does not divide the width (and what RelativeAttention raises).
  """

  width: int
  stride: int = 1
  head_size: int = 32
  relative: str = "pre"
  expansion: int = 4
  norm: str = "layer"
  norm_epsilon: float = 1e-6
  activation: str = "gelu"
  pool: str = "max"
  stochastic_depth: float = 0.0
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    check_input(self, x, "b h w c", "attention_norm/scale")
    if self.width % self.head_size:
      raise ValueError(f"width is {self.width}, but must be a multiple of head_size = {self.head_size}.")
    dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    norm = functools.partial(NORMS[self.norm], epsilon=self.norm_epsilon, **dtypes)
    drop = functools.partial(StochasticDepth, self.stochastic_depth)

    x = x.astype(self.dtype)
    initializer = nn.initializers.xavier_uniform()
    shortcut = Shortcut(self.width, self.stride, self.pool, initializer, name="shortcut", **dtypes)(x)
    x = pool(norm(name="attention_norm")(x, train=train), self.pool, self.stride)
    x = RelativeAttention(self.width // self.head_size, self.width, self.relative, name="attention", **dtypes)(x)
    x = shortcut + drop(name="attention_drop")(x, train=train)
    y = norm(name="feed_forward_norm")(x, train=train)
    y = FeedForward(self.expansion, self.activation, name="feed_forward", **dtypes)(y)
    return x + drop(name="feed_forward_drop")(y, train=train)
