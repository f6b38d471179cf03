"""The Transformer block of CoAtNet."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.activations import Activation
from convattn.layers.attention import RelativeAttention
from convattn.layers.choices import check_choices, refuse_beside
from convattn.layers.feed_forward import FeedForward
from convattn.layers.layer_scale import LayerScale
from convattn.layers.normalization import Norm, norm_of
from convattn.layers.shortcut import POOLS, Shortcut, check_block_input, pool
from convattn.layers.stochastic_depth import StochasticDepth

WIDTH_FROM = ("output", "input")


class TransformerBlock(nn.Module):
  """Pre-normalised relative attention and feed-forward network, pooling if strided (Dai et al. 2021, eq. 4).

      x <- Proj(Pool(x)) + Attention(Pool(Norm(x)))
      x <- x + FeedForward(Norm(x))

  [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), width]. The first norm sees the image before it is pooled;
  query, key and value all come from the pooled image. Attention is as wide as the block's output, or with
  width_from="input" as its input; its last dense layer then widens. layer_scale is the initial size of both residual
  branches (LayerScale), 0 leaves it out.

  `attention` makes it from (num_heads, width, out_width, dtype, param_dtype, name), called as (x, *, train), such as
  `functools.partial(RelativeAttention, position=BiasMLP)` or `functools.partial(GridAttention, position="quadratic")`.
  Left out, it is a RelativeAttention with the fields `relative`, `position`, `position_hidden`, `position_dropout` and
  `table_resize`, which are for that alone.

  Raises:
    ValueError: head_size does not divide the attention's width (and what the attention raises).
  """

  width: int
  stride: int = 1
  head_size: int = 32
  width_from: str = "output"
  relative: str = RelativeAttention.relative
  position: str | Callable[..., nn.Module] | None = RelativeAttention.position
  position_hidden: int = RelativeAttention.position_hidden
  position_dropout: float = RelativeAttention.position_dropout
  table_resize: str = RelativeAttention.table_resize
  expansion: int = FeedForward.expansion
  norm: Norm = "layer"
  norm_epsilon: float = 1e-6
  activation: Activation = FeedForward.activation
  pool: str = Shortcut.pool
  shortcut_bias: bool = True
  layer_scale: float = 0.0
  stochastic_depth: float = 0.0
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32
  attention: Callable[..., nn.Module] | None = None

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    channels = check_block_input(self, x, self.width)
    check_choices(self, width_from=WIDTH_FROM, pool=POOLS)
    attention_width = {"output": self.width, "input": channels}[self.width_from]
    if attention_width % self.head_size:
      raise ValueError(f"width is {attention_width}, but must be a multiple of head_size = {self.head_size}.")
    dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    norm = norm_of(self)

    def residual(branch: jax.Array, name: str) -> jax.Array:
      if self.layer_scale:
        branch = LayerScale(self.layer_scale, name=f"{name}_scale", **dtypes)(branch)
      return StochasticDepth(self.stochastic_depth, name=f"{name}_drop")(branch, train=train)

    x = x.astype(self.dtype)
    initializer = nn.initializers.xavier_uniform()
    shortcut = Shortcut(self.width, self.stride, self.pool, self.shortcut_bias, initializer, name="shortcut", **dtypes)(
      x
    )
    attention = self._attention_maker()(
      num_heads=attention_width // self.head_size,
      width=attention_width,
      out_width=self.width,
      name="attention",
      **dtypes,
    )
    x = attention(pool(norm(name="attention_norm")(x, train=train), self.pool, self.stride), train=train)
    x = shortcut + residual(x, "attention")
    y = norm(name="feed_forward_norm")(x, train=train)
    y = FeedForward(self.expansion, self.activation, name="feed_forward", **dtypes)(y)
    return x + residual(y, "feed_forward")

  def _attention_maker(self) -> Callable[..., nn.Module]:
    names = ("relative", "position", "position_hidden", "position_dropout", "table_resize")
    if self.attention is not None:
      refuse_beside(self, "attention", *names)
      return self.attention
    return functools.partial(RelativeAttention, **{name: getattr(self, name) for name in names})
