"""What a run is about, as JSON: its model and its data. Two runs with other descriptions do not share a workdir."""

import dataclasses
import json
import re
import typing
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn.errors import UserError
from convattn.fields import type_hints
from convattn.models import FAMILIES, family_of
from convattn.training.state import sha256

TASK_PASSED = "task_passed_in_python"
"""Key that stands beside a checkpoint's model, and is true, where the run's task was not the one of its settings."""

_LINEN_FIELDS = ("parent", "name")


def describe_model(model: nn.Module) -> dict[str, Any]:
  """The class of `model` and its fields: of a model of our families all that rebuilds it, else each value's text."""
  names = [field.name for field in dataclasses.fields(model) if field.name not in _LINEN_FIELDS]
  fields = {name: getattr(model, name) for name in names}
  found = family_of(model)
  if found is None:
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    return {"class": kind} | {name: _text(value) for name, value in fields.items()}
  fields["spec"] = dataclasses.asdict(fields["spec"])
  return {"class": found[0]} | {
    name: jnp.dtype(value).name if _is_dtype(name) else value for name, value in fields.items()
  }


def model_from_description(description: dict[str, Any]) -> Any:
  """The model that `describe_model` described, also after the description has been stored as JSON.

  Settings that its version did not have yet have their defaults, which are what that version did.

  Raises:
    UserError: it describes a module that is of no family.
  """
  fields = dict(description)
  kind = fields.pop("class")
  if kind not in FAMILIES:
    raise UserError(
      f"a description rebuilds the models of convattn.list_models() only, got {kind!r}; make that one yourself."
    )
  family = FAMILIES[kind]
  fields = {name: jnp.dtype(value) if _is_dtype(name) else value for name, value in fields.items()}
  return family.module(**{**fields, "spec": _from_json(family.spec, fields["spec"])})


def completed(description: dict[str, Any]) -> dict[str, Any]:
  """A model's description as this version writes it, with the settings that are new.

  Of a module of no family it is itself, but the class by its name alone: it may have moved to another file.
  """
  try:
    return describe_model(model_from_description(description))
  except (AttributeError, KeyError, TypeError, ValueError):  # damaged, of no family or of a later version
    return {**description, "class": str(description.get("class")).rpartition(".")[2]}


def _from_json(kind: Any, value: Any) -> Any:
  """The dataclass or tuple of type `kind` that dataclasses.asdict and JSON made `value` of."""
  if dataclasses.is_dataclass(kind):
    kinds = type_hints(kind)
    return kind(**{name: _from_json(kinds.get(name), each) for name, each in value.items()})  # type: ignore[operator]
  if typing.get_origin(kind) is tuple:
    return tuple(_from_json(typing.get_args(kind)[0], each) for each in value)
  return value


def describe_inputs(inputs: Any) -> Any:
  """[shape, dtype] in the place of each array of a task's example inputs."""
  return jax.tree.map(lambda leaf: [list(np.shape(leaf)), jnp.result_type(leaf).name], inputs)


def inputs_from_description(described: Any) -> Any:
  """The shapes and dtypes that `describe_inputs` described, also after it has been stored as JSON."""

  def is_array(node: Any) -> bool:
    return isinstance(node, list | tuple) and len(node) == 2 and isinstance(node[1], str)

  return jax.tree.map(lambda node: jax.ShapeDtypeStruct(tuple(node[0]), node[1]), described, is_leaf=is_array)


def _is_dtype(name: str) -> bool:
  return name in ("dtype", "param_dtype")


def _text(value: Any) -> str:
  # A function's address is another one in each process.
  return re.sub(r" at 0x[0-9a-f]+", "", " ".join(repr(value).split()))


def describe_data(metadata: dict[str, Any], batches: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
  """A task's metadata and the SHA-256 of the first batch of each split.

  Raises:
    UserError: the metadata is not JSON.
  """
  try:
    json.dumps(metadata, allow_nan=False)
  except (TypeError, ValueError) as error:
    raise UserError(f"the task's metadata must be JSON, to be stored with each checkpoint: {error}.") from error
  return {"metadata": metadata, "sha256": {split: sha256(batch) for split, batch in batches.items()}}
