"""The Transformer block of CoAtNet."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.attention import RelativeAttention
from convattn.layers.feed_forward import FeedForward
from convattn.layers.inputs import check_input
from convattn.layers.layer_scale import LayerScale
from convattn.layers.normalization import NORMS
from convattn.layers.shortcut import Shortcut, pool
from convattn.layers.stochastic_depth import StochasticDepth

WIDTH_FROM = ("output", "input")


class TransformerBlock(nn.Module):
  """Pre-normalised relative attention and feed-forward network, pooling if strided (Dai et al. 2021, eq. 4).

      x <- Proj(Pool(x)) + Attention(Pool(Norm(x)))
      x <- x + FeedForward(Norm(x))

  [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), width]. The first norm sees the image before it is pooled;
  query, key and value all come from the pooled image. Attention is as wide as the block's output, or with
  width_from="input" as its input; its last dense layer then widens. layer_scale is the initial size of both residual
  branches (LayerScale), 0 leaves it out. position_dropout acts in training only.

  Raises:
    ValueError: head_size does not divide the attention's width (and what RelativeAttention raises).
  """

  width: int
  stride: int = 1
  head_size: int = 32
  width_from: str = "output"
  relative: str = "pre"
  position: str = "table"
  position_hidden: int = 512
  position_dropout: float = 0.0
  table_resize: str = "none"
  expansion: int = 4
  norm: str = "layer"
  norm_epsilon: float = 1e-6
  activation: str = "gelu"
  pool: str = "max"
  shortcut_bias: bool = True
  layer_scale: float = 0.0
  stochastic_depth: float = 0.0
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    channels = check_input(self, x, "b h w c", "attention_norm/scale")["c"]
    attention_width = {"output": self.width, "input": channels}[self.width_from]
    if attention_width % self.head_size:
      raise ValueError(f"width is {attention_width}, but must be a multiple of head_size = {self.head_size}.")
    dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    norm = functools.partial(NORMS[self.norm], epsilon=self.norm_epsilon, **dtypes)

    def residual(branch: jax.Array, name: str) -> jax.Array:
      if self.layer_scale:
        branch = LayerScale(self.layer_scale, name=f"{name}_scale", **dtypes)(branch)
      return StochasticDepth(self.stochastic_depth, name=f"{name}_drop")(branch, train=train)

    x = x.astype(self.dtype)
    initializer = nn.initializers.xavier_uniform()
    shortcut = Shortcut(self.width, self.stride, self.pool, self.shortcut_bias, initializer, name="shortcut", **dtypes)(
      x
    )
    attention = RelativeAttention(
      attention_width // self.head_size,
      attention_width,
      self.width,
      self.relative,
      self.position,
      self.position_hidden,
      self.position_dropout if train else 0.0,
      self.table_resize,
      name="attention",
      **dtypes,
    )
    x = attention(pool(norm(name="attention_norm")(x, train=train), self.pool, self.stride))
    x = shortcut + residual(x, "attention")
    y = norm(name="feed_forward_norm")(x, train=train)
    y = FeedForward(self.expansion, self.activation, name="feed_forward", **dtypes)(y)
    return x + residual(y, "feed_forward")
