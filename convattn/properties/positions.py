"""Tables over relative shifts, and their expansion to pairs of positions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convattn.properties.comparison import array, assert_same, default_tolerance, is_float, numbers
from convattn.properties.demands import Argnums, extents, floats, host, indices, varied, whole
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
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  axis: int = -1,
  axes: tuple[int, int] = (-2, -1),
  grid: tuple[int, ...] | None = None,
  reverse: bool = False,
) -> None:
  """`fn(table)` returns [..., n, n] from a table with the shifts -(n-1) .. n-1 (or less, clipped) along `axis`.

  B[q, k] must be the entry of k - q; with `reverse` of q - k. Other axes of the table come before [n, n]. Exact.

  A table of row and column shifts along `axes` gives [..., h w, h w] over the `grid` (h, w): the entry of both shifts,
  each k - q. If `grid` is None, the number of the result's axes tells one from the other, and the grid is that of the
  table, 2 h - 1 by 2 w - 1.
  """
  del key
  result, table = fn(*arrays), host(arrays[0], "the table")
  bias = array(result)
  if bias.ndim < 2 or bias.shape[-1] != bias.shape[-2] or bias.shape[-1] < 2:
    raise ValueError(f"the result has shape {list(bias.shape)}, but must be [..., n, n] with n of at least 2.")
  line = bias.ndim == table.ndim + 1 if grid is None else len(grid) == 1
  where = (axis,) if line else tuple(axes)
  sizes = extents(table, where, "the table")
  if grid is None:
    grid = bias.shape[-1:] if line else tuple((size + 1) // 2 for size in sizes)
  if len(grid) != len(where) or bias.ndim != table.ndim + 2 - len(where) or np.prod(grid) != bias.shape[-1]:
    raise ValueError(
      f"the table has shape {list(table.shape)} and the result {list(bias.shape)}, but must be [..., 2 n - 1] and "
      f"[..., n, n], or [..., 2 h - 1, 2 w - 1] and [..., h w, h w]; give grid=(h, w) for a clipped one."
    )
  for each in where:
    if np.array_equal(table, np.flip(table, each)):
      raise ValueError(f"the table {list(table.shape)} is its own mirror along axis {each}, but must have two sides.")
  places = np.unravel_index(np.arange(bias.shape[-1]), grid)
  index = []
  for place, size in zip(places, sizes, strict=True):
    shift, reach = place[None] - place[:, None], (size - 1) // 2
    index.append(np.clip(-shift if reverse else shift, -reach, reach) + reach)
  moved = np.moveaxis(np.asarray(as_seen(result, table)), where, range(-len(where), 0))
  assert_same(bias, moved[(..., *index)], tolerance, "the expanded table", exact=True)


@law("beyond the clipping distance positions are not told apart", "Shaw et al. 2018, section 3.2")
def check_clipped(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  distance: int,
  axes: tuple[int, int] = (-2, -1),
  grid: tuple[int, ...] | None = None,
) -> None:
  """`fn` returns B with queries and keys along `axes`: B[q, k] = B[q, q + distance] for all k beyond, and so before.

  Within the distance neighbouring shifts must differ somewhere. Exact. Where they are the places of a `grid` (h, w),
  rows and columns are clipped, each for itself.
  """
  del key
  whole("distance", distance, 0)
  grid = None if grid is None else tuple(whole("a size of the grid", each, 1) for each in grid)
  result = numbers(fn(*arrays))
  sizes = extents(result, axes, "the result")
  if len(sizes) != 2 or sizes[0] != sizes[1]:
    raise ValueError(
      f"the result has shape {list(result.shape)}, but must have as many queries as keys along axes {axes}."
    )
  bias = np.moveaxis(result, axes, (0, 1))
  grid = (sizes[0],) if grid is None else grid
  if np.prod(grid) != sizes[0]:
    raise ValueError(f"grid is {grid}, but there are {sizes[0]} queries; it must have as many places.")
  if max(grid) < distance + 2:
    raise ValueError(f"{max(grid)} positions do not reach beyond the distance {distance}; use at least {distance + 2}.")
  if len(grid) == 1 and (other := _grid_that_clips(bias, distance, tolerance)):
    raise ValueError(f"the result is clipped over a grid of {other}, not along a line: give grid={other}.")
  _check_clipped(bias, distance, tolerance, grid)


def _grid_that_clips(bias: np.ndarray, distance: int, tolerance: float | None) -> tuple[int, int] | None:
  """The rows and columns over which a result is clipped that is not along a line."""
  n = bias.shape[0]
  for grid in [(n,), *((h, n // h) for h in range(2, n // 2 + 1) if n % h == 0)]:
    try:
      if max(grid) >= distance + 2:
        _check_clipped(bias, distance, tolerance, grid)
        return None if len(grid) == 1 else grid
    except LawBroken:
      continue
  return None


def _check_clipped(bias: np.ndarray, distance: int, tolerance: float | None, grid: tuple[int, ...]) -> None:
  """Of [queries, keys, ...]."""
  apart = bias.reshape(*grid, *grid, *bias.shape[2:])
  for number, size in enumerate(grid):
    if size > distance + 1:
      _check_clipped_line(np.moveaxis(apart, (number, number + len(grid)), (0, 1)), distance, tolerance)


def _check_clipped_line(bias: np.ndarray, distance: int, tolerance: float | None) -> None:
  n = bias.shape[0]
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
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  length: int | tuple[int, ...],
  table: int = 0,
  axis: int | tuple[int, ...] = 0,
) -> None:
  """The argument `table` has the shifts -k .. k along `axis`; among `length` tokens only |shift| < length occur.

  A table of row and column shifts has two axes, such as (-2, -1), and two lengths, (h, w) (one alone is both).
  Gradients of a random sum of the results: exactly 0 beyond (unless a tolerance is given), not 0 within.
  """
  rng = generator(key)
  where = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
  lengths = tuple(length) if isinstance(length, tuple | list) else (length,) * len(where)
  if len(lengths) != len(where):
    raise ValueError(f"length is {length!r:.40} and axis {axis!r:.40}, but must be as many.")
  lengths = tuple(whole("length", each, 1) for each in lengths)
  floats(arrays, table)
  given = arrays[indices(table, arrays)[0]]
  for each, size in zip(where, extents(given, where, "the table"), strict=True):
    if size % 2 == 0:
      shape = list(np.shape(given))
      raise ValueError(f"the table has shape {shape}, but must have an odd number of shifts along axis {each}.")
  result, pull = jax.vjp(lambda t: fn(*changed(arrays, table, lambda _: t)), jnp.asarray(given))
  for leaf in jax.tree.leaves(result):
    if not is_float(leaf):
      raise ValueError(f"a result is {leaf.dtype}, but must be floating-point to have gradients.")
  slope = np.moveaxis(numbers(pull(cotangent(rng, result))[0]), where, range(len(where)))
  reaches = [(size - 1) // 2 for size in slope.shape[: len(where)]]
  shifts = np.stack(np.meshgrid(*(np.arange(-reach, reach + 1) for reach in reaches), indexing="ij"), -1)
  occurs = np.all(np.abs(shifts) < lengths, -1)
  beyond, scale = slope[~occurs], float(np.abs(slope).max(initial=0))
  when = f"gradients of shifts beyond {', '.join(str(each - 1) for each in lengths)}"
  assert_same(beyond, np.zeros_like(beyond), tolerance, when, exact=True, scale=scale)
  limit = 8 * float(jnp.finfo(jnp.asarray(given).dtype).eps) * scale
  for place in np.argwhere(occurs):
    if np.abs(slope[tuple(place)]).max() <= limit:
      shift = ", ".join(map(str, shifts[tuple(place)]))
      text = f"the shift {shift} occurs among {' x '.join(map(str, lengths))} tokens, but has no gradient."
      raise LawBroken(text, f"table[{', '.join(map(str, place))}]", 0)


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
