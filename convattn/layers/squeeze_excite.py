"""Squeeze-and-excite (Hu et al. 2018)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.activations import Activation, activation_function
from convattn.layers.convolution import fan_out_normal
from convattn.layers.inputs import check_input
from convattn.ops.dense import dense_dot


def squeezed_width(width: int, ratio: float) -> int:
  """Hidden channels for a ratio of `width`, at least one."""
  return max(1, int(ratio * width))


class SqueezeExcite(nn.Module):
  """Scales every channel by a gate computed from all channels' means: x * sigmoid(W2 act(W1 mean_hw(x) + b1) + b2).

  Input and output [b, h, w, c]; W1 is [c, hidden], W2 [hidden, c]. act is a layers.activations.Activation; the paper of
  squeeze-and-excite has "relu", CoAtNet's code family "silu".
  """

  hidden: int
  activation: Activation = "silu"
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    channels = check_input(self, x, "b h w c", "reduce/kernel")["c"]
    x = x.astype(self.dtype)
    fields: dict[str, Any] = {"kernel_init": fan_out_normal, "dot_general": dense_dot}
    fields |= {"dtype": self.dtype, "param_dtype": self.param_dtype}
    squeezed = x.mean((1, 2), keepdims=True)
    gate = nn.Dense(self.hidden, name="reduce", **fields)(squeezed)
    gate = nn.Dense(channels, name="expand", **fields)(activation_function(self.activation)(gate))
    return x * nn.sigmoid(gate)
