"""Permutations of tokens: what moves along with them, what stays, and what must notice."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from convattn.properties.comparison import assert_one_differs, assert_same
from convattn.properties.demands import Argnums, extents, indices, places, varied
from convattn.properties.drawing import changed, generator, on_host, permutations, redrawn, taken
from convattn.properties.laws import law


@law("permuting the tokens permutes the outputs alike, f(Px) = P f(x)", "Lee et al. 2019, Set Transformer")
def check_permutation_equivariant(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  axis: int = -2,
  argnums: Argnums = 0,
  out_axis: int | None = None,
) -> None:
  """Permutes `argnums` together along `axis`; every output is permuted along `out_axis` (`axis` if None)."""
  rng, result = generator(key), fn(*arrays)
  size = places(arrays, argnums, axis)
  for order in permutations(rng, size):
    moved = fn(*changed(arrays, argnums, on_host(lambda a, order=order: np.take(a, order, axis))))
    expected = taken(result, order, axis if out_axis is None else out_axis, size)
    assert_same(moved, expected, tolerance, f"with the tokens in the order {order.tolist()}", inputs=arrays)


def _invariant(fn: Any, arrays: Any, key: Any, tolerance: float | None, axis: int, argnums: Argnums, what: str) -> None:
  rng, result = generator(key), fn(*arrays)
  for order in permutations(rng, places(arrays, argnums, axis)):
    moved = fn(*changed(arrays, argnums, on_host(lambda a, order=order: np.take(a, order, axis))))
    assert_same(moved, result, tolerance, f"with the {what} in the order {order.tolist()}", inputs=arrays)


@law("the order of the tokens does not matter, f(Px) = f(x)", "Zaheer et al. 2017, Deep Sets")
def check_permutation_invariant(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, axis: int = -2, argnums: Argnums = 0
) -> None:
  """For what pools its tokens: permutes `argnums` together along `axis`."""
  _invariant(fn, arrays, key, tolerance, axis, argnums, "tokens")


@law("keys and values are a set: permuting both alike changes nothing", "Bahdanau et al. 2015; Lee et al. 2019")
def check_source_permutation_invariant(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, axis: int = -2, argnums: Argnums = (1, 2)
) -> None:
  """`fn(query, key, value)`: permutes keys and values (`argnums`) together along `axis`."""
  _invariant(fn, arrays, key, tolerance, axis, argnums, "keys and values")


@law(
  "a bias permuted along both of its axes follows the tokens, f(Px, PBP') = P f(x, B)",
  "Dai et al. 2021, eq. 3; Cordonnier et al. 2020",
)
def check_bias_permutes_along(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  axis: int = -2,
  argnums: Argnums = 0,
  bias: int = -1,
  bias_axes: tuple[int, int] = (-2, -1),
  out_axis: int | None = None,
) -> None:
  """Permutes the tokens (`argnums`, along `axis`) and the argument `bias` [..., q, k] along both of its axes."""
  rng, result = generator(key), fn(*arrays)
  size, table = places(arrays, argnums, axis), arrays[indices(bias, arrays)[0]]
  varied(table, "the bias")
  if extents(table, bias_axes, "the bias") != [size, size]:
    raise ValueError(f"the bias has shape {list(np.shape(table))}, but must have {size} places along axes {bias_axes}.")
  for order in permutations(rng, size):
    moved = changed(arrays, argnums, on_host(lambda a, order=order: np.take(a, order, axis)))
    for each in bias_axes:
      moved = changed(moved, bias, on_host(lambda a, order=order, each=each: np.take(a, order, each)))
    expected = taken(result, order, axis if out_axis is None else out_axis, size)
    assert_same(fn(*moved), expected, tolerance, f"with tokens and bias in the order {order.tolist()}", inputs=arrays)


@law("positions matter: permuting the tokens does not just permute the outputs", "Vaswani et al. 2017, section 3.5")
def check_positions_matter(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, axis: int = -2, argnums: Argnums = 0
) -> None:
  """The opposite of check_permutation_equivariant: for the first two tokens swapped or all mirrored or in another order
  they must differ by more than `tolerance` (1e-3 if None), for the arrays given or others, drawn 16 times."""
  rng = generator(key)
  size = places(arrays, argnums, axis)
  swapped = np.array([1, 0, *range(2, size)])
  orders = [swapped, np.arange(size)[::-1], *permutations(rng, size)]

  def pair(given: Any) -> tuple[Any, Any]:
    moved = [fn(*changed(given, argnums, on_host(lambda a, o=order: np.take(a, o, axis)))) for order in orders]
    result = fn(*given)
    return moved, [taken(result, order, axis, size) for order in orders]

  drawn = (changed(arrays, argnums, lambda a: redrawn(rng, a)) for _ in range(16))
  when = f"with the tokens in the orders {[order.tolist() for order in orders]}"
  assert_one_differs(map(pair, itertools.chain([list(arrays)], drawn)), tolerance, when)
