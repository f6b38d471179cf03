"""Random numbers from a key, and arguments with something done to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convattn.properties.demands import Argnums, Arrays, extent, host, indices

DRAWS = (1, 10) * 32
"""Sizes of the edits that are tried one after another where one must have an effect."""


def generator(key: Any) -> np.random.Generator:
  """The same numbers for the same key (jax.random.key(0) if None), whatever the platform; the key is not used up."""
  key = jax.random.key(0) if key is None else key
  data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
  # The constant, because [0, 0] alone are the numbers of default_rng(0), with which a user may have drawn the arrays: a
  # law that compares them with a draw of its own would compare them with themselves.
  return np.random.default_rng([*np.asarray(data).ravel().tolist(), 0x1A55])


def like(array: Any, changed: Any) -> Any:
  """A changed copy in the form of the original: NumPy's arrays stay such, in float64 too, and others become jax's."""
  return np.asarray(changed) if isinstance(array, np.ndarray) else jnp.asarray(changed)


def as_seen(result: Any, array: Any) -> Any:
  """An argument as the function saw it: where jax returned the result, it took float64 as float32 without x64."""
  by_jax = any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(result))
  return jax.tree.map(jnp.asarray, array) if by_jax else array


def normal(rng: np.random.Generator, array: Any) -> jax.Array:
  """Standard normal numbers of an array's shape and dtype."""
  given = np.asarray(array)
  return jnp.asarray(rng.standard_normal(given.shape).astype(given.dtype))


def redrawn(rng: np.random.Generator, array: Any) -> Any:
  """Other content of the same shape, dtype and range, different at every place.

  Floating-point numbers have the mean and the spread of the old ones, integers lie between the smallest and largest.
  """
  given = host(array)
  if given.dtype == bool:
    return like(array, ~given)
  if np.issubdtype(given.dtype, np.integer):
    low, choices = int(given.min()), int(given.max()) - int(given.min()) + 1
    if choices == 1:
      raise ValueError(f"an argument holds the integer {low} alone, but must hold several; pass random numbers.")
    return like(array, (low + (given - low + rng.integers(1, choices, given.shape)) % choices).astype(given.dtype))
  wide = given.astype(np.float64)
  spread = float(wide.std()) or 1.0
  return like(array, np.asarray(wide.mean() + spread * rng.standard_normal(given.shape)).astype(given.dtype))


def edited(rng: np.random.Generator, array: Any, places: np.ndarray, size: int = 1) -> Any:
  """Other content where `places` (bool, of the array's shape or broadcastable to it) is true; numbers that are no
  integers are `size` times as large."""
  given, other = host(array), np.asarray(redrawn(rng, array))
  if jnp.issubdtype(other.dtype, jnp.floating):
    other = other * np.asarray(size, other.dtype)
  return like(array, np.where(np.broadcast_to(places, given.shape), other, given))


def along(array: Any, axis: int, places: np.ndarray) -> np.ndarray:
  """bool [n] along one axis of an array, as an array that broadcasts over the others."""
  shape = [1] * np.ndim(array)
  shape[axis] = -1
  return np.asarray(places).reshape(shape)


def changed(arrays: Arrays, argnums: Argnums, change: Any) -> list[Any]:
  """The arguments with `change` done to those named."""
  chosen = indices(argnums, arrays)
  return [change(a) if i in chosen else a for i, a in enumerate(arrays)]


def on_host(change: Any) -> Callable[[Any], Any]:
  """A change of NumPy arrays as one of the arrays given, whose form and dtype are kept."""
  return lambda array: like(array, np.asarray(change(host(array)), order="C"))


def taken(tree: Any, order: Any, axis: int, size: int | None = None) -> Any:
  """Every leaf with its places along an axis in another order.

  Raises ValueError where there are no such places, or others than `size` many.
  """

  def take(leaf: Any) -> np.ndarray:
    count = extent(leaf, axis, "a result")
    wanted = int(np.max(order, initial=-1)) + 1 if size is None else size
    if count < wanted or size not in (None, count):
      raise ValueError(
        f"a result of shape {list(np.shape(leaf))} has {count} places along axis {axis}, but must have {wanted}, as "
        f"many as the argument; pass a function that keeps them, or name another axis."
      )
    return np.take(np.asarray(leaf), order, axis)

  return jax.tree.map(take, tree)


def separations(size: int) -> list[np.ndarray]:
  """Sets of places, bool [size], of which for any two places one holds the first alone, and one the second alone.

  Each place by itself, or of more than 16 those that share a binary digit: 2 log2(size) sets.
  """
  every = np.arange(size)
  if size <= 16:
    return [every == place for place in every]
  digits = [(every >> digit) & 1 == 1 for digit in range((size - 1).bit_length())]
  return [each for digit in digits for each in (digit, ~digit)]


def cuts(size: int) -> list[int]:
  """Places at which a sequence falls into a past and a future: all, or 64 of them."""
  return sorted({int(each) for each in np.linspace(0, size - 1, min(size, 64))})


def step(array: np.ndarray, more: float) -> float:
  """A power of two: its multiples as large as the array's largest number and `more` are numbers of its dtype."""
  largest = max(float(np.abs(array.astype(np.float64)).max(initial=0)) + more, 1e-30)
  return float(2.0 ** np.ceil(np.log2(largest))) * float(jnp.finfo(array.dtype).eps)


def rounded(numbers: np.ndarray, step: float) -> np.ndarray:
  """The nearest multiples of a step."""
  return np.asarray(np.round(numbers / step) * step)


def permutations(rng: np.random.Generator, size: int) -> list[np.ndarray]:
  """A cyclic shift, which moves every place, the first two places swapped, and a random order.

  The first two generate all permutations: what both leave alone for all arrays, all leave alone.
  """
  orders = [np.roll(np.arange(size), 1)]
  if size > 2:
    orders.append(np.array([1, 0, *range(2, size)]))
  order = rng.permutation(size)
  while np.array_equal(order, np.arange(size)):
    order = rng.permutation(size)
  return [*orders, order]


def cotangent(rng: np.random.Generator, tree: Any) -> Any:
  """A random direction for the results of a function."""
  return jax.tree.map(lambda leaf: normal(rng, leaf), tree)
