"""The position-wise network of Transformer and ConvNeXt blocks."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.activations import Activation, activation_function
from convattn.layers.inputs import check_input
from convattn.ops.dense import dense_dot


class FeedForward(nn.Module):
  """Two dense layers, an activation between, back to the input's width: [..., c] -> [..., c] (Vaswani et al. 2017)."""

  expansion: int = 4
  activation: Activation = "gelu"
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    check_input(self, x, "... c", "expand/kernel")
    initializer = nn.initializers.xavier_uniform()
    fields: dict[str, Any] = {"kernel_init": initializer, "dtype": self.dtype, "param_dtype": self.param_dtype}
    dense = functools.partial(nn.Dense, dot_general=dense_dot, **fields)
    hidden = activation_function(self.activation)(dense(features=self.expansion * x.shape[-1], name="expand")(x))
    return dense(features=x.shape[-1], name="project")(hidden)
