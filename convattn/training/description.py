"""What a run is about, as JSON: its model and its data. Two runs with other descriptions do not share a workdir."""

import dataclasses
import json
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn.errors import UserError
from convattn.models import CoAtNet, Run, Spec, Stage
from convattn.training.state import sha256

COATNET = f"{CoAtNet.__module__}.{CoAtNet.__qualname__}"
"""The class of a model that its description rebuilds."""
TASK_PASSED = "task_passed_in_python"
"""Key that stands beside a checkpoint's model, and is true, where the run's task was not the one of its settings."""

_LINEN_FIELDS = ("parent", "name")


def describe_model(model: nn.Module) -> dict[str, Any]:
  """The class of `model` and its fields: of a CoAtNet all that rebuilds it, of others the text of each value."""
  kind = {"class": f"{type(model).__module__}.{type(model).__qualname__}"}
  names = [field.name for field in dataclasses.fields(model) if field.name not in _LINEN_FIELDS]
  fields = {name: getattr(model, name) for name in names}
  if not isinstance(model, CoAtNet):
    return kind | {name: _text(value) for name, value in fields.items()}
  fields["spec"] = dataclasses.asdict(model.spec)
  return kind | {name: jnp.dtype(value).name if _is_dtype(name) else value for name, value in fields.items()}


def model_from_description(description: dict[str, Any]) -> CoAtNet:
  """The CoAtNet that `describe_model` described, also after the description has been stored as JSON.

  Raises:
    ValueError: it describes a module of another class.
  """
  fields = dict(description)
  kind = fields.pop("class")
  if kind != COATNET:
    raise ValueError(f"only a CoAtNet is rebuilt from its description, got {kind!r}; make that one yourself.")
  stages = tuple(
    Stage(**{**stage, "runs": tuple(Run(**run) for run in stage["runs"])}) for stage in fields["spec"]["stages"]
  )
  spec: dict[str, Any] = {
    name: tuple(value) if isinstance(value, list) else value for name, value in fields.pop("spec").items()
  }
  if "activation" in spec:  # one for all, before there were two
    spec["conv_activation"] = spec["attention_activation"] = spec.pop("activation")
  spec["stages"] = stages
  return CoAtNet(
    spec=Spec(**spec), **{name: jnp.dtype(value) if _is_dtype(name) else value for name, value in fields.items()}
  )


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
