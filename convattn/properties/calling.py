"""What a check is given, and what the functions that it calls return: looked at before anything is compared."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def _is_real(leaf: Any) -> bool:
  dtype = getattr(leaf, "dtype", None)
  if dtype is None:
    return isinstance(leaf, bool | int | float)
  return dtype == np.bool_ or (
    jnp.issubdtype(dtype, jnp.number) and not jnp.issubdtype(dtype, jnp.complexfloating)  # as float64 it would be cut
  )


def answering(fn: Callable[..., Any], name: str) -> Callable[..., Any]:
  """The function itself, but a result that nothing can be compared with is a ValueError: no array, or no number in it.

  `name` is what messages call it.
  """

  def called(*arguments: Any, **keywords: Any) -> Any:
    result = fn(*arguments, **keywords)
    leaves = jax.tree.leaves(result)
    if not leaves:
      what = "None" if result is None else f"a {type(result).__name__} without any array"
      raise ValueError(f"{name} returned {what}, but must return an array, or a tree of arrays.")
    for leaf in leaves:
      if not _is_real(leaf):
        what = f"an array of {leaf.dtype}" if hasattr(leaf, "dtype") else f"{leaf!r:.40}"
        raise ValueError(f"{name} returned {what}, but must return arrays of real numbers alone.")
    if not any(np.size(leaf) for leaf in leaves):
      shapes = ", ".join(str(list(np.shape(leaf))) for leaf in leaves)
      raise ValueError(f"{name} returned no array with a number in it, but shapes {shapes}; pass larger arrays.")
    return result

  called.__wrapped__ = fn  # type: ignore[attr-defined]
  return called


def demand_arrays(arrays: Sequence[Any]) -> None:
  """Raises ValueError for lists of numbers, for complex numbers, text and objects, and for empty arrays."""
  for number, argument in enumerate(arrays):
    leaves = jax.tree.leaves(argument)
    if isinstance(argument, list | tuple) and not any(hasattr(leaf, "dtype") for leaf in leaves):
      raise ValueError(f"argument {number} is {argument!r:.60}, but must be an array or a tree of arrays.")
    for leaf in leaves:
      if hasattr(leaf, "dtype") and not _is_real(leaf) and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        raise ValueError(f"argument {number} holds {leaf.dtype}, but must hold real numbers.")
    if leaves and not any(np.size(leaf) for leaf in leaves):
      shapes = ", ".join(str(list(np.shape(leaf))) for leaf in leaves)
      raise ValueError(f"argument {number} has shape {shapes}, but must have at least one number.")


def demand_tolerance(tolerance: Any) -> None:
  """Raises ValueError unless it is None or a number from 0 on."""
  if tolerance is None:
    return
  numeric = np.ndim(tolerance) == 0 and np.asarray(tolerance).dtype.kind in "iuf"
  if not numeric or not math.isfinite(tolerance) or tolerance < 0:
    raise ValueError(f"tolerance is {tolerance!r:.40}, but must be a finite number of at least 0, or None.")


SEVERAL = ("axes", "out_axes", "bias_axes", "grid", "sizes", "dtypes", "allow")
"""Keywords that are tuples or lists."""


def demand_keywords(keywords: Mapping[str, Any]) -> None:
  """Raises ValueError for a number or a text where several are meant, and for an `offset` or `output` that is no
  whole number."""
  for name in SEVERAL:
    value = keywords.get(name)
    if value is not None and not isinstance(value, tuple | list):
      raise ValueError(f"{name} is {value!r:.40}, but must be a tuple, such as ({value!r:.40},).")
  for name in ("offset", "output"):
    value = keywords.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer)):
      raise ValueError(f"{name} is {value!r:.40}, but must be a whole number.")


def seeded(key: Any) -> Any:
  """A key of jax.random; a whole number is a seed. Raises ValueError for anything else but None."""
  if key is None or (hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
    return key
  if isinstance(key, int | np.integer) and not isinstance(key, bool) and 0 <= key < 2**63:
    return jax.random.key(int(key))
  if np.ndim(key) and getattr(key, "dtype", None) == np.uint32:
    return key
  raise ValueError(f"key is {key!r:.40}, but must be a key such as jax.random.key(3), a seed of at least 0, or None.")


def demand_key(fn: Callable[..., Any]) -> None:
  """Raises ValueError where fn takes no keyword `key`."""
  try:
    parameters = inspect.signature(fn).parameters.values()
  except (TypeError, ValueError):  # some builtins have none
    return
  takes = any(each.kind is each.VAR_KEYWORD for each in parameters) or any(
    each.name == "key" and each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD) for each in parameters
  )
  if not takes:
    names = ", ".join(map(str, parameters))
    raise ValueError(f"fn takes ({names}), but is called as fn(*arrays, key=...); give it an argument `key`.")
