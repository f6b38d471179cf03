"""The convolutions in front of the first stage."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.activations import Activation, activation_function
from convattn.layers.convolution import Conv
from convattn.layers.inputs import check_input
from convattn.layers.normalization import Norm, norm_of


class Stem(nn.Module):
  """Convolutions with norm and activation between them, the first one strided, nothing after the last.

  [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), widths[-1]]. CoAtNet: two of 3x3, stride 2. One of 16x16, stride
  16, is the patch embedding of a Vision Transformer.
  """

  widths: tuple[int, ...]
  kernel_size: int = 3
  stride: int = 2
  use_bias: bool = False
  norm: Norm = "batch"
  norm_epsilon: float = 1e-5
  activation: Activation = "gelu"
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    check_input(self, x, "b h w c", "conv_1/kernel", 2)
    dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    for i, width in enumerate(self.widths):
      if i:
        x = norm_of(self)(name=f"norm_{i}")(x, train=train)
        x = activation_function(self.activation)(x)
      stride = self.stride if i == 0 else 1
      x = Conv(width, self.kernel_size, stride, self.use_bias, name=f"conv_{i + 1}", **dtypes)(x)
    return x
