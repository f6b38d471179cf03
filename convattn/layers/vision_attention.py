"""Attention as a block of vision models: beside a convolution, or behind a learned gate."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.convolution import Conv
from convattn.layers.grid_positions import RowColumnPositions
from convattn.layers.heads import from_heads, head_width, to_heads
from convattn.layers.inputs import check_input
from convattn.layers.seen import AxisCells, Parts, parts_wanted, sow_parts, value_lengths, without_hidden
from convattn.ops.attention import attend
from convattn.ops.pooling import max_pool
from convattn.ops.similarities import dot, scaled_dot
from convattn.ops.windows import num_windows, window_padding


class AugmentedConv(nn.Module):
  """Attention-augmented convolution: both side by side (Bello et al. 2019).

      out = concat[Conv(x), MultiHead(x)],  logits (q . k + q . rows[row shift] + q . columns[column shift]) / sqrt(d)

  [b, h, w, c] -> [b, h, w, width], of which the last value_width channels come from attention, queries and keys
  key_width wide in all; value_width 0 is the convolution, value_width = width attention alone. No stride. Query, key
  and value have no bias, as the convolution. The weights [b, n, q, k] are sown as "attention" in "intermediates".

  Raises:
    ValueError: num_heads does not divide key_width or value_width, value_width exceeds the width, or the vectors
      belong to another grid.
  """

  width: int
  key_width: int
  value_width: int
  num_heads: int
  kernel_size: int = 3
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    parameter, axis = ("query/kernel", 0) if self.value_width else ("conv/kernel", 2)
    sizes = check_input(self, x, "b h w c", parameter, axis)
    b, h, w = (sizes[axis] for axis in "bhw")
    if not 0 <= self.value_width <= self.width:
      raise ValueError(f"value_width is {self.value_width}, but must be from 0 to width = {self.width}.")
    dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    parts = []
    if self.value_width < self.width:
      parts.append(Conv(self.width - self.value_width, self.kernel_size, name="conv", **dtypes)(x))
    if self.value_width:
      parts.append(self._attention(x.reshape(b, h * w, sizes["c"]), (h, w)).reshape(b, h, w, self.value_width))
    return jnp.concatenate(parts, axis=-1)

  def _attention(self, tokens: jax.Array, grid: tuple[int, int]) -> jax.Array:
    widths = {"query": self.key_width, "key": self.key_width, "value": self.value_width}
    names = {"query": "key_width", "key": "key_width", "value": "value_width"}
    query, key, value = (
      to_heads(self, part, self.num_heads, head_width(width, self.num_heads, names[part]), use_bias=False)(tokens)
      for part, width in widths.items()
    )
    positions = RowColumnPositions(self.dtype, self.param_dtype, name="position")
    bias = positions(tokens, query, grid)
    mask = without_hidden(self, None, tokens.shape[1])
    out, weights = attend(query, key, value, bias=bias, mask=mask)
    self.sow("intermediates", "attention", weights)
    out = from_heads(self, self.value_width)(out)
    if parts_wanted(self):
      sow_parts(self, Parts(weights, scaled_dot(query, key), bias, mask, value_lengths(self, value)))
    return out


class SAGANAttention(nn.Module):
  """The self-attention block of SAGAN: x + gamma attention(x), gamma learned and 0 at the start (Zhang et al. 2019).

      out = x + gamma softmax((x W_f)(x W_g)') (x W_h) W_v

  [b, h, w, c] -> [b, h, w, c]. Queries and keys are c / reduction wide and values c / value_reduction; nothing is
  scaled, no layer has a bias. With pool > 1 keys and values are the maxima of pool x pool windows. The paper and its
  code differ: `SAGANAttention(**SAGAN_FORMS["paper"])` and `SAGANAttention(**SAGAN_FORMS["code"])`. While gamma is 0
  only gamma has a gradient. Deviation: no spectral normalisation; `nn.SpectralNorm` wraps dense layers that need it.
  The weights [b, 1, q, k] are sown as "attention" in "intermediates".

  Raises:
    ValueError: a reduction does not divide the channels.
  """

  reduction: int = 8
  value_reduction: int = 8
  pool: int = 1
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    sizes = check_input(self, x, "b h w c", "query/kernel")
    b, h, w, c = (sizes[axis] for axis in "bhwc")
    for name in ("reduction", "value_reduction"):
      if c % getattr(self, name):
        raise ValueError(f"the input has {c} channels, but must have a multiple of {name} = {getattr(self, name)}.")
    widths = {"query": c // self.reduction, "key": c // self.reduction, "value": c // self.value_reduction}
    x = x.astype(self.dtype)
    query, key, value = (to_heads(self, name, 1, width, use_bias=False)(x) for name, width in widths.items())
    if self.pool > 1:
      key, value = (max_pool(a[..., 0, :], window=self.pool, stride=self.pool)[..., None, :] for a in (key, value))
    query, key, value = (a.reshape(b, -1, 1, a.shape[-1]) for a in (query, key, value))
    mask = without_hidden(self, None, key.shape[1])
    out, weights = attend(query, key, value, similarity=dot, mask=mask)
    self.sow("intermediates", "attention", weights)
    gamma = self.param("gamma", nn.initializers.zeros, (), self.param_dtype)
    out = x + gamma.astype(self.dtype) * from_heads(self, c, use_bias=False)(out).reshape(b, h, w, c)
    if parts_wanted(self):
      rows, columns = (
        AxisCells(num_windows(size, self.pool), self.pool, -window_padding(size, self.pool, self.pool)[0])
        for size in (h, w)
      )
      lengths = value_lengths(self, value)
      sow_parts(self, Parts(weights, dot(query, key), None, mask, lengths, key_axes=(rows, columns)))
    return out


SAGAN_FORMS: dict[str, dict[str, int]] = {
  "paper": {"reduction": 8, "value_reduction": 8, "pool": 1},
  "code": {"reduction": 8, "value_reduction": 2, "pool": 2},
}
