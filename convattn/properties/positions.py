"""Tables over relative shifts, their expansion to pairs of positions, and their change of size."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convattn.properties.comparison import array, assert_same, default_tolerance, is_float, numbers
from convattn.properties.demands import Argnums, extent, extents, floats, host, indices, varied, whole
from convattn.properties.drawing import as_seen, changed, cotangent, generator, on_host, redrawn, taken
from convattn.properties.laws import LawBroken, law


@law("a bias is the same for equal shifts: B[i + s, j + s] = B[i, j]", "Shaw et al. 2018; Dai et al. 2021, eq. 3")
def check_block_toeplitz(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, grid: tuple[int, ...]
) -> None:
  """`fn` returns [..., n, n] over a `grid` such as (h, w), or (n,): a bias, logits by position, weights on a torus."""
  del key
  bias = array(fn(*arrays))
  size = int(np.prod([whole("a size of the grid", each, 1) for each in grid]))
  if size < 2:
    raise ValueError(f"grid is {grid}, but must have at least 2 places in all.")
  if np.shape(bias)[-2:] != (size, size):
    raise ValueError(f"the result has shape {list(np.shape(bias))}, but must be [..., {size}, {size}] for {grid}.")
  varied(bias, "the result")
  lead = np.shape(bias)[:-2]
  apart = np.asarray(bias).reshape(*lead, *grid, *grid)
  for axis in range(len(grid)):
    query, keys = len(lead) + axis, len(lead) + len(grid) + axis
    front, back = (
      taken(
        taken(apart, np.arange(start, grid[axis] - 1 + start), query), np.arange(start, grid[axis] - 1 + start), keys
      )
      for start in (0, 1)
    )
    assert_same(back, front, tolerance, f"one step along axis {axis} of the grid {grid}", inputs=arrays)


@law(
  "a table is indexed by key - query: B[q, k] grows with the shift's entry, not its mirror", "a convention to be stated"
)
def check_shift_sign(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, axis: int = -1, reverse: bool = False
) -> None:
  """`fn(table)` returns [..., n, n] from a table with the shifts -(n-1) .. n-1 (or less, clipped) along `axis`.

  B[q, k] must be the entry of k - q; with `reverse` of q - k. Other axes of the table come before [n, n]. Exact.
  """
  del key
  result, table = fn(*arrays), host(arrays[0], "the table")
  bias = array(result)
  extent(table, axis, "the table")
  if bias.ndim < 2 or bias.shape[-1] != bias.shape[-2] or bias.shape[-1] < 2:
    raise ValueError(f"the result has shape {list(bias.shape)}, but must be [..., n, n] with n of at least 2.")
  if np.array_equal(table, np.flip(table, axis)):
    raise ValueError(f"the table {list(table.shape)} is its own mirror along axis {axis}, but must have two sides.")
  n, reach = bias.shape[-1], (table.shape[axis] - 1) // 2
  shift = np.arange(n)[None] - np.arange(n)[:, None]
  index = np.clip(-shift if reverse else shift, -reach, reach) + reach
  expected = np.moveaxis(np.asarray(as_seen(result, table)), axis, -1)[..., index]
  assert_same(bias, expected, tolerance, "the expanded table", exact=True)


@law("beyond the clipping distance positions are not told apart", "Shaw et al. 2018, section 3.2")
def check_clipped(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  distance: int,
  axes: tuple[int, int] = (-2, -1),
) -> None:
  """`fn` returns B with queries and keys along `axes`: B[q, k] = B[q, q + distance] for all k beyond, and so before.

  Within the distance neighbouring shifts must differ somewhere. Exact.
  """
  del key
  whole("distance", distance, 0)
  result = numbers(fn(*arrays))
  sizes = extents(result, axes, "the result")
  if len(sizes) != 2 or sizes[0] != sizes[1]:
    raise ValueError(
      f"the result has shape {list(result.shape)}, but must have as many queries as keys along axes {axes}."
    )
  bias = np.moveaxis(result, axes, (0, 1))
  n = bias.shape[0]
  if n < distance + 2:
    raise ValueError(f"{n} positions do not reach beyond the distance {distance}; use at least {distance + 2}.")
  clipped = np.clip(np.arange(n)[None] - np.arange(n)[:, None], -distance, distance)
  columns = np.arange(n)[:, None] + clipped
  inside = (columns >= 0) & (columns < n)
  wanted = bias[np.arange(n)[:, None], np.where(inside, columns, np.arange(n)[None])]
  assert_same(bias, wanted, tolerance, f"shifts beyond {distance}", exact=True)
  for shift in range(-distance, distance):
    first = max(0, -shift)
    if np.array_equal(bias[first, first + shift], bias[first, first + shift + 1]):
      raise LawBroken(
        f"shifts {shift} and {shift + 1} are not told apart within the distance {distance}.", f"output[{first}]"
      )


@law("only shifts that occur get a gradient, and all of them do", "Shaw et al. 2018, section 3.2")
def check_only_reached_shifts_learn(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, length: int, table: int = 0, axis: int = 0
) -> None:
  """The argument `table` has the shifts -k .. k along `axis`; among `length` tokens only |shift| < length occur.

  Gradients of a random sum of the results: exactly 0 beyond (unless a tolerance is given), not 0 within.
  """
  rng = generator(key)
  whole("length", length, 1)
  floats(arrays, table)
  if extent(arrays[indices(table, arrays)[0]], axis, "the table") % 2 == 0:
    shape = list(np.shape(arrays[indices(table, arrays)[0]]))
    raise ValueError(f"the table has shape {shape}, but must have an odd number of shifts along axis {axis}.")
  result, pull = jax.vjp(
    lambda t: fn(*changed(arrays, table, lambda _: t)), jnp.asarray(arrays[indices(table, arrays)[0]])
  )
  for leaf in jax.tree.leaves(result):
    if not is_float(leaf):
      raise ValueError(f"a result is {leaf.dtype}, but must be floating-point to have gradients.")
  slope = np.moveaxis(numbers(pull(cotangent(rng, result))[0]), axis, 0)
  reach = (len(slope) - 1) // 2
  shift = np.arange(len(slope)) - reach
  beyond = slope[np.abs(shift) >= length]
  scale = float(np.abs(slope).max(initial=0))
  assert_same(
    beyond, np.zeros_like(beyond), tolerance, f"gradients of shifts beyond {length - 1}", exact=True, scale=scale
  )
  for each in shift[np.abs(shift) < length]:
    if np.abs(slope[each + reach]).max() <= 8 * float(jnp.finfo(jnp.asarray(arrays[table]).dtype).eps) * scale:
      raise LawBroken(
        f"the shift {each} occurs among {length} tokens, but has no gradient.", f"table[{each + reach}]", 0
      )


@law("a part set to zero is as good as absent", "follows from the definition of a sum; Shaw et al. 2018")
def check_zero_is_neutral(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, argnums: Argnums = -1, without: Any
) -> None:
  """fn(..., 0) = without(...): position tables, a bias or a branch (`argnums`) at zero; `without` takes the others."""
  del key
  zeroed = changed(arrays, argnums, on_host(np.zeros_like))
  chosen = set(indices(argnums, arrays))
  expected = without(*(a for i, a in enumerate(arrays) if i not in chosen))
  assert_same(fn(*zeroed), expected, tolerance, f"arguments {sorted(chosen)} at zero", inputs=arrays)


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
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, axes: tuple[int, ...] = (-2, -1)
) -> None:
  """`fn(table)` returns the table at another size; both are odd along `axes`."""
  del key
  before = host(arrays[0], "the table")
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


@law("undoing gives back what was there: g(f(x)) = x", "definition of an inverse; windows, space-to-depth, round trips")
def check_inverse(fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, inverse: Any) -> None:
  """`inverse` takes what `fn` returns; for the arrays given and for others.

  The tolerance is that of the arrays' dtype if None, whatever lies in between: for integers it is exact. Pass 0 where
  numbers are only moved (windows, space-to-depth).
  """
  rng = generator(key)
  for given in (list(arrays), [redrawn(rng, a) for a in arrays]):
    back = inverse(fn(*given))
    wanted = as_seen(back, given[0] if len(given) == 1 else tuple(given))
    limit = default_tolerance(wanted) if tolerance is None else tolerance
    assert_same(back, wanted, limit, "there and back")
