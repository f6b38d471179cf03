"""Models by name."""

from __future__ import annotations

import dataclasses
import fnmatch
import numbers
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.errors import UserError, nearest
from convattn.models.families import FAMILIES, Family, family_named

_NOT_IN_SPEC = ("num_classes", "dtype", "param_dtype", "remat", "axis_name")
"""What `create_model` takes beside the fields of a spec."""


def list_models(pattern: str = "*") -> list[str]:
  """Sorted names of the models that match a shell pattern such as "coatnet_*"."""
  return sorted(fnmatch.filter((name for family in FAMILIES.values() for name in family.variants), pattern))


def spec_for(name: str, **overrides: Any) -> Any:
  """The spec of a named model with some fields replaced.

  Raises:
    UserError: an unknown name or field, with the nearest ones; or a value that a field does not take.
  """
  return _spec(_family(name), name, overrides)


def _spec(family: Family, name: str, overrides: dict[str, Any], related: Sequence[str] = ()) -> Any:
  check_fields(family.spec, overrides, related)
  return dataclasses.replace(family.variants[name], **overrides)


def check_fields(spec: type, names: Sequence[str] | dict[str, Any], related: Sequence[str] = ()) -> None:
  """Each name must be a field of the class of specs; `related` are other names to suggest.

  Raises:
    UserError: one is not, with the nearest, at most three.
  """
  known = [field.name for field in dataclasses.fields(spec)]
  for name in names:
    if name not in known:
      near = ", ".join(nearest(name, [*known, *related]))
      raise UserError(f"a model has no field {name!r}; did you mean {near}?")


def _family(name: str) -> Family:
  family = family_named(name)
  if family is None:
    near = ", ".join(nearest(name, list_models()))
    raise UserError(f"there is no model {name!r}; did you mean {near}? convattn.list_models() lists all.")
  return family


def create_model(
  name: str,
  num_classes: int = 1000,
  dtype: DTypeLike = jnp.float32,
  *,
  param_dtype: DTypeLike = jnp.float32,
  remat: str = "none",
  axis_name: str | tuple[str, ...] | None = None,
  **spec_overrides: Any,
) -> Any:
  """A named model as a linen module.

  Args:
    name: one of `list_models()`.
    num_classes: width of the logits; 0 leaves the last dense layer out.
    dtype: of the computation. Softmax, normalisation statistics and logits are in promote_types(dtype, float32).
    param_dtype: of the parameters.
    remat: what the backward pass recomputes: "none", "block" (all but each block's input) or "dots" (all but that and
      the outputs of dense layers).
    axis_name: of vmap, pmap or shard_map, where each call sees a share of the batch, over all of which BatchNorm takes
      its statistics.
    **spec_overrides: fields of the model's spec; a CoAtNet's is models.Spec.

  Raises:
    UserError: an unknown name, field or value.
  """
  family = _family(name)
  spec = _spec(family, name, spec_overrides, related=_NOT_IN_SPEC)
  _check_num_classes(num_classes)
  for field, value in (("dtype", dtype), ("param_dtype", param_dtype)):
    _check_dtype(field, value)
  fields: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "remat": remat}
  # A family without BatchNorm has no such field.
  fields |= {} if axis_name is None else {"axis_name": axis_name}
  return family.module(spec=spec, num_classes=num_classes, **fields)


def _check_dtype(name: str, value: Any) -> None:
  try:
    # None is told of when the model is called: to flax it is a dtype.
    known = value is None or jnp.issubdtype(jnp.dtype(value), jnp.floating)
  except TypeError:
    known = False
  if not known:
    raise UserError(f"{name} is {value!r}, but must be a floating-point dtype such as float32, bfloat16 or float16.")


def _check_num_classes(value: Any) -> None:
  if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 0:
    raise UserError(f"num_classes is {value!r}, but must be a whole number of at least 0 (0: no last dense layer).")
