"""Sliding windows: how many outputs, how much padding, and the shifted slices that pools and convolutions sum over."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp


def num_windows(size: int, stride: int) -> int:
  """ceil(size / stride): windows along an axis of `size` pixels, whatever their length."""
  return -(-size // stride)


def window_padding(size: int, window: int, stride: int) -> tuple[int, int]:
  """(before, after), so that `size` pixels give ceil(size / stride) windows.

  Odd windows are padded alike on both sides, (window - 1) / 2, whatever the stride (XLA's "SAME" is not: at stride 2
  and even sizes it pads one pixel less in front, which shifts every window). Even windows are padded at the end.
  """
  if window % 2:
    return (window - 1) // 2, (window - 1) // 2
  return 0, max((num_windows(size, stride) - 1) * stride + window - size, 0)


def shifted_slices(
  x: jax.Array, window: tuple[int, int], stride: int, fill: float
) -> Iterator[tuple[tuple[int, int], jax.Array]]:
  """Yields ((i, j), [b, ceil(h/stride), ceil(w/stride), c]): what place (i, j) of every window sees of x [b, h, w, c].

  Padding holds `fill`. A reduction over these slices is a sliding window without a window operation: it fuses, and its
  gradient needs neither scatter nor select_and_scatter.
  """
  b, h, w, c = x.shape
  padding = [(0, 0), window_padding(h, window[0], stride), window_padding(w, window[1], stride), (0, 0)]
  padded = jnp.pad(x, padding, constant_values=fill)
  rows, columns = num_windows(h, stride), num_windows(w, stride)
  for i in range(window[0]):
    for j in range(window[1]):
      limits = (b, i + (rows - 1) * stride + 1, j + (columns - 1) * stride + 1, c)
      yield (i, j), jax.lax.slice(padded, (0, i, j, 0), limits, (1, stride, stride, 1))
