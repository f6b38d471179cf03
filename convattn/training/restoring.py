"""A trained model, ready to use, from what a run left on the disk or from released weights."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp

from convattn import pretrained
from convattn.errors import UserError, one_line
from convattn.models import FAMILIES
from convattn.pretrained.pictures import Preprocessing
from convattn.pretrained.tags import find_tags
from convattn.training import workdir as files
from convattn.training.checkpoint_folder import (
  check_files,
  newest_verified,
  read_description,
  read_weights,
  step_folders,
)
from convattn.training.config import Experiment
from convattn.training.description import TASK_PASSED, inputs_from_description, model_from_description
from convattn.training.manifest import MANIFEST
from convattn.training.workdir import shape_difference

WEIGHTS = ("averaged", "raw")
"""Which of a run's weights may be asked for: their running average, or those of the last update."""


@dataclasses.dataclass(frozen=True, eq=False)
class Restored:
  """A model with trained variables and all that it takes to use them.

  Attributes:
    model: called as `model.apply(variables, images, train=False)`: of one of our families, or what `restore` was given.
    variables: {"params"} and, with BatchNorm, {"batch_stats"}.
    preprocessing: makes a picture of any size an input of the model; None where the run's task was not of images.
    class_names: the name of each logit; () where the run's task was not to classify.
    experiment: the settings of the run; None for released weights. Settings that its version of convattn had and this
      one has not are left out, new ones have their defaults.
    step: updates applied; None for released weights.
    source: the checkpoint's folder, or the tag.
    averaged: the variables are the run's averaged ones.
    task_passed: the run's task was passed to it in Python, so that `experiment` does not name its data.
    metadata: of the run's task, as it was saved; {} for released weights.
  """

  model: Any
  variables: dict[str, Any]
  preprocessing: Preprocessing | None
  class_names: tuple[str, ...]
  experiment: Experiment | None
  step: int | None
  source: str
  averaged: bool = False
  task_passed: bool = False
  metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def title(self) -> str:
    """Which weights these are, such as "runs/digits/checkpoints/2000, step 2000, averaged weights"."""
    kind = WEIGHTS[0] if self.averaged else WEIGHTS[1]
    return self.source if self.step is None else f"{self.source}, step {self.step}, {kind} weights"


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier(Restored):
  """A restored model that tells classes of images apart: it has a preprocessing, and a name for each logit."""

  preprocessing: Preprocessing


def restore(source: str | os.PathLike[str], *, model: nn.Module | None = None, weights: str | None = None) -> Restored:
  """The model that lies at `source`, its variables on the default device: of any task, a `Classifier` where it is one.

  Of a run it is the newest checkpoint whose files are as its manifest says; each damaged one that is newer is named on
  stderr. How many devices the run had does not matter, and its optimizer is not read. Nothing on the disk is changed.

  Args:
    source: a run's workdir, its `checkpoints` folder, the folder of one checkpoint, or a tag of released weights such
      as "coatnet_0_rw_224.sw_in1k" (see `pretrained.load`). What exists on the disk is never taken for a tag.
    model: the module that a run was given by `training.run(..., model=...)` where that is of no family of ours
      (models/families.py), which alone can be rebuilt from a checkpoint.
    weights: "averaged", "raw" (of the last update), or None: averaged where the run keeps averages.

  Raises:
    UserError: nothing is there, no checkpoint yet, a damaged one, an unknown tag, a `model` that is missing,
      superfluous, or of other variables, or averages that are not there; one line. For a tag also whatever
      `pretrained.load` raises.
  """
  if weights not in (None, *WEIGHTS):
    raise UserError(f"weights must be one of {', '.join(WEIGHTS)}, got {weights!r}.")
  _check_is_module(model)
  text = os.fspath(source)
  path = Path(text).expanduser()
  if not path.exists() and _looks_like_tag(text):
    if model is not None:
      raise UserError(f"{text!r} is a tag, whose model is known; leave model out, or name a run's workdir.")
    if weights == "averaged":
      raise UserError(f"weights is 'averaged', but {text!r} is a tag, which has no averages beside it; leave it out.")
    return _released(text)
  return _from_checkpoint(_checkpoint_folder(path), model, weights)


def _check_is_module(model: Any) -> None:
  if model is not None and not isinstance(model, nn.Module):
    name = getattr(model, "__name__", "MyModule")
    raise UserError(f"model must be a linen module, got {type(model).__name__}; make one, such as {name}().")


def _looks_like_tag(text: str) -> bool:
  return bool(text) and not any(separator in text for separator in ("/", os.sep, "~"))


def _released(tag: str) -> Classifier:
  try:
    find_tags(tag)
  except ValueError as error:  # it may have been meant as a folder
    raise UserError(f"there is no folder {tag!r}, and {error}") from error
  model, variables, preprocessing = pretrained.load(tag)
  names = pretrained.class_names(tag)
  if len(names) != model.num_classes:
    raise UserError(
      f"the weights found for {tag!r} have {model.num_classes} classes, but those of that tag have {len(names)}; "
      f"fetch its own, or load these with convattn.pretrained.from_timm."
    )
  return Classifier(model, variables, preprocessing, names, None, None, tag)


