"""Pooling over windows of an image."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from convattn.ops.meshes import on_any_mesh
from convattn.ops.shapes import check_shapes
from convattn.ops.windows import num_windows, shifted_slices, window_padding


@on_any_mesh
def max_pool(x: jax.Array, *, window: int, stride: int) -> jax.Array:
  """Largest value of each window: [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), c].

  Padding never wins (see `window_padding` for where it lies). Where values tie, each maximum of a pair takes half of
  the gradient, while XLA's reduce_window gives all of it to the first.

  Raises:
    AssertionError: x is not of rank 4, or not of a floating-point type.
  """
  check_shapes(x=(x, "b h w c"))
  chex.assert_type(x, float, custom_message=f"argument 'x' is {x.dtype}, but must be floating point")
  return functools.reduce(jnp.maximum, (part for _, part in shifted_slices(x, (window, window), stride, -jnp.inf)))


@on_any_mesh
def avg_pool(x: jax.Array, *, window: int, stride: int) -> jax.Array:
  """Mean over the true pixels of each window: [b, h, w, c] -> [b, ceil(h/stride), ceil(w/stride), c].

  Padding is not counted. The sum runs in promote_types(x.dtype, float32).

  Raises:
    AssertionError: x is not of rank 4.
  """
  sizes = check_shapes(x=(x, "b h w c"))
  wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  total = functools.reduce(jnp.add, (part for _, part in shifted_slices(wide, (window, window), stride, 0.0)))
  rows, columns = (_true_pixels(sizes[axis], window, stride) for axis in "hw")
  count = np.outer(rows, columns)[None, :, :, None]
  return (total / jnp.asarray(count, wide.dtype)).astype(x.dtype)


def _true_pixels(size: int, window: int, stride: int) -> np.ndarray:
  """How many pixels of each window lie inside the image: [ceil(size / stride)]."""
  before, _ = window_padding(size, window, stride)
  start = np.arange(num_windows(size, stride)) * stride - before
  return np.minimum(start + window, size) - np.maximum(start, 0)
