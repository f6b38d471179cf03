"""The way around a residual branch."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.choices import check_choices
from convattn.layers.inputs import check_input
from convattn.ops.dense import dense_dot
from convattn.ops.pooling import avg_pool, max_pool
from convattn.ops.shapes import check_shapes


def pool(x: jax.Array, kind: str, stride: int) -> jax.Array:
  """Pools [b, h, w, c] to [b, ceil(h/stride), ceil(w/stride), c] by a kind of POOLS; stride 1 is the identity."""
  return x if stride == 1 else POOLS[kind](x, stride)


POOLS = {
  "max": lambda x, stride: max_pool(x, window=stride, stride=stride),
  "avg": lambda x, stride: avg_pool(x, window=stride, stride=stride),
  "max3x3": lambda x, stride: max_pool(x, window=3, stride=stride),
}


def check_block_input(block: nn.Module, x: jax.Array, width: int) -> int:
  """The channels of x [b, h, w, c], checked as by `check_input`, for a block of `width` with a Shortcut, "shortcut"."""
  if block.has_variable("params", "shortcut"):
    return check_input(block, x, "b h w c", "shortcut/project/kernel")["c"]
  # A block whose shortcut has no parameters was made for images as wide as itself.
  check_shapes(x=(x, f"b h w {width if block.variables.get('params') else 'c'}"))
  return x.shape[-1]


class Shortcut(nn.Module):
  """Proj(Pool(x)) of eq. 4 and 5 (Dai et al. 2021): [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), width].

  Deviation: the paper writes Proj in every strided block, here it is the identity where c = width already; the
  published parameter counts of CoAtNet-2, -3, -4 and -6 need it so.
  """

  width: int
  stride: int = 1
  pool: str = "max"
  use_bias: bool = True
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    check_choices(self, pool=POOLS)
    channels = check_input(self, x, "b h w c", "project/kernel")["c"]
    x = x.astype(self.dtype)
    x = pool(x, self.pool, self.stride)
    if channels == self.width:
      return x
    fields: dict[str, Any] = {"kernel_init": self.kernel_init, "dtype": self.dtype, "param_dtype": self.param_dtype}
    return nn.Dense(self.width, self.use_bias, dot_general=dense_dot, name="project", **fields)(x)
