"""Images moved, mirrored and turned, and what lies beyond their borders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from convattn.properties.comparison import assert_same
from convattn.properties.demands import GRID, Argnums, extent, extents, grid_axes, places, whole
from convattn.properties.drawing import changed, generator, on_host, taken
from convattn.properties.laws import law


def _roll(shift: int, axis: int) -> Any:
  return on_host(lambda a: np.roll(a, shift, axis))


@law("on a torus a rolled image gives the rolled output, f(roll x) = roll f(x)", "LeCun et al. 1989; Zhang 2019")
def check_circular_translation(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  axes: Sequence[int] | None = None,
  argnums: Argnums = 0,
  stride: int = 1,
) -> None:
  """For circular borders. Rolls `argnums` by 1 and by a random number of strides along each of `axes`."""
  rng, result = generator(key), fn(*arrays)
  whole("stride", stride, 1)
  sizes = {axis: places(arrays, argnums, axis) for axis in grid_axes(arrays, axes, argnums)}
  if max(sizes.values()) < 2 * stride:
    raise ValueError(f"stride is {stride}, but the axes have {sizes} places; there must be two strides.")
  for axis, size in sizes.items():
    if size % stride:
      raise ValueError(f"axis {axis} has {size} places, but must have a multiple of the stride {stride}.")
    if size == stride:
      continue
    taken(result, [], axis, size // stride)
    for steps in {1, int(rng.integers(1, max(size // stride, 2)))}:
      moved = fn(*changed(arrays, argnums, _roll(steps * stride, axis)))
      expected = jax.tree.map(lambda leaf, steps=steps, axis=axis: np.roll(np.asarray(leaf), steps, axis), result)
      assert_same(moved, expected, tolerance, f"rolled by {steps * stride} along axis {axis}", inputs=arrays)


@law("away from the borders a shifted image gives the shifted output", "LeCun et al. 1989; Ramachandran et al. 2019")
def check_interior_translation(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  radius: int,
  axes: Sequence[int] | None = None,
  stride: int = 1,
  offset: int = 0,
) -> None:
  """For any border. Output o sees places offset + o stride - radius .. + radius (offset: the centre of output 0).

  Only outputs that see neither the border nor what the shift brought in are compared, along one axis after another.
  """
  del key
  whole("radius", radius, 0)
  whole("stride", stride, 1)
  grid = grid_axes(arrays, axes)
  result = fn(*arrays)
  compared = 0
  for axis in grid:
    size = places(arrays, 0, axis)
    for steps in (1, 2):
      moved = fn(*changed(arrays, 0, _roll(steps * stride, axis)))
      outputs = extent(jax.tree.leaves(result)[0], axis, "a result")
      centres = offset + stride * np.arange(outputs)
      inside = (centres >= radius) & (centres + radius + steps * stride < size) & (np.arange(outputs) + steps < outputs)
      chosen = np.flatnonzero(inside)
      compared += len(chosen)
      if len(chosen):
        then, now = (taken(tree, o, axis) for tree, o in ((result, chosen), (moved, chosen + steps)))
        when = f"shifted by {steps * stride} along axis {axis}, outputs {chosen[0] + steps} to {chosen[-1] + steps}"
        assert_same(now, then, tolerance, when, inputs=arrays)
  if not compared:
    raise ValueError(f"radius is {radius}, but no output lies {radius} places from every border; pass a larger image.")


def _acted(change: Any, fn: Any, arrays: Sequence[Any], axes: Sequence[Any], out: Any) -> tuple[Any, Any]:
  """f of the arguments changed along their axes, and the result of f changed along `out` (the first axes if None)."""
  if len(axes) != len(arrays) or all(each is None for each in axes):
    raise ValueError(
      f"axes is {tuple(axes)}, but must have an entry for each of {len(arrays)} arguments, one not None."
    )
  for number, each in enumerate(axes):
    pair = () if each is None else (each,) if isinstance(each, int) else tuple(each)
    if not isinstance(each, int) and pair and len({axis % max(np.ndim(arrays[number]), 1) for axis in pair}) != 2:
      raise ValueError(f"axes has {each} for argument {number}, but must have two different ones of it.")
    for axis in pair:
      places(arrays, number, axis, any_content=True)
  moved = [
    a if each is None else on_host(lambda a, e=each: change(a, e))(a) for a, each in zip(arrays, axes, strict=True)
  ]
  if all(np.array_equal(now, then) for now, then in zip(moved, arrays, strict=True) if hasattr(then, "shape")):
    raise ValueError(f"axes is {tuple(axes)}, but along them the arguments stay as they are; pass random numbers.")
  where = next(each for each in axes if each is not None) if out is None else out
  result = fn(*arrays)
  for leaf in jax.tree.leaves(result):
    extents(leaf, (where,) if isinstance(where, int) else tuple(where), "a result")
  return fn(*moved), jax.tree.map(lambda leaf: change(np.asarray(leaf), where), result)


@law("mirroring all arguments mirrors the output", "follows from the symmetry of the grid; Cordonnier et al. 2020")
def check_flip_equivariant(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  axes: Sequence[int | None] = (-2,),
  out_axis: int | None = None,
) -> None:
  """`axes` has one axis per argument (None: it stays), such as an image's columns and those of its kernel or table."""
  del key
  moved, expected = _acted(np.flip, fn, arrays, axes, out_axis)
  assert_same(moved, expected, tolerance, f"mirrored along the axes {tuple(axes)}", inputs=arrays)


