"""The convolution block of CoAtNet."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.activations import ACTIVATIONS
from convattn.layers.convolution import DepthwiseConv, fan_out_normal
from convattn.layers.inputs import check_input
from convattn.layers.normalization import NORMS
from convattn.layers.shortcut import Shortcut
from convattn.layers.squeeze_excite import SqueezeExcite, squeezed_width
from convattn.layers.stochastic_depth import StochasticDepth


class MBConv(nn.Module):
  """Inverted residual with a depthwise convolution and squeeze-and-excite, pre-activated (Dai et al. 2021, eq. 5).

      x <- Proj(Pool(x)) + Project(SE(act(Norm(Depthwise(act(Norm(Expand(Norm(x), stride))))))))

  [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), width]. Expand (to expansion * width) and Depthwise have no bias,
  Project has one; nothing is normalised after it. Norm is BatchNorm, or LayerNorm for the paper's Table 8.

  What the paper leaves open, and its published sizes and FLOPs decide: the expanded width is a multiple of the block's
  output width, and so is the hidden width of squeeze-and-excite (squeeze_ratio * width). `stride_at="depthwise"` is the
  paper's Table 9.
  """

  width: int
  stride: int = 1
  stride_at: str = "expand"
  expansion: int = 4
  squeeze_ratio: float = 0.25
  kernel_size: int = 3
  norm: str = "batch"
  norm_epsilon: float = 1e-5
  activation: str = "gelu"
  pool: str = "max"
  stochastic_depth: float = 0.0
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    check_input(self, x, "b h w c", "pre_norm/scale")
    dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    norm = functools.partial(NORMS[self.norm], epsilon=self.norm_epsilon, **dtypes)
    dense = functools.partial(nn.Dense, kernel_init=fan_out_normal, **dtypes)
    act = ACTIVATIONS[self.activation]
    expanded = self.expansion * self.width
    depthwise_stride = self.stride if self.stride_at == "depthwise" else 1
    expand_stride = self.stride if self.stride_at == "expand" else 1

    x = x.astype(self.dtype)
    shortcut = Shortcut(self.width, self.stride, self.pool, fan_out_normal, name="shortcut", **dtypes)(x)
    x = norm(name="pre_norm")(x, train=train)
    x = x[:, ::expand_stride, ::expand_stride]  # a strided 1x1 convolution sees every stride-th pixel
    x = act(norm(name="expand_norm")(dense(features=expanded, use_bias=False, name="expand")(x), train=train))
    x = DepthwiseConv(self.kernel_size, depthwise_stride, name="depthwise", **dtypes)(x)
    x = act(norm(name="depthwise_norm")(x, train=train))
    x = SqueezeExcite(squeezed_width(self.width, self.squeeze_ratio), name="squeeze_excite", **dtypes)(x)
    x = dense(features=self.width, name="project")(x)
    return shortcut + StochasticDepth(self.stochastic_depth, name="drop")(x, train=train)
