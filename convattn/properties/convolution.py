"""Which inputs a convolution sees: how far, at which steps, in which channels, and in which direction."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convattn.properties.comparison import assert_differs, assert_same
from convattn.properties.drawing import along, changed, edited, generator, places, taken
from convattn.properties.laws import law
from convattn.properties.translation import GRID


def _outputs(sizes: Sequence[int]) -> list[tuple[int, ...]]:
  """Corners and centre of a grid."""
  corners = itertools.product(*[(0, size - 1) for size in sizes])
  return sorted({*corners, tuple(size // 2 for size in sizes)})


def _at(tree: Any, axes: Sequence[int], place: Sequence[int]) -> Any:
  for axis, index in zip(axes, place, strict=True):
    tree = taken(tree, [index], axis)
  return tree


def _grid(fn: Any, arrays: Any, axes: Sequence[int]) -> tuple[Any, list[int], list[int]]:
  """The result, its sizes and those of the input along `axes`."""
  sizes = [places(arrays, 0, axis) for axis in axes]
  result = fn(*arrays)
  leaf = jax.tree.leaves(result)[0]
  return result, [np.shape(leaf)[axis] for axis in axes], sizes


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
  axes: Sequence[int] = GRID,
  stride: int = 1,
  offset: int = 0,
) -> None:
  """Edits all that lies further than `radius` from offset + stride o along some axis; output o stays. Exact.

  For the outputs o in the corners and the centre. An even kernel's centre lies between pixels: take the larger radius.
  """
  rng = generator(key)
  result, outputs, _ = _grid(fn, arrays, axes)
  for place in _outputs(outputs):
    far = _distance(arrays[0], axes, [offset + stride * each for each in place]) > radius
    other = fn(*changed(arrays, 0, lambda a, far=far: edited(rng, a, far)))
    when = f"inputs further than {radius} from output {place} edited"
    assert_same(_at(other, axes, place), _at(result, axes, place), tolerance, when, exact=True)


@law("an output sees as far as its radius, on every side", "LeCun et al. 1989")
def check_reach(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  radius: int,
  axes: Sequence[int] = GRID,
  stride: int = 1,
  offset: int = 0,
) -> None:
  """The counterpart of check_local: the two inputs at exactly `radius` along each axis change the central output.

  The difference must be more than `tolerance` (1e-3 if None) of the output.
  """
  rng = generator(key)
  result, outputs, sizes = _grid(fn, arrays, axes)
  place = [size // 2 for size in outputs]
  for number, axis in enumerate(axes):
    for side in (-radius, radius):
      seen = [offset + stride * each for each in place]
      seen[number] += side
      if not 0 <= seen[number] < sizes[number]:
        raise ValueError(f"radius is {radius}, but axis {axis} has only {sizes[number]} places; pass a larger image.")
      there = _distance(arrays[0], axes, seen) == 0
      other = fn(*changed(arrays, 0, lambda a, there=there: edited(rng, a, there)))
      when = f"input {tuple(seen)} edited, output {tuple(place)} compared"
      assert_differs(_at(other, axes, place), _at(result, axes, place), tolerance, when)


@law("a dilated layer sees every d-th place alone", "Yu & Koltun 2016; van den Oord et al. 2016")
def check_dilated(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  dilation: int,
  stride: int = 1,
  offset: int = 0,
  axes: Sequence[int] = GRID,
) -> None:
  """Edits the places that are no multiple of `dilation` away from an output along some axis; it stays. Exact.

  Output p stands at place stride p + offset of the input. An even kernel under "SAME" has an offset: two taps that are
  2 apart lie at -1 and 1, so offset 1.
  """
  rng = generator(key)
  result, outputs, _ = _grid(fn, arrays, axes)
  for place in _outputs(outputs):
    between: Any = np.zeros([1] * np.ndim(arrays[0]), bool)
    for axis, index in zip(axes, place, strict=True):
      between = between | along(
        arrays[0], axis, (np.arange(np.shape(arrays[0])[axis]) - stride * index - offset) % dilation != 0
      )
    other = fn(*changed(arrays, 0, lambda a, between=between: edited(rng, a, between)))
    when = f"inputs between the steps of {dilation} from output {place} edited"
    assert_same(_at(other, axes, place), _at(result, axes, place), tolerance, when, exact=True)


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
  count = size if groups is None else groups
  widths = {np.shape(leaf)[axis] for leaf in jax.tree.leaves(result)}
  if any(each % count for each in (size, *widths)):
    raise ValueError(f"{count} groups do not divide {size} input and {sorted(widths)} output channels.")
  for group in range(count):
    others = np.arange(size) // (size // count) != group
    other = fn(*changed(arrays, 0, lambda a, others=others: edited(rng, a, along(a, axis, others))))
    kept = [np.arange(width // count) + group * (width // count) for width in widths]
    when = f"channels outside group {group} of {count} edited"
    for these in kept:
      assert_same(taken(other, these, axis), taken(result, these, axis), tolerance, when, exact=True)


@law("places do not see each other: a 1x1 layer is a dense layer at every place", "Lin et al. 2014; Howard et al. 2017")
def check_pointwise(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, axes: Sequence[int] = GRID
) -> None:
  """Edits all places but one (exact), and asks that two equal places give equal outputs."""
  rng = generator(key)
  result, outputs, _ = _grid(fn, arrays, axes)
  for place in _outputs(outputs):
    others = _distance(arrays[0], axes, place) > 0
    other = fn(*changed(arrays, 0, lambda a, others=others: edited(rng, a, others)))
    when = f"all places but {place} edited"
    assert_same(_at(other, axes, place), _at(result, axes, place), tolerance, when, exact=True)
  first, last = [0] * len(axes), [size - 1 for size in outputs]
  equal = jnp.asarray(np.broadcast_to(_at(arrays[0], axes, first), np.shape(arrays[0])))
  same = fn(equal, *arrays[1:])
  assert_same(_at(same, axes, last), _at(same, axes, first), tolerance, "all places equal", inputs=arrays)


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

  An impulse in the middle of the grid, in one channel after another, gives the kernel backwards around it. `before`:
  places that the first tap lies before the output; (taps - 1) dilation // 2 if None, which is XLA's "SAME".
  """
  del key
  x, kernel = (np.asarray(a) for a in arrays[:2])
  dims, channels = x.ndim - 2, x.shape[-1]
  groups = channels // kernel.shape[-2]
  width = kernel.shape[-1] // groups
  middle = [size // 2 for size in x.shape[1:-1]]
  front = [(taps - 1) * dilation // 2 if before is None else before for taps in kernel.shape[:dims]]
  for channel in range(channels):
    impulse = np.zeros(x.shape, x.dtype)
    impulse[(0, *middle, channel)] = 1
    expected = np.zeros((*x.shape[:-1], kernel.shape[-1]))
    group, within = divmod(channel, kernel.shape[-2])
    for tap in np.ndindex(*kernel.shape[:dims]):
      place = [p - m * dilation + lo for p, m, lo in zip(middle, tap, front, strict=True)]
      if all(0 <= p < size for p, size in zip(place, x.shape[1:-1], strict=True)):
        outputs = slice(group * width, (group + 1) * width)
        expected[(0, *place, outputs)] = kernel[(*tap, within, outputs)]
    out = fn(jnp.asarray(impulse), *arrays[1:])
    assert_same(out, expected, tolerance, f"an impulse at {tuple(middle)} in channel {channel}", inputs=arrays)


@law("a stride keeps every s-th output of the layer without stride", "Dumoulin & Visin 2016; Cordonnier et al. 2020")
def check_stride_subsamples(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  unstrided: Any,
  stride: int,
  offset: int = 0,
  axes: Sequence[int] = GRID,
) -> None:
  """fn(x) = unstrided(x)[offset::stride] along each of `axes`; both take all the arrays.

  XLA's "SAME" at stride 2 and 3 taps has offset 1 for even sizes and 0 for odd ones.
  """
  del key
  expected = unstrided(*arrays)
  for axis in axes:
    expected = jax.tree.map(
      lambda leaf, axis=axis: np.take(np.asarray(leaf), np.arange(offset, np.shape(leaf)[axis], stride), axis), expected
    )
  assert_same(fn(*arrays), expected, tolerance, f"every {stride}-th output from {offset} on", inputs=arrays)
