"""A table of positions changed in size."""

from __future__ import annotations

from typing import Any

import numpy as np

from convattn.properties.comparison import array, assert_same
from convattn.properties.demands import extent, extents, floats, host, varied
from convattn.properties.drawing import as_seen, changed, generator, on_host, taken
from convattn.properties.laws import law


@law("a table changed in size keeps a constant", "weights of an interpolation that sum to one")
def check_resize_keeps_constants(fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None) -> None:
  """`fn(table)` returns the table at another size: one full of a drawn number stays so, and of its negative."""
  floats(arrays, 0)
  drawn = float(generator(key).uniform(1, 2))
  for number in (drawn, -drawn):
    out = fn(*changed(arrays, 0, on_host(lambda a, number=number: np.full_like(a, number))))
    assert_same(out, np.full(array(out).shape, number), tolerance, f"a table of {number:.4g}", inputs=arrays)


@law("a table changed to its own size is unchanged", "definition of interpolation")
def check_resize_to_same_size(fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None) -> None:
  """`fn(table)` returns the table at the size it has. Exact."""
  del key
  varied(arrays[0], "the table")
  result = fn(*arrays)
  assert_same(result, as_seen(result, arrays[0]), tolerance, "the same size", exact=True)


@law("a table changed in size keeps its entry of shift 0", "odd sizes have a centre; Liu et al. 2022, Swin V2")
def check_resize_keeps_centre(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, axes: tuple[int, ...] | None = None
) -> None:
  """`fn(table)` returns the table at another size; both are odd along `axes`: the last two if None, or the only one."""
  del key
  before = host(arrays[0], "the table")
  axes = (-2, -1)[-max(before.ndim, 1) :] if axes is None else axes
  varied(before, "the table")
  extents(before, axes, "the table")
  after = array(result := fn(*arrays))
  extents(after, axes, "the result")
  for axis in axes:
    if before.shape[axis] % 2 == 0 or after.shape[axis] % 2 == 0:
      raise ValueError(
        f"axis {axis} has {before.shape[axis]} and {after.shape[axis]} entries, but must be odd in both."
      )
    before, after = (taken(a, [a.shape[axis] // 2], axis) for a in (before, after))
  assert_same(after, before, tolerance, "the central entry", inputs=(arrays, result))


@law("a linear ramp stays a linear ramp from end to end", "interpolation with aligned corners")
def check_resize_keeps_ramps(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, axis: int = -1
) -> None:
  """`fn(table)` returns the table at another size, its ends in place. Half-pixel sampling does not do this."""
  del key
  floats(arrays, 0)
  if extent(arrays[0], axis, "the table") < 2:
    raise ValueError(f"the table has shape {list(np.shape(arrays[0]))}, but must have 2 places along axis {axis}.")

  def ramp(size: int, shape: tuple[int, ...]) -> np.ndarray:
    lengths = [1] * len(shape)
    lengths[axis] = size
    return np.broadcast_to(np.linspace(-1, 1, size).reshape(lengths), shape)

  out = fn(*changed(arrays, 0, on_host(lambda a: ramp(a.shape[axis], a.shape).astype(a.dtype))))
  shape = array(out).shape
  if extent(out, axis, "the result") < 2:
    raise ValueError(f"the result has shape {list(shape)}, but must have 2 places along axis {axis}: a ramp has ends.")
  assert_same(out, ramp(shape[axis], shape), tolerance, f"a ramp along axis {axis}", inputs=arrays)
