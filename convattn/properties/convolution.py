"""Which inputs a convolution sees: how far, at which steps, and in which channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from convattn.properties.comparison import assert_one_differs, assert_same
from convattn.properties.demands import extent, extents, grid_axes, places, whole
from convattn.properties.drawing import DRAWS, along, changed, edited, generator, like, separations, taken
from convattn.properties.laws import LawBroken, law


def _at(tree: Any, axes: Sequence[int], place: Sequence[int]) -> Any:
  for axis, index in zip(axes, place, strict=True):
    tree = taken(tree, [index], axis)
  return tree


def _grid(fn: Any, arrays: Any, given: Sequence[int] | None) -> tuple[tuple[int, ...], Any, list[int], list[int]]:
  """The axes with several places, the result, its sizes and those of the input along them."""
  axes = grid_axes(arrays, given)
  result = fn(*arrays)
  outputs, *others = [extents(leaf, axes, "a result") for leaf in jax.tree.leaves(result)]
  if any(other != outputs for other in others):
    raise ValueError(f"the results have {[outputs, *others]} places along axes {axes}, but must have the same.")
  return axes, result, outputs, extents(arrays[0], axes, "argument 0")


def _distance(x: Any, axes: Sequence[int], centre: Sequence[int]) -> np.ndarray:
  """Largest distance along any axis from a place: broadcastable to x."""
  distance: Any = np.zeros([1] * np.ndim(x))
  for axis, middle in zip(axes, centre, strict=True):
    distance = np.maximum(distance, along(x, axis, np.abs(np.arange(np.shape(x)[axis]) - middle)))
  return np.asarray(distance)


@law("no output sees further than its radius", "LeCun et al. 1989")
def check_local(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  radius: int,
  axes: Sequence[int] | None = None,
  stride: int = 1,
  offset: int = 0,
) -> None:
  """Edits all on one side of a line across the grid, along each axis and from both sides, for up to 16 lines; outputs
  whose radius ends before the line stay. Exact.

  Output o sees places offset + stride o - radius .. + radius. An even kernel's centre lies between pixels: take the
  larger radius.
  """
  rng = generator(key)
  whole("radius", radius, 0)
  whole("stride", stride, 1)
  axes, result, outputs, inputs = _grid(fn, arrays, axes)
  compared = 0
  for axis, size, count in zip(axes, inputs, outputs, strict=True):
    centres = offset + stride * np.arange(count)
    for line in sorted({int(each) for each in np.linspace(0, size - 1, min(size, 16))}):
      for far, kept in (
        (np.arange(size) >= line, np.flatnonzero(centres + radius < line)),
        (np.arange(size) <= line, np.flatnonzero(centres - radius > line)),
      ):
        if not len(kept):
          continue
        compared += 1
        other = fn(*changed(arrays, 0, lambda a, far=far, axis=axis: edited(rng, a, along(a, axis, far))))
        edge = np.flatnonzero(far)[[0, -1]].tolist()
        when = f"places {edge[0]} to {edge[1]} of axis {axis} edited, outputs {kept[0]} to {kept[-1]} compared"
        assert_same(taken(other, kept, axis), taken(result, kept, axis), tolerance, when, exact=True)
  if not compared:
    raise ValueError(f"radius is {radius}, but axes {axes} have {inputs} places, all within it; pass a larger image.")


@law("an output sees as far as its radius, on every side", "LeCun et al. 1989")
def check_reach(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  radius: int,
  axes: Sequence[int] | None = None,
  stride: int = 1,
  offset: int = 0,
) -> None:
  """The counterpart of check_local: the two inputs at exactly `radius` along each axis change the central output.

  The difference must be more than `tolerance` (1e-3 if None) of the output, for one of 64 draws: in max pooling most
  inputs do not count.
  """
  rng = generator(key)
  whole("radius", radius, 0)
  whole("stride", stride, 1)
  axes, result, outputs, sizes = _grid(fn, arrays, axes)
  place = [size // 2 for size in outputs]
  for number, axis in enumerate(axes):
    for side in (-radius, radius):
      seen = [offset + stride * each for each in place]
      seen[number] += side
      if not 0 <= seen[number] < sizes[number]:
        raise ValueError(f"radius is {radius}, but axis {axis} has only {sizes[number]} places; pass a larger image.")
      there = _distance(arrays[0], axes, seen) == 0
      others = (fn(*changed(arrays, 0, lambda a, t=there, s=size: edited(rng, a, t, s))) for size in DRAWS)
      then = _at(result, axes, place)
      when = f"input {tuple(seen)} edited, output {tuple(place)} compared"
      assert_one_differs(((_at(other, axes, place), then) for other in others), tolerance, when)


@law("a dilated layer sees every d-th place alone", "Yu & Koltun 2016; van den Oord et al. 2016")
def check_dilated(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  dilation: int,
  stride: int = 1,
  offset: int = 0,
  axes: Sequence[int] | None = None,
) -> None:
  """Edits the places that are no multiple of `dilation` away from an output along an axis; it stays. Exact.

  Output p stands at place stride p + offset of the input. An even kernel under "SAME" has an offset: two taps that are
  2 apart lie at -1 and 1, so offset 1.
  """
  rng = generator(key)
  whole("dilation", dilation, 2, "there is nothing between steps of 1")
  whole("stride", stride, 1)
  axes, result, outputs, inputs = _grid(fn, arrays, axes)
  for axis, size, count in zip(axes, inputs, outputs, strict=True):
    phases = (offset + stride * np.arange(count)) % dilation
    for phase in np.unique(phases):
      between, kept = np.arange(size) % dilation != phase, np.flatnonzero(phases == phase)
      other = fn(*changed(arrays, 0, lambda a, there=between, axis=axis: edited(rng, a, along(a, axis, there))))
      when = f"places of axis {axis} between the steps of {dilation} from place {phase} on edited"
      assert_same(taken(other, kept, axis), taken(result, kept, axis), tolerance, when, exact=True)


@law("channel groups do not see each other", "Chollet 2017; Howard et al. 2017, MobileNets")
def check_depthwise(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  groups: int | None = None,
  axis: int = -1,
) -> None:
  """Edits all groups but one; its outputs stay. `groups` is the number of channels if None. Exact.

  Inputs and outputs are split into so many equal, contiguous groups (a channel multiplier's outputs lie side by side).
  """
  rng, result = generator(key), fn(*arrays)
  size = places(arrays, 0, axis)
  count = size if groups is None else whole("groups", groups, 2, "one group sees all channels")
  widths = {extent(leaf, axis, "a result") for leaf in jax.tree.leaves(result)}
  if any(each % count for each in (size, *widths)):
    raise ValueError(f"{count} groups do not divide {size} input and {sorted(widths)} output channels.")
  for group in range(count):
    others = np.arange(size) // (size // count) != group
    other = fn(*changed(arrays, 0, lambda a, others=others: edited(rng, a, along(a, axis, others))))

    def own(leaf: Any, group: int = group) -> Any:
      width = np.shape(leaf)[axis] // count
      return taken(leaf, np.arange(width) + group * width, axis)

    when = f"channels outside group {group} of {count} edited"
    then, now = (jax.tree.map(own, tree) for tree in (result, other))
    assert_same(now, then, tolerance, when, exact=True)


@law("places do not see each other: a 1x1 layer is a dense layer at every place", "Lin et al. 2014; Howard et al. 2017")
def check_pointwise(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, axes: Sequence[int] | None = None
) -> None:
  """Edits the places with one index along an axis, for each: the others' outputs stay (exact). And all places equal to
  the first one give equal outputs."""
  rng = generator(key)
  axes, result, outputs, inputs = _grid(fn, arrays, axes)
  if outputs != inputs:
    raise LawBroken(f"the output has {outputs} places along the axes {tuple(axes)}, the input {inputs}.")
  for axis, size in zip(axes, inputs, strict=True):
    for there in separations(size):
      other = fn(*changed(arrays, 0, lambda a, there=there, axis=axis: edited(rng, a, along(a, axis, there))))
      rest = np.flatnonzero(~there)
      when = f"places {np.flatnonzero(there).tolist()} of axis {axis} edited, the others compared"
      assert_same(taken(other, rest, axis), taken(result, rest, axis), tolerance, when, exact=True)
  corner = [0] * len(axes)
  equal = like(arrays[0], np.broadcast_to(_at(arrays[0], axes, corner), np.shape(arrays[0])))
  same = fn(equal, *arrays[1:])
  wanted = jax.tree.map(lambda one, leaf: np.broadcast_to(one, np.shape(leaf)), _at(same, axes, corner), same)
  assert_same(same, wanted, tolerance, "all places equal", inputs=arrays)
