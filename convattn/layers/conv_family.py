"""The family of convolutions in one calling convention, so that a block swaps one for another by data.

Every one is (x [b, h, w, c], *, train) -> [b, ceil(h/stride), ceil(w/stride), width], made by
`CONVOLUTIONS[name](width=..., stride=..., dtype=..., param_dtype=...)`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.causal import CausalConv, DilatedStack
from convattn.layers.convolution import Conv, DepthwiseConv, fan_out_normal
from convattn.layers.inputs import check_input
from convattn.layers.mbconv import MBConv
from convattn.layers.normalization import Norm, norm_maker
from convattn.ops.dense import dense_dot


class ConvBlock(nn.Module):
  """relu(Norm(Conv(x))): a dense convolution; with kernel_size 1 it is pointwise.

  [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), width]; the convolution has no bias. norm is a
  layers.normalization.Norm.
  """

  width: int
  kernel_size: int = 3
  stride: int = 1
  norm: Norm = "batch"
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    check_input(self, x, "b h w c", "conv/kernel", 2)
    dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    x = Conv(self.width, self.kernel_size, self.stride, name="conv", **dtypes)(x)
    return nn.relu(norm_maker(self.norm, **dtypes)(name="norm")(x, train=train))


class DepthwiseBlock(nn.Module):
  """relu(Norm(DepthwiseConv(x))): every output channel sees one input channel; width is a multiple of c.

  [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), width] (c if None).

  Raises:
    ValueError: width is no multiple of c.
  """

  width: int | None = None
  kernel_size: int = 3
  stride: int = 1
  norm: Norm = "batch"
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    x = DepthwiseConv(self.kernel_size, self.stride, self.width, name="depthwise", **dtypes)(x)
    return nn.relu(norm_maker(self.norm, **dtypes)(name="norm")(x, train=train))


class SeparableConv(nn.Module):
  """Depthwise-separable convolution: DepthwiseBlock, then a pointwise ConvBlock (Howard et al. 2017, MobileNets).

  [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), max(1, int(width_multiplier * width))]. It costs
  k^2 c + c width products per pixel, a dense convolution k^2 c width.
  """

  width: int
  kernel_size: int = 3
  stride: int = 1
  width_multiplier: float = 1.0
  norm: Norm = "batch"
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    check_input(self, x, "b h w c", "depthwise/depthwise/kernel", 3)
    fields: dict[str, Any] = {"norm": self.norm, "dtype": self.dtype, "param_dtype": self.param_dtype}
    width = max(1, int(self.width_multiplier * self.width))
    x = DepthwiseBlock(None, self.kernel_size, self.stride, name="depthwise", **fields)(x, train=train)
    return ConvBlock(width, 1, name="pointwise", **fields)(x, train=train)


class InvertedResidual(nn.Module):
  """Inverted residual with a linear bottleneck (Sandler et al. 2018, MobileNetV2).

      Norm(Project(relu6(Norm(Depthwise(relu6(Norm(Expand(x))), stride)))))  [+ x]

  [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), width]. Expand makes expansion * c channels, and is left out for
  expansion 1. Nothing follows the last norm: the bottleneck is linear. x is added only where the shapes agree, stride 1
  and c = width.
  """

  width: int
  kernel_size: int = 3
  stride: int = 1
  expansion: int = 6
  norm: Norm = "batch"
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    first = ("expand/kernel", 0) if self.expansion > 1 else ("depthwise/kernel", 3)
    channels = check_input(self, x, "b h w c", *first)["c"]
    dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    dense = functools.partial(nn.Dense, use_bias=False, kernel_init=fan_out_normal, dot_general=dense_dot, **dtypes)
    norm = norm_maker(self.norm, **dtypes)
    x = x.astype(self.dtype)
    y = x
    if self.expansion > 1:
      y = nn.relu6(norm(name="expand_norm")(dense(features=self.expansion * channels, name="expand")(y), train=train))
    y = DepthwiseConv(self.kernel_size, self.stride, name="depthwise", **dtypes)(y)
    y = nn.relu6(norm(name="depthwise_norm")(y, train=train))
    y = norm(name="project_norm")(dense(features=self.width, name="project")(y), train=train)
    return x + y if self.stride == 1 and channels == self.width else y


class FullyConnected(nn.Module):
  """Every output pixel and channel sees every input pixel and channel, each pair with a weight of its own.

      out[b, p, q, o] = sum_{i,j,c} x[b, i, j, c] kernel[i, j, c, p, q, o] + bias[p, q, o]

  [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), width]: a convolution without locality and without sharing. The
  parameters belong to one grid. `train` changes nothing.

  Raises:
    ValueError: an image of another grid.
  """

  width: int
  stride: int = 1
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    del train
    sizes = check_input(self, x, "b h w c", "kernel", 2)
    h, w, c = (sizes[axis] for axis in "hwc")
    if self.has_variable("params", "kernel") and self.get_variable("params", "kernel").shape[:2] != (h, w):
      found: tuple[int, ...] = self.get_variable("params", "kernel").shape
      raise ValueError(f"the image is {h}x{w}, but the parameters belong to {found[0]}x{found[1]}; use such images.")
    out = (-(-h // self.stride), -(-w // self.stride), self.width)
    initializer = nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=(0, 1, 2), out_axis=(3, 4, 5))
    kernel = self.param("kernel", initializer, (h, w, c, *out), self.param_dtype).astype(self.dtype)
    bias = self.param("bias", nn.initializers.zeros, out, self.param_dtype).astype(self.dtype)
    return dense_dot(x.astype(self.dtype), kernel, (((1, 2, 3), (0, 1, 2)), ((), ()))) + bias[None]


CONVOLUTIONS: dict[str, Callable[..., nn.Module]] = {
  "dense": ConvBlock,
  "pointwise": functools.partial(ConvBlock, kernel_size=1),
  "depthwise": DepthwiseBlock,
  "separable": SeparableConv,
  "inverted_residual": InvertedResidual,
  "mbconv": MBConv,
  "causal": CausalConv,
  "dilated_stack": DilatedStack,
  "fully_connected": FullyConnected,
}
