"""What training keeps and reads: running averages, and every row of a table."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from convattn.properties.comparison import assert_same, default_tolerance, is_float, numbers
from convattn.properties.demands import Argnums, extent, finite, indices
from convattn.properties.drawing import changed, generator, redrawn
from convattn.properties.gradients import slopes_of
from convattn.properties.laws import LawBroken, law


@law("a running average keeps its momentum of itself: new = m old + (1 - m) value", "Ioffe & Szegedy 2015; Polyak 1992")
def check_running_average(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  momentum: float,
  average: int = 0,
  value: Any = None,
) -> None:
  """`fn(old, ...)` returns the new averages, a tree like the argument `average`: of statistics of a batch, of weights.

  Another old average, drawn, must move the new one by m times the difference, m the `momentum`, the share that is kept
  (0.99 of flax; 1 - momentum of torch). The other way round it is kept with 1 - m. With `value`, a function of the
  other arguments, new = m old + (1 - m) value(...) too.
  """
  rng = generator(key)
  finite("momentum", momentum, 0.0)
  if momentum >= 1 or momentum == 0.5:
    wanted = "below 1 and not 0.5: a half is the same the other way round"
    raise ValueError(f"momentum is {momentum!r:.40}, but must be {wanted}.")
  index = indices(average, arrays)[0]
  old = arrays[index]
  if not any(is_float(leaf) for leaf in jax.tree.leaves(old)):
    raise ValueError(f"argument {index} has no floating-point array, but must be the old averages.")
  # Upwards alone: a variance stays positive.
  other = jax.tree.map(lambda a: a + abs(redrawn(rng, a)) + 1 if is_float(a) else a, old)
  new, moved = fn(*arrays), fn(*changed(arrays, index, lambda _: other))
  if str(jax.tree.structure(new)) != str(jax.tree.structure(old)):
    raise LawBroken(f"the result has the structure {jax.tree.structure(new)}, the old one {jax.tree.structure(old)}.")
  limit = default_tolerance(new, arrays) if tolerance is None else tolerance
  difference = jax.tree.map(lambda a, b: numbers(a) - numbers(b), moved, new)
  wanted_difference = jax.tree.map(lambda a, b: momentum * (numbers(a) - numbers(b)), other, old)
  scale = max(float(np.abs(numbers(leaf)).max(initial=0)) for leaf in jax.tree.leaves((new, moved)))
  when = f"another old average, {momentum:g} of the difference wanted"
  assert_same(difference, wanted_difference, limit, when, scale=scale)
  if value is not None:
    kept = jax.tree.map(
      lambda a, b: momentum * numbers(a) + (1 - momentum) * numbers(b),
      old,
      value(*(a for i, a in enumerate(arrays) if i != index)),
    )
    assert_same(new, kept, limit, f"against {momentum:g} old + {1 - momentum:g} value", scale=scale)


@law("every row of a table is read", "a row without a gradient is never trained; embeddings of Shaw et al. 2018")
def check_every_row_read(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  table: int = 0,
  axis: Argnums = 0,
) -> None:
  """The argument `table` (a tree too) has a gradient in each row along `axis`, or along each of several axes.

  Of a random sum of the results, more than `tolerance` of the largest one (8 roundings if None), for the arrays given
  or, where a row is not read there, one of seven others (floating-point ones are drawn anew; integers, such as tokens
  that choose rows, stay: pass all of them).
  """
  rng, index = generator(key), indices(table, arrays)[0]
  axes = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
  others = [i for i in range(len(arrays)) if i != index]
  largest: dict[tuple[str, int], np.ndarray] = {}
  given = list(arrays)
  for _ in range(8):
    for name, slope in slopes_of(fn, given, index, rng).items():
      unit = float(np.abs(slope).max(initial=0)) or 1.0
      for each in axes:
        size = extent(slope, each, f"{name} of argument {index}")
        rows = np.abs(np.moveaxis(slope, each, 0)).reshape(size, -1).max(1, initial=0) / unit
        largest[name, each] = np.maximum(largest.get((name, each), 0.0), rows)
    limit = 8 * _rounding(arrays[index]) if tolerance is None else tolerance
    if all((rows > limit).all() for rows in largest.values()):
      return
    given = (
      changed(arrays, others, lambda tree: jax.tree.map(lambda a: redrawn(rng, a) if is_float(a) else a, tree))
      if others
      else given
    )
  for (name, each), rows in largest.items():
    unread = np.flatnonzero(~(rows > limit)).tolist()
    if unread:
      what = "rows" if len(unread) > 1 else "row"
      raise LawBroken(
        f"{what} {', '.join(map(str, unread[:16]))} of {len(rows)} along axis {each} of {name}: no gradient.",
        f"{name}[{unread[0]}]",
        float(rows[unread[0]]),
        limit,
      )


def _rounding(tree: Any) -> float:
  return max(float(jax.numpy.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(tree) if is_float(leaf))
