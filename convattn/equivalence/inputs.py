"""What the public functions accept: kernels, whole numbers, single numbers; and in one line what they do not."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict


def shown(value: Any) -> str:
  """The value for a message, on one line: numbers as they are, arrays by dtype and shape."""
  if isinstance(value, jax.core.Tracer):
    return "traced"
  if isinstance(value, np.ndarray | jax.Array) and (value.shape or not is_real(value.dtype)):
    return f"an array {value.dtype}{list(value.shape)}"
  value = value.item() if isinstance(value, np.ndarray | jax.Array) else value
  text = " ".join(repr(value).split())
  return text if len(text) <= 100 else text[:97] + "..."


def plain(value: Any) -> Any:
  """Arrays and scalars of integers as Python's, sequences as tuples, everything else as it is."""
  known = isinstance(value, np.ndarray | np.generic | jax.Array) and not isinstance(value, jax.core.Tracer)
  if known and jnp.issubdtype(value.dtype, jnp.integer):
    value = value.tolist()
  if isinstance(value, Sequence) and not isinstance(value, str | bytes):
    return tuple(plain(each) for each in value)
  return value


def is_whole(value: Any, least: int = 1) -> bool:
  """Of a `plain` value."""
  return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**31


def read_whole(name: str, value: Any, least: int = 1) -> int:
  """Raises ValueError where the value is not a whole number, or too small."""
  found = plain(value)
  if not is_whole(found, least):
    raise ValueError(f"{name} is {shown(value)}, but must be a {'positive' if least else 'non-negative'} integer.")
  return int(found)


def per_axis(name: str, value: Any, axes: int) -> tuple[int, ...]:
  """One positive integer for each axis of the image; one for all where it is a single one."""
  values = plain(value)
  if is_whole(values):
    values = (values,) * axes
  if isinstance(values, tuple) and len(values) == axes and all(map(is_whole, values)):
    return values
  raise ValueError(f"{name} is {shown(value)}, but must be a positive integer or one for each of the {axes} axes.")


def read_number(name: str, value: Any, wanted: str, zero: bool = False) -> float:
  """A single finite number above zero (or zero, if allowed) as Python's. `wanted` completes the message.

  Raises:
    ValueError: something else.
  """
  found = value
  single = isinstance(value, np.ndarray | np.generic | jax.Array) and not isinstance(value, jax.core.Tracer)
  if single and value.shape == () and is_real(value.dtype):
    found = value.item()
  number = isinstance(found, int | float) and not isinstance(found, bool)
  if number and 0 <= found <= sys.float_info.max and (zero or found > 0):
    return float(found)
  raise ValueError(f"{name} is {shown(value)}, but must be {wanted}.")


def is_real(dtype: Any) -> bool:
  """Integers and real floats, bfloat16 among them."""
  return bool(jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer))


def read_kernel(kernel: Any) -> jax.Array:
  """The kernel as an array, traced or not.

  Raises:
    TypeError: no array of numbers.
    ValueError: not [k, c, o] or [k_h, k_w, c, o], or not real floats.
  """
  found = _as_array("kernel", kernel, jnp.asarray)
  check_kernel_shape(found.shape)
  if not jnp.issubdtype(found.dtype, jnp.floating):
    raise ValueError(f"kernel is {found.dtype}, but must be real floating point: convert it first.")
  return found


def known_kernel(kernel: Any, needed: str) -> np.ndarray:
  """The kernel in NumPy with its values, for those who need them; `needed` says what for.

  Raises:
    TypeError: no array of numbers.
    ValueError: not [k, c, o] or [k_h, k_w, c, o], not real, not finite, or traced.
  """
  if isinstance(kernel, jax.core.Tracer):
    raise ValueError(f"kernel is traced, but {needed}: call it outside jit.")
  found: np.ndarray = _as_array("kernel", kernel, np.asarray)
  check_kernel_shape(found.shape)
  if not is_real(found.dtype):
    raise ValueError(f"kernel is {found.dtype}, but must be real: convert it first.")
  check_finite("kernel", found, needed)
  return found


def check_kernel_shape(shape: tuple[int, ...]) -> None:
  if len(shape) not in (3, 4) or 0 in shape:
    raise ValueError(
      f"kernel has shape {shape}, but must be [k, c, o] or [k_h, k_w, c, o], no axis empty; other ranks are not "
      f"supported."
    )


