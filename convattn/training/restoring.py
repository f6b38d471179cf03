"""A trained classifier, ready to use, from what a run left on the disk or from released weights."""

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
from convattn.models import FAMILIES, family_of
from convattn.pretrained.pictures import Preprocessing
from convattn.pretrained.tags import find_tags
from convattn.training import workdir as files
from convattn.training.checkpoint_files import check_files, read_description, read_weights
from convattn.training.checkpoint_folder import newest_verified, step_folders
from convattn.training.config import Experiment
from convattn.training.description import TASK_PASSED, model_from_description
from convattn.training.differences import shape_difference
from convattn.training.manifest import MANIFEST


@dataclasses.dataclass(frozen=True, eq=False)
class Restored:
  """A model with trained variables and all that it takes to use them.

  Attributes:
    model: called as `model.apply(variables, images, train=False)`: a CoAtNet, or the module given to `restore`.
    variables: {"params"} and, with BatchNorm, {"batch_stats"}.
    preprocessing: makes a picture of any size an input of the model.
    class_names: the name of each logit.
    experiment: the settings of the run; None for released weights. Settings that its version of convattn had and this
      one has not are left out, new ones have their defaults.
    step: updates applied; None for released weights.
    source: the checkpoint's folder, or the tag.
    averaged: the variables are the run's averaged ones.
    task_passed: the run's task was passed to it in Python, so that `experiment` does not name its data.
  """

  model: Any
  variables: dict[str, Any]
  preprocessing: Preprocessing
  class_names: tuple[str, ...]
  experiment: Experiment | None
  step: int | None
  source: str
  averaged: bool = False
  task_passed: bool = False


def restore(source: str | os.PathLike[str], *, model: nn.Module | None = None) -> Restored:
  """The classifier that lies at `source`, its variables on the default device.

  Of a run it is the newest checkpoint whose files are as its manifest says, with the averaged weights where the run
  keeps them; each damaged one that is newer is named on stderr. How many devices the run had does not matter, and its
  optimizer is not read. Nothing on the disk is changed.

  Args:
    source: a run's workdir, its `checkpoints` folder, the folder of one checkpoint, or a tag of released weights such
      as "coatnet_0_rw_224.sw_in1k" (see `pretrained.load`). What exists on the disk is never taken for a tag.
    model: the module that a run was given by `training.run(..., model=...)` where that is no CoAtNet, which alone can
      be rebuilt from a checkpoint.

  Raises:
    ValueError: nothing is there, no checkpoint yet, a damaged one, one of no image classifier, an unknown tag, or a
      `model` that is missing, superfluous, or of other variables; one line. For a tag also whatever `pretrained.load`
      raises.
  """
  _check_is_module(model)
  text = os.fspath(source)
  path = Path(text).expanduser()
  if not path.exists() and _looks_like_tag(text):
    if model is not None:
      raise ValueError(f"{text!r} is a tag, whose model is known; leave model out, or name a run's workdir.")
    return _released(text)
  return _from_checkpoint(_checkpoint_folder(path), model)


def _check_is_module(model: Any) -> None:
  if model is not None and not isinstance(model, nn.Module):
    name = getattr(model, "__name__", "MyModule")
    raise ValueError(f"model must be a linen module, got {type(model).__name__}; make one, such as {name}().")


def _looks_like_tag(text: str) -> bool:
  return bool(text) and not any(separator in text for separator in ("/", os.sep, "~"))


def _released(tag: str) -> Restored:
  try:
    find_tags(tag)
  except ValueError as error:  # it may have been meant as a folder
    raise ValueError(f"there is no folder {tag!r}, and {error}") from error
  model, variables, preprocessing = pretrained.load(tag)
  names = pretrained.class_names(tag)
  if len(names) != model.num_classes:
    raise ValueError(
      f"the weights found for {tag!r} have {model.num_classes} classes, but those of that tag have {len(names)}; "
      f"fetch its own, or load these with convattn.pretrained.from_timm."
    )
  return Restored(model, variables, preprocessing, names, None, None, tag)


