"""The convolution block of CoAtNet."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.activations import Activation, activation_function
from convattn.layers.choices import check_choices
from convattn.layers.convolution import DepthwiseConv, fan_out_normal
from convattn.layers.inputs import check_input
from convattn.layers.normalization import Norm, norm_of
from convattn.layers.shortcut import POOLS, Shortcut, pool
from convattn.layers.squeeze_excite import SqueezeExcite, squeezed_width
from convattn.layers.stochastic_depth import StochasticDepth
from convattn.ops.dense import dense_dot

STRIDES_AT = ("expand", "depthwise", "pool")
EXPAND_FROM = ("output", "input")
SQUEEZE_FROM = ("output", "expanded")
SQUEEZE_AT = ("after", "before")


class MBConv(nn.Module):
  """Inverted residual with a depthwise convolution and squeeze-and-excite, pre-activated (Dai et al. 2021, eq. 5).

      x <- Proj(Pool(x)) + Project(SE(act(Norm(Depthwise(act(Norm(Expand(Norm(x), stride))))))))

  [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), width]. Expand and Depthwise have no bias, Proj and Project do
  unless use_bias is false; nothing is normalised after Project. Norm is BatchNorm, or LayerNorm (the paper's Table 8).

  What the paper leaves open, and its published sizes and FLOPs decide: the expanded width is a multiple of the block's
  output width, and so is the hidden width of squeeze-and-excite (squeeze_ratio * width). The other choices:

  - stride_at: "depthwise" is the paper's Table 9; "pool" takes the mean of stride x stride windows before Expand.
  - expand_from "input": Expand is expansion * c wide. squeeze_from "expanded": the hidden width is a share of that.
  - squeeze_at "before": SE comes between Depthwise and its norm.
  - pre_norm_activation: act also follows the first norm.

  Raises:
    ValueError: a word that is not among its choices, or norm_epsilon beside a norm that is handed in.
  """

  width: int
  stride: int = 1
  stride_at: str = "expand"
  expansion: int = 4
  expand_from: str = "output"
  squeeze_ratio: float = 0.25
  squeeze_from: str = "output"
  squeeze_at: str = "after"
  squeeze_activation: Activation = SqueezeExcite.activation
  kernel_size: int = 3
  use_bias: bool = True
  norm: Norm = "batch"
  norm_epsilon: float = 1e-5
  pre_norm_activation: bool = False
  activation: Activation = "gelu"
  pool: str = Shortcut.pool
  stochastic_depth: float = 0.0
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    channels = check_input(self, x, "b h w c", "expand/kernel")["c"]
    check_choices(
      self, stride_at=STRIDES_AT, expand_from=EXPAND_FROM, squeeze_from=SQUEEZE_FROM, squeeze_at=SQUEEZE_AT, pool=POOLS
    )
    dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    norm = norm_of(self)
    dense = functools.partial(nn.Dense, kernel_init=fan_out_normal, dot_general=dense_dot, **dtypes)
    act = activation_function(self.activation)
    expanded, hidden = self.hidden_widths(channels)
    stride = {place: self.stride if self.stride_at == place else 1 for place in STRIDES_AT}

    def squeeze_excite(x: jax.Array, place: str) -> jax.Array:
      if place != self.squeeze_at:
        return x
      return SqueezeExcite(hidden, self.squeeze_activation, name="squeeze_excite", **dtypes)(x)

    x = x.astype(self.dtype)
    shortcut = Shortcut(self.width, self.stride, self.pool, self.use_bias, fan_out_normal, name="shortcut", **dtypes)(x)
    x = norm(name="pre_norm")(x, train=train)
    x = pool(act(x) if self.pre_norm_activation else x, "avg", stride["pool"])
    x = x[:, :: stride["expand"], :: stride["expand"]]  # a strided 1x1 convolution sees every stride-th pixel
    x = act(norm(name="expand_norm")(dense(features=expanded, use_bias=False, name="expand")(x), train=train))
    x = DepthwiseConv(self.kernel_size, stride["depthwise"], name="depthwise", **dtypes)(x)
    x = squeeze_excite(x, "before")
    x = act(norm(name="depthwise_norm")(x, train=train))
    x = squeeze_excite(x, "after")
    x = dense(features=self.width, use_bias=self.use_bias, name="project")(x)
    return shortcut + StochasticDepth(self.stochastic_depth, name="drop")(x, train=train)

  def hidden_widths(self, channels: int) -> tuple[int, int]:
    """(expanded width, hidden width of squeeze-and-excite) for an input of so many channels."""
    expanded = self.expansion * {"output": self.width, "input": channels}[self.expand_from]
    return expanded, squeezed_width({"output": self.width, "expanded": expanded}[self.squeeze_from], self.squeeze_ratio)
