"""Convolutions along the rows of [b, h, w, c] that never look ahead; a sequence is an image of one row."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.inputs import check_input
from convattn.layers.normalization import Norm, norm_of
from convattn.layers.shortcut import Shortcut, check_block_input
from convattn.layers.stochastic_depth import StochasticDepth
from convattn.ops.causal import causal_conv
from convattn.ops.dense import dense_dot


class CausalConv(nn.Module):
  """Dilated causal convolution along w, each row for itself (van den Oord et al. 2016, WaveNet).

      out[b, r, t] = sum_j x[b, r, t - (taps - 1 - j) dilation] kernel[j] + bias

  [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), width]: with a stride every stride-th row and column of it.
  `train` changes nothing.
  """

  width: int
  taps: int = 2
  dilation: int = 1
  stride: int = 1
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    del train
    sizes = check_input(self, x, "b h w c", "kernel", 1)
    kernel = self.param("kernel", nn.initializers.lecun_normal(), (self.taps, sizes["c"], self.width), self.param_dtype)
    bias = self.param("bias", nn.initializers.zeros, (self.width,), self.param_dtype)
    x = x.astype(self.dtype)[:, :: self.stride]
    b, h, w, c = x.shape
    out = causal_conv(x.reshape(b * h, w, c), kernel.astype(self.dtype), dilation=self.dilation)
    return out.reshape(b, h, w, self.width)[:, :, :: self.stride] + bias.astype(self.dtype)[None, None, None]


class DilatedStack(nn.Module):
  """WaveNet's residual stack of gated dilated causal convolutions along w (van den Oord et al. 2016, section 2.3, 2.4).

      x_0 = Dense(x),   z_i = tanh(F_i * x_i) sigmoid(G_i * x_i),   x_{i+1} = x_i + Dense(z_i),   out = sum_i Dense(z_i)

  `*` is a CausalConv with taps and dilations[i]. A pixel sees 1 + (taps - 1) sum(dilations) pixels of its row, itself
  the last. [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), width], strided at the end. The last layer has no
  residual part, which nobody would read. `train` changes nothing.
  """

  width: int
  dilations: tuple[int, ...] = (1, 2, 4)
  taps: int = 2
  stride: int = 1
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    check_input(self, x, "b h w c", "start/kernel")
    dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}

    def dense(name: str, x: jax.Array) -> jax.Array:
      return nn.Dense(self.width, dot_general=dense_dot, name=name, **dtypes)(x)

    x = dense("start", x.astype(self.dtype))[:, :: self.stride]
    skips = jnp.zeros_like(x)
    for i, dilation in enumerate(self.dilations):
      both = CausalConv(2 * self.width, self.taps, dilation, name=f"conv_{i + 1}", **dtypes)(x, train=train)
      filtered, gate = jnp.split(both, 2, axis=-1)
      z = jnp.tanh(filtered) * nn.sigmoid(gate)
      skips = skips + dense(f"skip_{i + 1}", z)
      if i + 1 < len(self.dilations):
        x = x + dense(f"residual_{i + 1}", z)
    return skips[:, :, :: self.stride]


class CausalBlock(nn.Module):
  """A DilatedStack of dilations 1, 2, 4 and so on, `depth` of them, as a pre-normalised residual block.

      x <- Proj(Pool(x)) + Stack(Norm(x))

  [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), width]. The stack sees of a pixel's row itself and the
  (taps - 1) (2^depth - 1) pixels before it, of no other row anything. A strided block pools on its way around.
  """

  width: int
  stride: int = 1
  depth: int = 5
  taps: int = 3
  norm: Norm = "batch"
  norm_epsilon: float = 1e-5
  pool: str = Shortcut.pool
  stochastic_depth: float = 0.0
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    check_block_input(self, x, self.width)
    dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    x = x.astype(self.dtype)
    shortcut = Shortcut(self.width, self.stride, self.pool, name="shortcut", **dtypes)(x)
    dilations = tuple(2**i for i in range(self.depth))
    y = norm_of(self)(name="norm")(x, train=train)
    y = DilatedStack(self.width, dilations, self.taps, self.stride, name="stack", **dtypes)(y, train=train)
    return shortcut + StochasticDepth(self.stochastic_depth, name="drop")(y, train=train)
