"""Cutting an image into windows: separate ones, or one around each pixel."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from convattn.ops.meshes import on_any_mesh
from convattn.ops.shapes import check_shapes
from convattn.ops.windows import shifted_slices


@on_any_mesh
def window_partition(x: jax.Array, window: tuple[int, int]) -> jax.Array:
  """[b, h, w, c] to [b * windows, pixels, c]: separate windows row by row, and so are the pixels in each.

  Raises:
    AssertionError: x is not of rank 4.
    ValueError: the window does not divide the image.
  """
  sizes = check_shapes(x=(x, "b h w c"))
  b, h, w, c = (sizes[axis] for axis in "bhwc")
  rows, columns = _count_windows((h, w), window)
  parts = x.reshape(b, rows, window[0], columns, window[1], c)
  return jnp.swapaxes(parts, 2, 3).reshape(b * rows * columns, window[0] * window[1], c)


@on_any_mesh
def window_reverse(windows: jax.Array, window: tuple[int, int], grid: tuple[int, int]) -> jax.Array:
  """The inverse of `window_partition`: [b * windows, pixels, c] back to [b, h, w, c], (h, w) = grid.

  Raises:
    AssertionError: windows is not of rank 3, or its pixels or their number are not those of the grid.
    ValueError: the window does not divide the grid.
  """
  rows, columns = _count_windows(grid, window)
  sizes = check_shapes(windows=(windows, f"a {window[0] * window[1]} c"))
  if sizes["a"] % (rows * columns):
    raise AssertionError(
      f"argument 'windows' has shape {tuple(windows.shape)}, but must be [a, p, c] with a a multiple of the "
      f"{rows * columns} windows of an image."
    )
  parts = windows.reshape(-1, rows, columns, *window, sizes["c"])
  return jnp.swapaxes(parts, 2, 3).reshape(-1, *grid, sizes["c"])


@on_any_mesh
def neighbourhoods(x: jax.Array, window: int) -> tuple[jax.Array, np.ndarray]:
  """The window x window pixels around each pixel, zero outside: [b, h, w, window^2, c], and which of them lie inside.

  The second, booleans [h, w, window^2], is a mask for attention. Place i * window + j of a window has the shift
  (i - window // 2, j - window // 2), key - query.

  Raises:
    AssertionError: x is not of rank 4.
    ValueError: the window is even.
  """
  sizes = check_shapes(x=(x, "b h w c"))
  if window % 2 == 0:
    raise ValueError(f"window is {window}, but must be odd: it has the pixel in its middle.")
  places = jnp.stack([part for _, part in shifted_slices(x, (window, window), 1, 0.0)], axis=3)
  inside = []
  for size in (sizes["h"], sizes["w"]):
    place = np.arange(size)[:, None] + np.arange(window)[None] - window // 2
    inside.append((place >= 0) & (place < size))
  both = inside[0][:, None, :, None] & inside[1][None, :, None]
  return places, both.reshape(sizes["h"], sizes["w"], window**2)


def _count_windows(grid: tuple[int, int], window: tuple[int, int]) -> tuple[int, int]:
  if grid[0] % window[0] or grid[1] % window[1]:
    raise ValueError(f"the image is {grid[0]}x{grid[1]}, but must be a multiple of the window {window[0]}x{window[1]}.")
  return grid[0] // window[0], grid[1] // window[1]
