"""Convolutions that own their kernel."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.inputs import check_input
from convattn.ops.convolutions import conv, depthwise_conv
from convattn.ops.shapes import check_shapes

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
  """Every output channel sees one input channel: [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), width].

      out[..., o] = kernel[:, :, 0, o] * x[..., o // (width / c)]          (Chollet 2017; `*` convolves)

  width is a multiple of c, and c itself if None.

  Raises:
    ValueError: width is no multiple of c.
  """

  kernel_size: int = 3
  stride: int = 1
  width: int | None = None
  use_bias: bool = False
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    # Only where each channel has one filter does the kernel tell the channels of the input.
    sizes = check_input(self, x, "b h w c", "kernel", 3) if self.width is None else check_shapes(x=(x, "b h w c"))
    channels = sizes["c"]
    width = channels if self.width is None else self.width
    if width % channels:
      raise ValueError(f"width is {width}, but must be a multiple of the input's {channels} channels.")
    filters = width // channels
    # fan_out of a group: its filters, each kernel_size ** 2.
    initializer = nn.initializers.normal((2.0 / (self.kernel_size**2 * filters)) ** 0.5)
    kernel = self.param("kernel", initializer, (self.kernel_size, self.kernel_size, 1, width), self.param_dtype)
    x = x.astype(self.dtype)
    x = depthwise_conv(jnp.repeat(x, filters, -1) if filters > 1 else x, kernel.astype(self.dtype), stride=self.stride)
    if self.use_bias:
      bias = self.param("bias", nn.initializers.zeros, (width,), self.param_dtype)
      x = x + bias.astype(self.dtype)[None, None, None]
    return x