@law("swapping rows and columns of all arguments swaps those of the output", "follows from the symmetry of the grid")
def check_transpose_equivariant(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  axes: Sequence[tuple[int, int] | None] = (GRID,),
  out_axes: tuple[int, int] | None = None,
) -> None:
  """`axes` has a pair per argument (None: it stays), such as those of an image and of its kernel."""
  del key
  moved, expected = _acted(lambda a, pair: np.swapaxes(a, *pair), fn, arrays, axes, out_axes)
  assert_same(moved, expected, tolerance, f"with the axes {tuple(axes)} swapped", inputs=arrays)


@law("turning all arguments by 90 degrees turns the output", "Cohen & Welling 2016")
def check_rotation_equivariant(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  axes: Sequence[tuple[int, int] | None] = (GRID,),
  out_axes: tuple[int, int] | None = None,
) -> None:
  """`axes` has a pair per argument (None: it stays): an isotropic layer's image alone, or image and kernel."""
  del key
  moved, expected = _acted(lambda a, pair: np.rot90(a, 1, pair), fn, arrays, axes, out_axes)
  assert_same(moved, expected, tolerance, f"turned in the axes {tuple(axes)}", inputs=arrays)


def _border(fn: Any, arrays: Any, tolerance: float | None, axes: Sequence[int] | None, stride: int, mode: Any) -> None:
  width = 2 * whole("stride", stride, 1)
  for axis in grid_axes(arrays, axes):

    def padded(a: np.ndarray, axis: int = axis) -> np.ndarray:
      return np.pad(a, [(width, width) if each == axis % a.ndim else (0, 0) for each in range(a.ndim)], mode=mode)

    result, larger = fn(*arrays), fn(*changed(arrays, 0, on_host(padded)))

    def cropped(leaf: Any, kept: Any, axis: int = axis) -> np.ndarray:
      return np.asarray(taken(leaf, np.arange(extent(kept, axis, "a result")) + 2, axis))

    when = f"with {width} more places at both ends of axis {axis}"
    assert_same(jax.tree.map(cropped, larger, result), result, tolerance, when, inputs=arrays)


@law("beyond the border lie zeros: an image with zeros around it gives the same outputs", "LeCun et al. 1989")
def check_zero_border(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  axes: Sequence[int] | None = None,
  stride: int = 1,
) -> None:
  """For a layer that keeps the size (or divides it by `stride`): f(zeros around x), cropped, is f(x)."""
  del key
  _border(fn, arrays, tolerance, axes, stride, "constant")


@law(
  "beyond the border lies its nearest pixel: repeating the border gives the same outputs",
  "softmax over the keys inside the image; follows from Cordonnier et al. 2020, lemma 2",
)
def check_edge_border(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  axes: Sequence[int] | None = None,
  stride: int = 1,
) -> None:
  """For a layer that keeps the size (or divides it by `stride`): f(x with its border repeated), cropped, is f(x)."""
  del key
  _border(fn, arrays, tolerance, axes, stride, "edge")
