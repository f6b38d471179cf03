"""What the arguments of a check must be like for it to be able to fail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Arrays = Sequence[Any]
Argnums = int | Sequence[int]

GRID = (-3, -2)
"""Rows and columns of [..., h, w, c]."""


def whole(name: str, value: Any, least: int, why: str = "") -> int:
  """Raises ValueError unless it is a whole number of at least `least`."""
  if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
    raise ValueError(f"{name} is {value!r:.40}, but must be a whole number of at least {least}{why and f': {why}'}.")
  return int(value)


def finite(name: str, value: Any, least: float, exclusive: bool = False) -> float:
  """Raises ValueError unless it is a finite number of at least `least`, or of more."""
  number = np.ndim(value) == 0 and np.asarray(value).dtype.kind in "iuf" and math.isfinite(value)
  if not number or value < least or (exclusive and value == least):
    raise ValueError(
      f"{name} is {value!r:.40}, but must be a finite number of {'more than' if exclusive else 'at least'} {least:g}."
    )
  return float(value)


def indices(argnums: Argnums, arrays: Arrays) -> tuple[int, ...]:
  """Positions from the front. Raises ValueError where there is no such argument, or none is named."""
  chosen = (argnums,) if isinstance(argnums, int | np.integer) else tuple(argnums)
  if not chosen or not all(isinstance(each, int | np.integer) for each in chosen):
    raise ValueError(f"argnums is {argnums!r:.40}, but must be the number of an argument, or several.")
  for each in chosen:
    if not -len(arrays) <= each < len(arrays):
      raise ValueError(f"argnums names argument {each}, but {len(arrays)} arrays were given; pass them after fn.")
  return tuple(int(each) % len(arrays) for each in chosen)


def host(array: Any, what: str = "an argument") -> np.ndarray:
  """On the host. Raises ValueError for what is no array of numbers."""
  if not hasattr(array, "dtype") and not isinstance(array, bool | int | float):
    raise ValueError(f"{what} is a {type(array).__name__}, but must be one array here.")
  dtype = np.dtype(type(array)) if not hasattr(array, "dtype") else array.dtype
  if dtype != np.bool_ and not jnp.issubdtype(dtype, jnp.number):
    raise ValueError(f"{what} is an array of {dtype}, but must be one of numbers.")
  return np.asarray(array)


def first(arrays: Arrays, number: int, what: str) -> list[np.ndarray]:
  """The first arguments on the host. Raises ValueError where there are fewer."""
  if len(arrays) < number:
    raise ValueError(f"{len(arrays)} arrays were given, but fn takes {what}; pass them after fn.")
  return [host(a, f"argument {i}") for i, a in enumerate(arrays[:number])]


def extent(array: Any, axis: Any, what: str) -> int:
  """The number of places along an axis. Raises ValueError where there is no such axis."""
  shape = np.shape(array)
  if not isinstance(axis, int | np.integer) or not -len(shape) <= axis < len(shape):
    raise ValueError(f"axis is {axis}, but {what} has shape {list(shape)}; it must be one of its axes.")
  return int(shape[axis])


def extents(array: Any, axes: Any, what: str) -> list[int]:
  """The same for several axes, of which there must be one."""
  if not isinstance(axes, tuple | list) or not axes:
    raise ValueError(f"axes is {axes!r:.40}, but must name at least one axis of {what}, as a tuple.")
  return [extent(array, axis, what) for axis in axes]


def floats(arrays: Arrays, argnums: Argnums) -> None:
  """Raises ValueError unless these arguments are arrays of floating-point numbers."""
  for index in indices(argnums, arrays):
    dtype = host(arrays[index], f"argument {index}").dtype
    if not jnp.issubdtype(dtype, jnp.floating):
      raise ValueError(f"argument {index} is {dtype}, but must be floating-point: others cannot take small changes.")


def not_zero(arrays: Arrays, argnums: Argnums) -> None:
  """Raises ValueError for a truth value, and where one of these arguments (arrays or trees) is 0 everywhere."""
  for index in indices(argnums, arrays):
    leaves = [host(leaf, f"argument {index}") for leaf in jax.tree.leaves(arrays[index])]
    if any(leaf.dtype == bool for leaf in leaves):
      raise ValueError(f"argument {index} is bool, but must be numbers.")
    if not any(np.any(leaf != 0) for leaf in leaves):
      raise ValueError(f"argument {index} is 0 everywhere, so that this law cannot fail on it; pass random numbers.")


def varied(array: Any, what: str) -> None:
  """Raises ValueError where an array is the same number everywhere."""
  values = host(array, what)
  if np.all(values == values.ravel()[0]):
    raise ValueError(
      f"{what} of shape {list(values.shape)} is {values.ravel()[0]:g} everywhere, so that this law cannot fail on it; "
      f"pass random numbers, and at least two."
    )


def places(arrays: Arrays, argnums: Argnums, axis: int, any_content: bool = False) -> int:
  """How many places the named arguments have along an axis.

  Raises ValueError where there is no such axis and, but for `any_content`, if a law about them could not fail.
  """
  sizes = set()
  for index in indices(argnums, arrays):
    array = host(arrays[index], f"argument {index}")
    size = extent(array, axis, f"argument {index}")
    if not any_content and (size < 2 or np.all(array == np.take(array, [0], axis))):
      raise ValueError(
        f"argument {index} of shape {list(array.shape)} is the same all along axis {axis}, so that no law about its "
        f"places can fail on it; pass random numbers and at least 2 places."
      )
    sizes.add(size)
  if len(sizes) != 1:
    raise ValueError(f"the arguments have {sorted(sizes)} places along axis {axis}, but must have the same number.")
  return sizes.pop()


def grid_axes(arrays: Arrays, axes: Sequence[int] | None, argnums: Argnums = 0) -> tuple[int, ...]:
  """The axes of the grid that have several places: of an image of one row its columns alone.

  If None, rows and columns of images [..., b, h, w, c], and n of tokens [b, n, c]. Raises ValueError if there are none,
  and for an axis that is the same all along.
  """
  chosen = indices(argnums, arrays)
  hosts = [host(arrays[index], f"argument {index}") for index in chosen]
  wanted = tuple(axes) if axes is not None else GRID[1:] if hosts[0].ndim == 3 else GRID
  for index, array in zip(chosen, hosts, strict=True):
    extents(array, wanted, f"argument {index}")
  shape = hosts[0].shape
  long = tuple(axis for axis in wanted if shape[axis] > 1)
  if not long:
    raise ValueError(
      f"argument {chosen[0]} has shape {list(shape)}, but must have at least 2 places along one of the axes {wanted}."
    )
  for axis in long:
    places(arrays, argnums, axis)
  return long
