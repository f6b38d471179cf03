"""Heads: their order, what can be moved between their matrices, and their sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from convattn.properties.comparison import assert_same, default_tolerance, numbers
from convattn.properties.demands import extent, floats, indices, not_zero, places
from convattn.properties.drawing import changed, generator, on_host, permutations, taken
from convattn.properties.laws import law


@law("heads have no order: permuting them in all arguments alike permutes nothing else", "Vaswani et al. 2017")
def check_head_permutation(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  axes: Sequence[int | None],
  out_axis: int | None = None,
) -> None:
  """`axes`: the axis of the heads in each argument (None: it has none), and in the output (None: summed over)."""
  rng, result = generator(key), fn(*arrays)
  if len(axes) != len(arrays):
    raise ValueError(
      f"axes has {len(axes)} entries, but there are {len(arrays)} arguments; use None for those without."
    )
  sizes = {places(arrays, i, axis, any_content=True) for i, axis in enumerate(axes) if axis is not None}
  if len(sizes) != 1 or min(sizes) < 2:
    raise ValueError(f"the arguments have {sorted(sizes)} heads, but must have one number of at least 2.")
  size = sizes.pop()
  if all(np.array_equal(np.roll(a, 1, i), a) for a, i in zip(arrays, axes, strict=True) if i is not None):
    raise ValueError("all heads have the same arguments, but must have their own; pass random numbers.")
  for order in permutations(rng, size):
    moved = [
      a if axis is None else on_host(lambda a, order=order, axis=axis: np.take(a, order, axis))(a)
      for a, axis in zip(arrays, axes, strict=True)
    ]
    expected = result if out_axis is None else taken(result, order, out_axis, size)
    assert_same(fn(*moved), expected, tolerance, f"heads in the order {order.tolist()}", inputs=arrays)


def _gauge(rng: np.random.Generator, size: int) -> np.ndarray:
  """A random matrix [size, size] with singular values from 1/2 to 2."""
  left, right = (np.linalg.qr(rng.standard_normal((size, size)))[0] for _ in range(2))
  return (left * np.linspace(0.5, 2, size)) @ right if size > 1 else np.full((1, 1), 1.7)


def _width(arrays: Any, pair: tuple[int, int], axes: tuple[int, int]) -> int:
  """That of two arguments along an axis of each. Raises ValueError where they differ, or hold nothing."""
  floats(arrays, pair)
  not_zero(arrays, pair)
  one, other = (
    extent(arrays[number], axis, f"argument {number}") for number, axis in zip(indices(pair, arrays), axes, strict=True)
  )
  if one != other:
    raise ValueError(f"the arguments {pair} are {one} and {other} wide along the axes {axes}, but must be alike.")
  return one


def _times(matrix: np.ndarray, axis: int) -> Any:
  """The product of an axis of an array with a matrix from the right."""
  return on_host(lambda a: np.moveaxis(np.moveaxis(numbers(a), axis, -1) @ matrix, -1, axis).astype(a.dtype))


@law("queries and keys are known up to a matrix: (Q M, K M^-T) attends alike", "follows from Q K' = (Q M) (K M^-T)'")
def check_query_key_gauge(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  query: int = 0,
  keys: int = 1,
  axis: int = -1,
) -> None:
  """The arguments `query` and `keys` (activations, or their weight matrices) have the head's width along `axis`."""
  rng, result = generator(key), fn(*arrays)
  matrix = _gauge(rng, _width(arrays, (query, keys), (axis, axis)))
  moved = changed(arrays, query, _times(matrix, axis))
  moved = changed(moved, keys, _times(np.linalg.inv(matrix).T, axis))
  assert_same(fn(*moved), result, tolerance, "queries times M, keys times the inverse of M'", inputs=arrays)


@law("values and the output matrix are known up to a matrix: (V M, M^-1 W_O)", "follows from V W_O = (V M) (M^-1 W_O)")
def check_value_output_gauge(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  value: int,
  output: int,
  value_axis: int = -1,
  output_axis: int = -2,
) -> None:
  """`value`: the argument with values or their weights, `output`: the one with the output matrix [.., e, o]."""
  rng, result = generator(key), fn(*arrays)
  matrix = _gauge(rng, _width(arrays, (value, output), (value_axis, output_axis)))
  moved = changed(arrays, value, _times(matrix, value_axis))
  moved = changed(moved, output, _times(np.linalg.inv(matrix).T, output_axis))
  assert_same(fn(*moved), result, tolerance, "values times M, the output matrix divided by it", inputs=arrays)


@law("concatenation and output matrix are a sum over heads", "Cordonnier et al. 2020, eq. 4 and lemma 1")
def check_heads_add_up(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, output: int = -1, axis: int = 0
) -> None:
  """f(W) - f(0) = sum_h (f(W of head h alone) - f(0)); `output` is the argument W, with heads along `axis`."""
  del key
  floats(arrays, output)
  size = places(arrays, output, axis)

  def alone(head: int) -> Any:
    def keep(a: np.ndarray) -> np.ndarray:
      shape = [1] * a.ndim
      shape[axis] = -1
      return a * (np.arange(size) == head).reshape(shape).astype(a.dtype)

    return jax.tree.map(numbers, fn(*changed(arrays, output, on_host(keep))))

  result, nothing = fn(*arrays), alone(-1)
  total = nothing
  for head in range(size):
    total = jax.tree.map(lambda t, one, none: t + one - none, total, alone(head), nothing)
  limit = default_tolerance(result, arrays) if tolerance is None else tolerance
  assert_same(result, total, limit, f"all {size} heads against their sum")
