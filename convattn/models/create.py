"""Models by name."""

from __future__ import annotations

import difflib
import fnmatch
import numbers
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.errors import UserError
from convattn.models.coatnet import CoAtNet
from convattn.models.spec import Spec, check_fields, with_overrides
from convattn.models.variants import VARIANTS

_NOT_IN_SPEC = ("num_classes", "dtype", "param_dtype", "remat")
"""What `create_model` takes beside the fields of Spec."""


def list_models(pattern: str = "*") -> list[str]:
  """Sorted names of the models that match a shell pattern such as "coatnet_*"."""
  return sorted(fnmatch.filter(VARIANTS, pattern))


def spec_for(name: str, **overrides: Any) -> Spec:
  """The spec of a named model with some fields replaced.

  Raises:
    ValueError: an unknown name or field, with the nearest ones; or a value that a field does not take.
  """
  if name not in VARIANTS:
    near = difflib.get_close_matches(name, VARIANTS, n=3, cutoff=0.4) or list_models()
    raise UserError(f"there is no model {name!r}; did you mean {', '.join(near)}? convattn.list_models() lists all.")
  return with_overrides(VARIANTS[name], **overrides)


def create_model(
  name: str,
  num_classes: int = 1000,
  dtype: DTypeLike = jnp.float32,
  *,
  param_dtype: DTypeLike = jnp.float32,
  remat: str = "none",
  **spec_overrides: Any,
) -> CoAtNet:
  """A named model as a linen module.

  Args:
    name: one of `list_models()`.
    num_classes: width of the logits; 0 leaves the last dense layer out.
    dtype: of the computation. Softmax, normalisation statistics and logits are in promote_types(dtype, float32).
    param_dtype: of the parameters.
    remat: what the backward pass recomputes: "none", "block" (all but each block's input) or "dots" (all but that and
      the outputs of dense layers).
    **spec_overrides: fields of models.spec.Spec.

  Raises:
    ValueError: an unknown name, field or value.
  """
  check_fields(spec_overrides, related=_NOT_IN_SPEC)
  _check_num_classes(num_classes)
  return CoAtNet(spec_for(name, **spec_overrides), num_classes, dtype, param_dtype, remat)


def _check_num_classes(value: Any) -> None:
  if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 0:
    raise UserError(f"num_classes is {value!r}, but must be a whole number of at least 0 (0: no last dense layer).")
