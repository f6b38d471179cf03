"""The ConvNeXt block (Liu et al. 2022)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.activations import Activation
from convattn.layers.choices import check_choices
from convattn.layers.convolution import DepthwiseConv, fan_out_normal
from convattn.layers.feed_forward import FeedForward
from convattn.layers.layer_scale import LayerScale
from convattn.layers.normalization import Norm, norm_of
from convattn.layers.shortcut import POOLS, Shortcut, check_block_input, pool
from convattn.layers.stochastic_depth import StochasticDepth

STRIDES_AT = ("depthwise", "pool")


class ConvNeXtBlock(nn.Module):
  """A large depthwise convolution, one norm and a feed-forward network, scaled per channel.

      x <- Proj(Pool(x)) + scale * FeedForward(Norm(Depthwise(x, stride)))

  [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), width], width a multiple of c: the depthwise convolution widens.
  `stride_at="pool"` takes the mean of stride x stride windows in front of it instead. layer_scale is the initial
  scale, 0 leaves it out.

  Deviation: the paper strides in layers between stages, by a norm and a 2x2 convolution; timm's hybrid models, which
  these are, stride in the block and pool on the way around it.

  Raises:
    ValueError: stride_at is not one of STRIDES_AT; width is no multiple of c.
  """

  width: int
  stride: int = 1
  stride_at: str = "depthwise"
  expansion: int = 4
  kernel_size: int = 7
  use_bias: bool = True
  norm: Norm = "layer"
  norm_epsilon: float = 1e-6
  activation: Activation = "gelu"
  pool: str = "avg"
  layer_scale: float = 1e-6
  stochastic_depth: float = 0.0
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    check_block_input(self, x, self.width)
    check_choices(self, stride_at=STRIDES_AT, pool=POOLS)
    dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    depthwise_stride = self.stride if self.stride_at == "depthwise" else 1
    x = x.astype(self.dtype)
    shortcut = Shortcut(self.width, self.stride, self.pool, self.use_bias, fan_out_normal, name="shortcut", **dtypes)(x)
    x = pool(x, "avg", self.stride // depthwise_stride)
    x = DepthwiseConv(self.kernel_size, depthwise_stride, self.width, self.use_bias, name="depthwise", **dtypes)(x)
    x = norm_of(self)(name="norm")(x, train=train)
    x = FeedForward(self.expansion, self.activation, name="feed_forward", **dtypes)(x)
    if self.layer_scale:
      x = LayerScale(self.layer_scale, name="scale", **dtypes)(x)
    return shortcut + StochasticDepth(self.stochastic_depth, name="drop")(x, train=train)