def _checkpoint_folder(path: Path) -> Path:
  """The folder of one checkpoint: `path` itself, or the newest in it."""
  if not path.is_dir():
    if path.suffix == ".safetensors":
      raise ValueError(
        f"{path} is a file of weights, which says neither its model nor its classes; load it with "
        "convattn.pretrained.from_timm, or train from it with --config.init_from."
      )
    found = f"{path} is no folder" if path.exists() else f"there is no folder {path}"
    raise ValueError(f"{found}; name a run's workdir, one of its checkpoints, or a tag of released weights.")
  if any((path / name).exists() for name in ("state", "description", MANIFEST)):
    check_files(path)
    return path
  folder = path / files.CHECKPOINTS
  folder = folder if folder.is_dir() else path
  newest = newest_verified(folder, show=True)
  if newest is None:
    found = "no checkpoint but damaged ones" if step_folders(folder) else "no checkpoint"
    raise ValueError(f"{path} holds {found}; name a run's workdir that has one, or a tag of released weights.")
  return newest


def _from_checkpoint(folder: Path, given: nn.Module | None) -> Restored:
  description = read_description(folder)
  model = _model(folder, description["model"], given)
  for name in ("class_names", "image_shape", "mean", "std"):
    if name not in description:
      raise ValueError(f"{folder} is a checkpoint of no image classifier (its metadata has no {name}); name another.")
  state = read_weights(folder)
  weights = state["ema"] or {"params": state["params"], "model_state": state["model_state"]}
  restored = Restored(
    model=model,
    variables={"params": weights["params"], **weights["model_state"]},
    preprocessing=_preprocessing(description),
    class_names=tuple(map(str, description["class_names"])),
    experiment=files.experiment_from_json(description["experiment"]),
    step=int(state["step"]),
    source=str(folder),
    averaged=bool(state["ema"]),
    task_passed=description.get(TASK_PASSED) is True,
  )
  _check(restored)
  return restored


def _model(folder: Path, description: dict[str, Any], given: nn.Module | None) -> nn.Module:
  """The model of the description; where that is of no family, the module that was given."""
  kind = description.get("class")
  if kind in FAMILIES and given is not None:
    raise ValueError(
      f"the checkpoint {folder} holds a {FAMILIES[kind].module.__name__}, which is rebuilt from it; leave model out."
    )
  if given is not None:
    return given
  if kind is not None and kind not in FAMILIES:
    raise ValueError(
      f"the checkpoint {folder} holds a model of class {kind!r}, which its description does not rebuild; make that one "
      f"yourself: training.restore({str(folder)!r}, model=...)."
    )
  try:
    return model_from_description(description)
  except (TypeError, KeyError, ValueError) as error:
    reason = " ".join(str(error).split())
    raise ValueError(f"the model of the checkpoint {folder} cannot be rebuilt: {reason}") from error


def _preprocessing(description: dict[str, Any]) -> Preprocessing:
  if "preprocessing" in description:
    return Preprocessing.from_json(description["preprocessing"])
  # Checkpoints of the first version: images came as they were.
  height, width, _ = description["image_shape"]
  return Preprocessing((height, width), tuple(description["mean"]), tuple(description["std"]))


def _check(restored: Restored) -> None:
  image_shape = (*restored.preprocessing.image_size, len(restored.preprocessing.mean))
  if family_of(restored.model) is None:
    _check_given(restored, image_shape)
  try:
    logits = output_shape(restored, image_shape)
  except ValueError as error:
    raise ValueError(f"the weights of the checkpoint {restored.source} do not fit its model: {error}") from error
  if logits != (1, len(restored.class_names)):
    raise ValueError(
      f"{restored.source} is a checkpoint of no image classifier (outputs {list(logits)}, {len(restored.class_names)} "
      f"class names); name another."
    )


def _check_given(restored: Restored, image_shape: tuple[int, int, int]) -> None:
  """Its own variables must be those of the checkpoint, of which apply would ignore what it does not use."""
  images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  try:
    made = jax.eval_shape(lambda x: restored.model.init(jax.random.key(0), x, train=False), images)
    differing = shape_difference(restored.variables, {name: made.get(name, {}) for name in restored.variables})
  except (flax.errors.FlaxError, AssertionError, TypeError, ValueError) as error:
    differing = " ".join(str(error).split())[:400]
  if differing:
    raise ValueError(
      f"the weights of the checkpoint {restored.source} do not fit the model that was given, "
      f"{type(restored.model).__name__}: {differing}; give the one that was trained."
    )


def output_shape(restored: Restored, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
  """The shape of the logits of one image [height, width, channels]. Traces the model; computes nothing.

  Raises:
    ValueError: the variables do not fit the model, or not with images of that size; one line.
  """
  images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  try:
    logits = jax.eval_shape(lambda v, x: restored.model.apply(v, x, train=False), restored.variables, images)
  except (flax.errors.FlaxError, AssertionError, ValueError) as error:
    raise ValueError(" ".join(str(error).split())[:400]) from error
  return tuple(logits.shape)
