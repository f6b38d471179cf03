"""Which keys a query may see: booleans [b, n, q, k] with axes of length 1 where all are alike. Join two by `&`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from convattn.ops.shapes import check_shapes


def causal_mask(queries: int, keys: int | None = None) -> np.ndarray:
  """[1, 1, q, k]: a query sees the keys up to itself, k <= q. As many keys as queries if None."""
  return np.tri(queries, queries if keys is None else keys, dtype=bool)[None, None]


def padding_mask(lengths: jax.Array, keys: int) -> jax.Array:
  """[b, 1, 1, k]: every query sees the first lengths[b] keys; lengths is [b], whole numbers. Length 0 masks all."""
  check_shapes(lengths=(lengths, "b"))
  return jnp.arange(keys)[None, None, None] < jnp.asarray(lengths)[:, None, None, None]


def neighbour_mask(height: int, width: int, window: int) -> np.ndarray:
  """[1, 1, q, k] for q = k = height * width: a pixel sees those of the window x window pixels around it, window odd.

  Attention under it equals attention over `neighbourhoods`, at the price of full attention.
  """
  if window % 2 == 0:
    raise ValueError(f"window is {window}, but must be odd: it has the pixel in its middle.")
  row, column = np.divmod(np.arange(height * width), width)
  near = [np.abs(place[None] - place[:, None]) <= window // 2 for place in (row, column)]
  return (near[0] & near[1])[None, None]


def shifted_window_mask(grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]) -> np.ndarray:
  """[windows, 1, q, k], q = k the pixels of a window: for an image that was rolled by -shift, then cut into windows.

  Pixels see each other where they were neighbours before: a window on the seam holds pixels of opposite borders, and
  keeps them apart. Windows are numbered as in `window_partition`, and there are as many in every image of the batch:
  repeat the mask for each. (Liu et al. 2021, Swin, section 3.2. Their code adds -100 to the logits; this is a mask.)

  Raises:
    ValueError: the window does not divide the grid, or the shift is not in [0, window).
  """
  regions = []
  for size, length, step in zip(grid, window, shift, strict=True):
    if size % length or not 0 <= step < length:
      raise ValueError(
        f"grid is {grid}, window {window}, shift {shift}, but the window must divide the grid, and the shift be at "
        f"least 0 and smaller than the window."
      )
    # What was rolled over the border, the last `step` pixels, is another region; the windows do the rest.
    regions.append((np.arange(size) >= size - step).astype(int))
  region = 2 * regions[0][:, None] + regions[1][None]
  rows, columns = (size // length for size, length in zip(grid, window, strict=True))
  parts = region.reshape(rows, window[0], columns, window[1]).swapaxes(1, 2).reshape(rows * columns, -1)
  return (parts[:, :, None] == parts[:, None])[:, None]
