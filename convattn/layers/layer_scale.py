"""A learnable size for a residual branch (Touvron et al. 2021)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.inputs import check_input


class LayerScale(nn.Module):
  """x * scale, one scale per channel that starts at `initial`. Input and output [..., c]."""

  initial: float
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    channels = check_input(self, x, "... c", "scale")["c"]
    scale = self.param("scale", nn.initializers.constant(self.initial), (channels,), self.param_dtype)
    return x.astype(self.dtype) * jnp.expand_dims(scale.astype(self.dtype), range(x.ndim - 1))
