"""Attention that sees a part of the image: the window around each pixel, or separate windows."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from convattn.layers.heads import from_heads, head_width, to_heads
from convattn.layers.inputs import check_input
from convattn.layers.seen import Parts, parts_wanted, sow_parts, value_lengths, without_hidden
from convattn.ops.attention import attend
from convattn.ops.masks import shifted_window_mask
from convattn.ops.meshes import on_any_mesh
from convattn.ops.partitions import neighbourhoods, window_partition, window_reverse
from convattn.ops.positions import relative_bias
from convattn.ops.similarities import dot, scaled_dot


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
    shifts = self._shifts(size)
    b, h, w = x.shape[:3]

    def cells() -> jax.Array:
      return neighbourhoods(_numbers(b, h, w), self.window)[0].reshape(b * h * w, self.window**2) - 1

    shown = without_hidden(self, None, h * w, cells)
    out, weights = _attend_around(query, key, value, shifts, self.window, shown)
    self.sow("intermediates", "attention", weights)
    if parts_wanted(self):
      query, key, value, mask = _around(query, key, value, self.window, shown)
      lengths, own = value_lengths(self, value), _numbers(b, h, w).reshape(b * h * w, 1) - 1
      bias = _shift_logits(query, shifts)
      sow_parts(self, Parts(weights, dot(query, key), bias, mask, lengths, query_cells=own, key_cells=cells()))
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
  query: jax.Array, key: jax.Array, value: jax.Array, shifts: jax.Array, window: int, shown: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
  """LocalAttention of [b, h, w, n, d] with shifts [window^2, d]: [b, h, w, n * d] and [b * h * w, n, 1, window^2]."""
  b, h, w, n, d = query.shape
  query, key, value, mask = _around(query, key, value, window, shown)
  out, weights = attend(query, key, value, similarity=dot, bias=_shift_logits(query, shifts), mask=mask)
  return out.reshape(b, h, w, n * d), weights


def _around(
  query: jax.Array, key: jax.Array, value: jax.Array, window: int, shown: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """Each pixel with its window: query [b * h * w, 1, n, d], key and value [.., window^2, n, d], mask [.., 1, 1, k]."""
  b, h, w, n, d = query.shape
  pixels, places = b * h * w, window**2
  (key, inside), (value, _) = (neighbourhoods(a.reshape(b, h, w, n * d), window) for a in (key, value))
  key, value = (a.reshape(pixels, places, n, d) for a in (key, value))
  mask = jnp.tile(inside.reshape(h * w, 1, 1, places), (b, 1, 1, 1))
  return query.reshape(pixels, 1, n, d), key, value, mask if shown is None else mask & shown


def _shift_logits(query: jax.Array, shifts: jax.Array) -> jax.Array:
  wide = jnp.promote_types(query.dtype, jnp.float32)
  return jnp.einsum("pqnd,kd->pnqk", query, shifts, preferred_element_type=wide)


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

    def cut(image: jax.Array) -> jax.Array:
      padded = jnp.pad(image, [(0, 0), (0, grid[0] - h), (0, grid[1] - w), (0, 0)])
      return window_partition(jnp.roll(padded, back, (1, 2)), window)

    windows = cut(x)
    query = to_heads(self, "query", self.num_heads, size)(windows)
    key = to_heads(self, "key", self.num_heads, size, use_bias=False)(windows)
    value = to_heads(self, "value", self.num_heads, size)(windows)
    shape = (self.num_heads, 2 * self.window - 1, 2 * self.window - 1)
    table = self.param("bias_table", nn.initializers.truncated_normal(0.02), shape, self.param_dtype)
    mask = shifted_window_mask(grid, window, shift) & _true_pixels((h, w), grid, window, back)
    # Where every pair may meet, there is nothing to mask.
    tiled = None if mask.all() else jnp.tile(mask, (b, 1, 1, 1))

    def cells() -> jax.Array:
      return cut(_numbers(b, h, w))[..., 0] - 1

    tiled = without_hidden(self, tiled, h * w, cells)
    bias = relative_bias(table)
    out, weights = attend(query, key, value, bias=bias, mask=tiled)
    self.sow("intermediates", "attention", weights)
    out = window_reverse(from_heads(self, c)(out), window, grid)
    if parts_wanted(self):
      content, lengths = scaled_dot(query, key), value_lengths(self, value)
      sow_parts(self, Parts(weights, content, bias, tiled, lengths, query_cells=cells(), key_cells=cells()))
    return jnp.roll(out, shift, (1, 2))[:, :h, :w]


def _numbers(b: int, h: int, w: int) -> jax.Array:
  """[b, h, w, 1]: each pixel's number, from 1; cut as the image is, it leaves 0 for padding."""
  return jnp.tile(jnp.arange(1, h * w + 1).reshape(1, h, w, 1), (b, 1, 1, 1))


def _true_pixels(image: tuple[int, int], grid: tuple[int, int], window: tuple[int, int], roll: tuple[int, int]) -> Any:
  """[windows, 1, 1, pixels]: which pixels of each window of the padded and rolled image are of the image."""
  true = np.zeros(grid, bool)
  true[: image[0], : image[1]] = True
  rows, columns = grid[0] // window[0], grid[1] // window[1]
  parts = np.roll(true, roll, (0, 1)).reshape(rows, window[0], columns, window[1])
  return parts.swapaxes(1, 2).reshape(rows * columns, 1, 1, window[0] * window[1])
