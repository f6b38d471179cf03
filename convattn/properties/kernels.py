"""Convolutions and their kernels: in which direction they run, and what a stride leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from convattn.properties.comparison import assert_same, numbers
from convattn.properties.demands import extent, first, floats, grid_axes, not_zero, whole
from convattn.properties.drawing import generator, like
from convattn.properties.laws import law


@law(
  "convolutions are cross-correlations: out[p] = sum_m x[p + m d - before] kernel[m]",
  "as in every deep-learning library",
)
def check_cross_correlation(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  dilation: int = 1,
  before: int | None = None,
) -> None:
  """`fn(x [b, *grid, c], kernel [*taps, c / groups, o])`, linear in x, of stride 1 and the same size.

  An impulse of a drawn size, in one channel after another and at a place of its own in each sample, gives the kernel
  backwards around it. The place is one from which no tap reaches the border, or the middle where there is none.
  `before`: places that the first tap lies before the output; (taps - 1) dilation // 2 if None, which is XLA's "SAME".
  """
  rng = generator(key)
  x, kernel = first(arrays, 2, "an image and a kernel")
  floats(arrays, (0, 1))
  not_zero(arrays, 1)
  whole("dilation", dilation, 1)
  if (
    x.ndim < 3
    or kernel.ndim != x.ndim
    or x.shape[-1] % kernel.shape[-2]
    or kernel.shape[-1] % (x.shape[-1] // kernel.shape[-2])
  ):
    raise ValueError(
      f"image and kernel have shapes {list(x.shape)} and {list(kernel.shape)}, but must be [b, *grid, c] and "
      f"[*taps, c / groups, o]."
    )
  dims, channels = x.ndim - 2, x.shape[-1]
  groups = channels // kernel.shape[-2]
  width = kernel.shape[-1] // groups
  front = [(taps - 1) * dilation // 2 if before is None else before for taps in kernel.shape[:dims]]
  for channel in range(channels):
    impulse = np.zeros(x.shape, x.dtype)
    expected = np.zeros((*x.shape[:-1], kernel.shape[-1]))
    group, within = divmod(channel, kernel.shape[-2])
    outputs = slice(group * width, (group + 1) * width)
    for sample in range(len(x)):
      middle = [_inside(rng, *each, dilation) for each in zip(x.shape[1:-1], kernel.shape[:dims], front, strict=True)]
      size = rng.choice([-1, 1]) * rng.uniform(0.5, 2)
      impulse[(sample, *middle, channel)] = size
      for tap in np.ndindex(*kernel.shape[:dims]):
        place = [p - m * dilation + lo for p, m, lo in zip(middle, tap, front, strict=True)]
        if all(0 <= p < n for p, n in zip(place, x.shape[1:-1], strict=True)):
          seen = numbers(impulse[(sample, *middle, channel)])
          expected[(sample, *place, outputs)] = seen * numbers(kernel[(*tap, within, outputs)])
    out = fn(like(arrays[0], impulse), *arrays[1:])
    assert_same(out, expected, tolerance, f"an impulse in channel {channel}", inputs=arrays)


def _inside(rng: np.random.Generator, size: int, taps: int, front: int, dilation: int) -> int:
  """A place whose outputs, from place - (taps - 1) dilation + front to place + front, are all inside."""
  low, high = max((taps - 1) * dilation - front, 0), min(size - 1 - front, size - 1)
  return int(rng.integers(low, high + 1)) if low <= high else size // 2


@law("a stride keeps every s-th output of the layer without stride", "Dumoulin & Visin 2016; Cordonnier et al. 2020")
def check_stride_subsamples(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  unstrided: Any,
  stride: int,
  offset: int = 0,
  axes: Sequence[int] | None = None,
) -> None:
  """fn(x) = unstrided(x)[offset::stride] along each of `axes`; both take all the arrays.

  XLA's "SAME" at stride 2 and 3 taps has offset 1 for even sizes and 0 for odd ones.
  """
  del key
  whole("stride", stride, 2, "a stride of 1 leaves out nothing")
  whole("offset", offset, 0)
  grid = grid_axes(arrays, axes)
  expected = unstrided(*arrays)
  for axis in grid:
    for leaf in jax.tree.leaves(expected):
      extent(leaf, axis, "the result without stride")
    expected = jax.tree.map(
      lambda leaf, axis=axis: np.take(np.asarray(leaf), np.arange(offset, np.shape(leaf)[axis], stride), axis), expected
    )
  assert_same(fn(*arrays), expected, tolerance, f"every {stride}-th output from {offset} on", inputs=arrays)
