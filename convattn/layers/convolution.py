"""Convolutions that own their kernel."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.inputs import check_input
from convattn.ops.convolutions import conv, depthwise_conv

# Normal with variance 2 / fan_out: keeps the variance of the gradient through a rectifier (He et al. 2015). The paper
# gives no initial values; these are what timm's models of this shape use.
fan_out_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Conv(nn.Module):
  """Dense convolution [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), width], padded as in ops.windows."""

  width: int
  kernel_size: int = 3
  stride: int = 1
  use_bias: bool = False
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    channels = check_input(self, x, "b h w c", "kernel", 2)["c"]
    shape = (self.kernel_size, self.kernel_size, channels, self.width)
    kernel = self.param("kernel", fan_out_normal, shape, self.param_dtype)
    x = conv(x.astype(self.dtype), kernel.astype(self.dtype), stride=self.stride)
    if self.use_bias:
      bias = self.param("bias", nn.initializers.zeros, (self.width,), self.param_dtype)
      x = x + bias.astype(self.dtype)[None, None, None]
    return x


class DepthwiseConv(nn.Module):
  """One filter per channel, no bias: [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), c] (Chollet 2017)."""

  kernel_size: int = 3
  stride: int = 1
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    channels = check_input(self, x, "b h w c", "kernel", 3)["c"]
    # A depthwise filter has as many outputs per group as inputs: fan_out = kernel_size ** 2.
    initializer = nn.initializers.normal((2.0 / self.kernel_size**2) ** 0.5)
    shape = (self.kernel_size, self.kernel_size, 1, channels)
    kernel = self.param("kernel", initializer, shape, self.param_dtype)
    return depthwise_conv(x.astype(self.dtype), kernel.astype(self.dtype), stride=self.stride)