def check_finite(name: str, array: np.ndarray, needed: str) -> None:
  """Raises ValueError at the first NaN or infinity."""
  bad = ~np.isfinite(array.astype(np.float64))
  if bad.any():
    place = tuple(int(each) for each in np.argwhere(bad)[0])
    raise ValueError(f"{name} has the value {array[place]} at {place}, but {needed}: give finite numbers.")


def narrowed(name: str, numbers: np.ndarray, dtype: Any, remedy: str) -> jax.Array:
  """Known numbers in a dtype that may be narrower.

  Raises:
    ValueError: one is beyond its largest number. `remedy` completes the message.
  """
  with np.errstate(over="ignore"):
    found = np.asarray(numbers).astype(dtype)
  if not np.isfinite(found.astype(np.float64)).all():
    raise ValueError(
      f"{name} would hold {np.abs(numbers.astype(np.float64)).max():.4g}, but {jnp.dtype(dtype)} has no number beyond "
      f"{float(jnp.finfo(dtype).max):.4g}: {remedy}."
    )
  return jnp.asarray(found)


def read_bias(bias: Any, kernel: jax.Array) -> jax.Array | None:
  """A bias as long as the kernel has outputs, in its dtype.

  Raises:
    TypeError: no array of numbers.
    ValueError: another shape, not real, or too large for that dtype.
  """
  if bias is None:
    return None
  found = _as_array("bias", bias, jnp.asarray)
  if found.shape != kernel.shape[-1:]:
    raise ValueError(f"bias has shape {found.shape}, but the kernel {kernel.shape} needs {kernel.shape[-1:]}.")
  if not is_real(found.dtype):
    raise ValueError(f"bias is {found.dtype}, but must be real: convert it first.")
  if isinstance(found, jax.core.Tracer) or not np.isfinite(np.asarray(found, np.float64)).all():
    return found.astype(kernel.dtype)
  return narrowed("bias", np.asarray(found), kernel.dtype, "give the kernel in a wider dtype, such as float32")


def check_images(name: str, x: Any) -> None:
  """Raises TypeError where x is no array, or not one of real numbers."""
  if not (hasattr(x, "shape") and hasattr(x, "dtype")):
    raise TypeError(f"{name} is {shown(x)}, but must be an array: convert it first, such as by jnp.asarray.")
  if not (is_real(x.dtype) or x.dtype == bool):
    raise TypeError(f"{name} is {x.dtype}, but must be an array of real numbers: convert it first.")


def _as_array(name: str, value: Any, convert: Any) -> Any:
  try:
    return convert(value)
  except (TypeError, ValueError, OverflowError) as error:
    raise TypeError(f"{name} is {shown(value)}, but must be an array of real numbers.") from error


def is_floating(dtype: Any) -> bool:
  """Whether it names a dtype of real floats."""
  if dtype is None or isinstance(dtype, np.ndarray | np.generic | jax.Array):
    return False
  try:
    return bool(jnp.issubdtype(jnp.dtype(dtype), jnp.floating))
  except TypeError:
    return False


def known_parameters(layer: nn.Module, variables: Any, names: Sequence[str]) -> tuple[dict[str, np.ndarray], Any]:
  """The named parameters ("query/kernel") in float64, and the dtype of the first. Tables may hold -inf.

  Raises:
    ValueError: one is missing, traced, no array of floats or not finite; or a head has -inf alone.
  """
  kind = type(layer).__name__
  params = variables.get("params") if isinstance(variables, Mapping) else None
  if not isinstance(params, Mapping):
    raise ValueError(
      f"variables are {shown(variables)}, but must be {{'params': ...}} of a {kind}: give what its init returns."
    )
  found = flatten_dict(nn.unbox(dict(params)), sep="/")
  known: dict[str, np.ndarray] = {}
  for name in names:
    array = found.get(name)
    if isinstance(array, jax.core.Tracer):
      raise ValueError(f"variables' {name!r} is traced, but the kernel needs its values: call it outside jit.")
    if not (hasattr(array, "dtype") and is_floating(array.dtype)):
      raise ValueError(
        f"variables' {name!r} is {shown(array)}, but a {kind} has an array of floats there: give what its init returns."
      )
    known[name] = np.asarray(array, np.float64)
    unseen = np.isneginf(known[name]) if name in ("table", "bias_table") else False
    check_finite(f"variables' {name!r}", np.where(unseen, 0, known[name]), "a kernel has finite ones only")
    if name == "table" and np.all(unseen, axis=tuple(range(1, known[name].ndim))).any():
      raise ValueError(f"variables' {name!r} is -inf everywhere for a head, but each needs a place to look at.")
  return known, jnp.result_type(found[names[0]])
