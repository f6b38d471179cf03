"""Random numbers from a key, and arguments with something done to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Arrays = Sequence[Any]
Argnums = int | Sequence[int]


def generator(key: Any) -> np.random.Generator:
  """The same numbers for the same key (jax.random.key(0) if None), whatever the platform; the key is not used up."""
  key = jax.random.key(0) if key is None else key
  data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
  return np.random.default_rng(np.asarray(data).ravel().tolist())


def normal(rng: np.random.Generator, array: Any) -> jax.Array:
  """Standard normal numbers of an array's shape and dtype."""
  host = np.asarray(array)
  return jnp.asarray(rng.standard_normal(host.shape).astype(host.dtype))


def redrawn(rng: np.random.Generator, array: Any) -> jax.Array:
  """Other content of the same shape, dtype and range, different at every place.

  Floating-point numbers have the mean and the spread of the old ones, integers lie between the smallest and largest.
  """
  host = np.asarray(array)
  if host.dtype == bool:
    return jnp.asarray(~host)
  if np.issubdtype(host.dtype, np.integer):
    low, choices = int(host.min()), int(host.max()) - int(host.min()) + 1
    if choices == 1:
      raise ValueError(f"an argument holds the integer {low} alone; pass one with several values.")
    return jnp.asarray((low + (host - low + rng.integers(1, choices, host.shape)) % choices).astype(host.dtype))
  wide = host.astype(np.float64)
  spread = float(wide.std()) or 1.0
  return jnp.asarray((wide.mean() + spread * rng.standard_normal(host.shape)).astype(host.dtype))


def edited(rng: np.random.Generator, array: Any, places: np.ndarray, size: int = 1) -> jax.Array:
  """Other content where `places` (bool, of the array's shape or broadcastable to it) is true; numbers that are no
  integers are `size` times as large."""
  host, other = np.asarray(array), np.asarray(redrawn(rng, array))
  if jnp.issubdtype(other.dtype, jnp.floating):
    other = other * np.asarray(size, other.dtype)
  return jnp.asarray(np.where(np.broadcast_to(places, host.shape), other, host))


def along(array: Any, axis: int, places: np.ndarray) -> np.ndarray:
  """bool [n] along one axis of an array, as an array that broadcasts over the others."""
  shape = [1] * np.ndim(array)
  shape[axis] = -1
  return np.asarray(places).reshape(shape)


def indices(argnums: Argnums, arrays: Arrays) -> tuple[int, ...]:
  """Positions from the front. Raises ValueError where there is no such argument."""
  chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
  for each in chosen:
    if not -len(arrays) <= each < len(arrays):
      raise ValueError(f"argnums names argument {each}, but {len(arrays)} arrays were given; pass them after fn.")
  return tuple(each % len(arrays) for each in chosen)


def first(arrays: Arrays, number: int, what: str) -> list[np.ndarray]:
  """The first arguments on the host. Raises ValueError where there are fewer."""
  if len(arrays) < number:
    raise ValueError(f"{len(arrays)} arrays were given, but fn takes {what}; pass them after fn.")
  return [np.asarray(a) for a in arrays[:number]]


def changed(arrays: Arrays, argnums: Argnums, change: Any) -> list[Any]:
  """The arguments with `change` done to those named."""
  chosen = indices(argnums, arrays)
  return [change(a) if i in chosen else a for i, a in enumerate(arrays)]


def on_host(change: Any) -> Callable[[Any], jax.Array]:
  """A change of NumPy arrays as one of jax arrays that keeps the dtype."""
  return lambda array: jnp.asarray(np.ascontiguousarray(change(np.asarray(array))))


def taken(tree: Any, order: Any, axis: int) -> Any:
  """Every leaf with its places along an axis in another order."""
  return jax.tree.map(lambda leaf: np.take(np.asarray(leaf), order, axis), tree)


def places(arrays: Arrays, argnums: Argnums, axis: int, any_content: bool = False) -> int:
  """How many places the named arguments have along an axis.

  Raises ValueError where there is no such axis and, but for `any_content`, if a law about them could not fail.
  """
  sizes = set()
  for index in indices(argnums, arrays):
    array = np.asarray(arrays[index])
    if not -array.ndim <= axis < array.ndim:
      raise ValueError(f"axis is {axis}, but argument {index} has shape {list(array.shape)}.")
    if not any_content and (array.shape[axis] < 2 or np.all(array == np.take(array, [0], axis))):
      raise ValueError(
        f"argument {index} of shape {list(array.shape)} is the same all along axis {axis}, so that no law about its "
        f"places can fail on it; pass random numbers and at least 2 places."
      )
    sizes.add(array.shape[axis])
  if len(sizes) != 1:
    raise ValueError(f"the arguments have {sorted(sizes)} places along axis {axis}, but must have the same number.")
  return sizes.pop()


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
  """A cyclic shift, which moves every place, and a random order that is not the identity."""
  orders = [np.roll(np.arange(size), 1)]
  order = rng.permutation(size)
  while np.array_equal(order, np.arange(size)):
    order = rng.permutation(size)
  return [*orders, order]


def cotangent(rng: np.random.Generator, tree: Any) -> Any:
  """A random direction for the results of a function."""
  return jax.tree.map(lambda leaf: normal(rng, leaf), tree)
