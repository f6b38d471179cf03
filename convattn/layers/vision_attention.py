"""Attention as a block of vision models: beside a convolution, around each pixel, in windows, behind a learned gate."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from convattn.layers.convolution import Conv
from convattn.layers.grid_positions import RowColumnPositions
from convattn.layers.heads import from_heads, head_width, to_heads
from convattn.layers.inputs import check_input
from convattn.ops.attention import attend
from convattn.ops.masks import shifted_window_mask
from convattn.ops.meshes import on_any_mesh
from convattn.ops.partitions import neighbourhoods, window_partition, window_reverse
from convattn.ops.pooling import max_pool
from convattn.ops.positions import relative_bias
from convattn.ops.similarities import dot


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
    out, weights = attend(query, key, value, bias=positions(tokens, query, grid))
    self.sow("intermediates", "attention", weights)
    return from_heads(self, self.value_width)(out)


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
    out, weights = attend(query, key, value, similarity=dot)
    self.sow("intermediates", "attention", weights)
    gamma = self.param("gamma", nn.initializers.zeros, (), self.param_dtype)
    return x + gamma.astype(self.dtype) * from_heads(self, c, use_bias=False)(out).reshape(b, h, w, c)


SAGAN_FORMS: dict[str, dict[str, int]] = {
  "paper": {"reduction": 8, "value_reduction": 8, "pool": 1},
  "code": {"reduction": 8, "value_reduction": 2, "pool": 2},
}


class LocalAttention(nn.Module):
  """Stand-alone self-attention: every pixel attends to the window x window around it (Ramachandran et al. 2019).

      out[q] = sum_k softmax_k(q . k + q . [rows[row shift], columns[column shift]]) v[k]      k in the window of q

  [b, h, w, c] -> [b, h, w, width] (c if None), any grid. Half of a head's channels meet the vector of the row shift
  (`rows` [window, d/2]), half that of the column shift; all heads share them. As in the paper nothing is scaled, and
  no layer has a bias or follows the heads. Pixels outside the image are masked, which the paper does not say; its stem
  with spatially varying values is not here. The weights [b * h * w, n, 1, window^2] are sown as "attention" in
  "intermediates".

  Raises:
    ValueError: num_heads does not divide the width, a head has an odd width, or the window is even.
  """

  num_heads: int
  window: int = 7
  width: int | None = None
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    sizes = check_input(self, x, "b h w c", "query/kernel")
    size = head_width(sizes["c"] if self.width is None else self.width, self.num_heads)
    if size % 2:
      raise ValueError(f"each head is {size} wide, but must be even: half for rows and half for columns.")
    query, key, value = (
      to_heads(self, name, self.num_heads, size, use_bias=False)(x) for name in ("query", "key", "value")
    )
    out, weights = _attend_around(query, key, value, self._shifts(size), self.window)
    self.sow("intermediates", "attention", weights)
    return out

  def _shifts(self, size: int) -> jax.Array:
    """[window^2, d]: the vectors of all places of a window, row by row."""
    shape, initializer = (self.window, size // 2), nn.initializers.normal(1.0)
    rows, columns = (self.param(name, initializer, shape, self.param_dtype) for name in ("rows", "columns"))
    full = (self.window, self.window, size // 2)
    both = [jnp.broadcast_to(rows[:, None], full), jnp.broadcast_to(columns[None], full)]
    return jnp.concatenate(both, axis=-1).reshape(self.window**2, size).astype(self.dtype)


@on_any_mesh
def _attend_around(
  query: jax.Array, key: jax.Array, value: jax.Array, shifts: jax.Array, window: int
) -> tuple[jax.Array, jax.Array]:
  """LocalAttention of [b, h, w, n, d] with shifts [window^2, d]: [b, h, w, n * d] and [b * h * w, n, 1, window^2]."""
  b, h, w, n, d = query.shape
  pixels, places = b * h * w, window**2
  (key, inside), (value, _) = (neighbourhoods(a.reshape(b, h, w, n * d), window) for a in (key, value))
  query = query.reshape(pixels, 1, n, d)
  key, value = (a.reshape(pixels, places, n, d) for a in (key, value))
  bias = jnp.einsum("pqnd,kd->pnqk", query, shifts, preferred_element_type=jnp.promote_types(query.dtype, jnp.float32))
  mask = jnp.tile(inside.reshape(h * w, 1, 1, places), (b, 1, 1, 1))
  out, weights = attend(query, key, value, similarity=dot, bias=bias, mask=mask)
  return out.reshape(b, h, w, n * d), weights


class WindowAttention(nn.Module):
  """Attention in separate windows, shifted or not, with a bias table (Liu et al. 2021, Swin, section 3.2).

      out = softmax(Q K' / sqrt(d) + B) V in each window,  B[q, k] = bias_table[head, key - query]

  [b, h, w, c] -> [b, h, w, c] for any grid: what the window does not divide is padded at the end, and padding is never
  seen. With `shift` the image is rolled by -shift first and back at the end, and pixels that only the roll has brought
  together do not see each other. An axis of no more than one window is not shifted. bias_table is
  [num_heads, 2 window - 1, 2 window - 1], indexed by key - query (their code: query - key). The key has no bias, which
  the softmax would not see. The weights [b * windows, n, window^2, window^2] are sown as "attention" in
  "intermediates".

  Raises:
    ValueError: num_heads does not divide the width, or the shift is not in [0, window).
  """

  num_heads: int
  window: int
  shift: int = 0
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    sizes = check_input(self, x, "b h w c", "query/kernel")
    b, h, w, c = (sizes[axis] for axis in "bhwc")
    if not 0 <= self.shift < self.window:
      raise ValueError(f"shift is {self.shift}, but must be at least 0 and less than window = {self.window}.")
    size = head_width(c, self.num_heads)
    window = (self.window, self.window)
    grid = (h + -h % self.window, w + -w % self.window)
    shift = (self.shift if grid[0] > self.window else 0, self.shift if grid[1] > self.window else 0)
    back = (-shift[0], -shift[1])
    padded = jnp.pad(x, [(0, 0), (0, grid[0] - h), (0, grid[1] - w), (0, 0)])
    windows = window_partition(jnp.roll(padded, back, (1, 2)), window)
    query = to_heads(self, "query", self.num_heads, size)(windows)
    key = to_heads(self, "key", self.num_heads, size, use_bias=False)(windows)
    value = to_heads(self, "value", self.num_heads, size)(windows)
    shape = (self.num_heads, 2 * self.window - 1, 2 * self.window - 1)
    table = self.param("bias_table", nn.initializers.truncated_normal(0.02), shape, self.param_dtype)
    mask = shifted_window_mask(grid, window, shift) & _true_pixels((h, w), grid, window, back)
    # Where every pair may meet, there is nothing to mask.
    tiled = None if mask.all() else jnp.tile(mask, (b, 1, 1, 1))
    out, weights = attend(query, key, value, bias=relative_bias(table), mask=tiled)
    self.sow("intermediates", "attention", weights)
    out = window_reverse(from_heads(self, c)(out), window, grid)
    return jnp.roll(out, shift, (1, 2))[:, :h, :w]


def _true_pixels(image: tuple[int, int], grid: tuple[int, int], window: tuple[int, int], roll: tuple[int, int]) -> Any:
  """[windows, 1, 1, pixels]: which pixels of each window of the padded and rolled image are of the image."""
  true = np.zeros(grid, bool)
  true[: image[0], : image[1]] = True
  rows, columns = grid[0] // window[0], grid[1] // window[1]
  parts = np.roll(true, roll, (0, 1)).reshape(rows, window[0], columns, window[1])
  return parts.swapaxes(1, 2).reshape(rows * columns, 1, 1, window[0] * window[1])