def _checkpoint_folder(path: Path) -> Path:
  """The folder of one checkpoint: `path` itself, or the newest in it."""
  if not path.is_dir():
    if path.suffix == ".safetensors":
      raise UserError(
        f"{path} is a file of weights, which says neither its model nor its classes; load it with "
        "convattn.pretrained.from_timm, or train from it with --config.init_from."
      )
    found = f"{path} is no folder" if path.exists() else f"there is no folder {path}"
    raise UserError(f"{found}; name a run's workdir, one of its checkpoints, or a tag of released weights.")
  if any((path / name).exists() for name in ("state", "description", MANIFEST)):
    check_files(path)
    return path
  folder = path / files.CHECKPOINTS
  folder = folder if folder.is_dir() else path
  newest = newest_verified(folder, show=True)
  if newest is None:
    found = "no checkpoint but damaged ones" if step_folders(folder) else "no checkpoint"
    raise UserError(f"{path} holds {found}; name a run's workdir that has one, or a tag of released weights.")
  return newest


def restore_classifier(
  source: str | os.PathLike[str], *, model: nn.Module | None = None, weights: str | None = None
) -> Classifier:
  """`restore`, where only an image classifier will do.

  Raises:
    UserError: it is none, or as `restore`; one line.
  """
  restored = restore(source, model=model, weights=weights)
  if not isinstance(restored, Classifier):
    raise UserError(f"{restored.source} is a checkpoint of no image classifier; name another.")
  return restored


def _from_checkpoint(folder: Path, given: nn.Module | None, weights: str | None) -> Restored:
  description = read_description(folder)
  model = _model(folder, description["model"], given)
  state = read_weights(folder, raw=weights == "raw")
  if weights == "averaged" and not state["ema"]:
    raise UserError(f"weights is 'averaged', but the run of {folder} kept no averages (ema_decay was 0); leave it out.")
  trees = state["ema"] or {"params": state["params"], "model_state": state["model_state"]}
  found = description.get("preprocessing")
  fields: dict[str, Any] = {
    "model": model,
    "variables": {"params": trees["params"], **trees["model_state"]},
    "preprocessing": None if found is None else Preprocessing.from_json(found),
    "class_names": tuple(map(str, description.get("class_names", ()))),
    "experiment": files.experiment_from_json(description["experiment"]),
    "step": int(state["step"]),
    "source": str(folder),
    "averaged": bool(state["ema"]),
    "task_passed": description.get(TASK_PASSED) is True,
    "metadata": {name: value for name, value in description.items() if name not in _NOT_OF_THE_TASK},
  }
  restored = Restored(**fields)
  inputs = _inputs(description)
  if inputs is None:  # saved before they were described, of a task that is not of images
    return restored
  if given is not None:
    _check_given(restored, inputs)
  outputs = _outputs(restored, inputs)
  names = len(restored.class_names)
  is_classifier = restored.preprocessing is not None and getattr(outputs, "shape", None) == (1, names)
  return Classifier(**fields) if is_classifier else restored


_NOT_OF_THE_TASK = ("model", "experiment", "inputs", TASK_PASSED)


def _inputs(description: dict[str, Any]) -> Any:
  """Shapes and dtypes of the model's inputs, [1, ...]; None where they are not known."""
  if "inputs" in description:
    return inputs_from_description(description["inputs"])
  if "image_shape" in description:
    return jax.ShapeDtypeStruct((1, *description["image_shape"]), jnp.float32)
  return None


def _outputs(restored: Restored, inputs: Any) -> Any:
  """Shapes and dtypes of what the model makes of its inputs."""
  try:
    return outputs_of(restored, inputs)
  except UserError as error:
    raise UserError(f"the weights of the checkpoint {restored.source} do not fit its model: {error}") from error


def _model(folder: Path, description: dict[str, Any], given: nn.Module | None) -> nn.Module:
  """The model of the description; where that is of no family, the module that was given."""
  kind = description.get("class")
  if kind in FAMILIES and given is not None:
    raise UserError(
      f"the checkpoint {folder} holds a {FAMILIES[kind].module.__name__}, which is rebuilt from it; leave model out."
    )
  if given is not None:
    return given
  if kind is not None and kind not in FAMILIES:
    raise UserError(
      f"the checkpoint {folder} holds a model of class {kind!r}, which its description does not rebuild; make that one "
      f"yourself: training.restore({str(folder)!r}, model=...)."
    )
  try:
    return model_from_description(description)
  except (TypeError, KeyError, ValueError) as error:
    raise UserError(f"the model of the checkpoint {folder} cannot be rebuilt: {one_line(error)}") from error


def _check_given(restored: Restored, inputs: Any) -> None:
  """Its own variables must be those of the checkpoint, of which apply would ignore what it does not use."""
  try:
    made = jax.eval_shape(lambda x: restored.model.init(jax.random.key(0), x, train=False), inputs)
    differing = shape_difference(restored.variables, {name: made.get(name, {}) for name in restored.variables})
  except (flax.errors.FlaxError, AssertionError, TypeError, ValueError) as error:
    differing = one_line(error, 400)
  if differing:
    raise UserError(
      f"the weights of the checkpoint {restored.source} do not fit the model that was given, "
      f"{type(restored.model).__name__}: {differing}; give the one that was trained."
    )


def outputs_of(restored: Restored, inputs: Any) -> Any:
  """Shapes and dtypes of what the model makes of such inputs. Traces the model; computes nothing.

  Raises:
    UserError: the variables do not fit the model, or not with inputs of those shapes; one line.
  """
  try:
    return jax.eval_shape(lambda v, x: restored.model.apply(v, x, train=False), restored.variables, inputs)
  except (flax.errors.FlaxError, AssertionError, ValueError) as error:
    raise UserError(one_line(error, 400)) from error
