"""A trained classifier, ready to use, from what a run left on the disk or from released weights."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

from convattn import pretrained
from convattn.models import CoAtNet
from convattn.pretrained.pictures import Preprocessing
from convattn.pretrained.tags import find_tags
from convattn.training import workdir as files
from convattn.training.config import Experiment
from convattn.training.description import model_from_description


@dataclasses.dataclass(frozen=True, eq=False)
class Restored:
  """A model with trained variables and all that it takes to use them.

  Attributes:
    model: called as `model.apply(variables, images, train=False)`.
    variables: {"params"} and, with BatchNorm, {"batch_stats"}.
    preprocessing: makes a picture of any size an input of the model.
    class_names: the name of each logit.
    experiment: the settings of the run; None for released weights. Settings that its version of convattn had and this
      one has not are left out, new ones have their defaults.
    step: updates applied; None for released weights.
    source: the checkpoint's folder, or the tag.
    averaged: the variables are the run's averaged ones.
  """

  model: CoAtNet
  variables: dict[str, Any]
  preprocessing: Preprocessing
  class_names: tuple[str, ...]
  experiment: Experiment | None
  step: int | None
  source: str
  averaged: bool = False


def restore(source: str | os.PathLike[str]) -> Restored:
  """The classifier that lies at `source`, its variables on the default device.

  Of a run it is the newest checkpoint, with the averaged weights where the run keeps them. How many devices the run
  had does not matter, and its optimizer is not read.

  Args:
    source: a run's workdir, its `checkpoints` folder, the folder of one checkpoint, or a tag of released weights such
      as "coatnet_0_rw_224.sw_in1k" (see `pretrained.load`). What exists on the disk is never taken for a tag.

  Raises:
    ValueError: nothing is there, no checkpoint yet, a damaged one, one of another kind of model, or an unknown tag;
      one line. For a tag also whatever `pretrained.load` raises.
  """
  text = os.fspath(source)
  path = Path(text).expanduser()
  if not path.exists() and _looks_like_tag(text):
    return _released(text)
  return _from_checkpoint(_checkpoint_folder(path))


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
  if (path / "state").is_dir() or (path / "description").is_dir():
    return path
  folder = path / files.CHECKPOINTS
  folder = folder if folder.is_dir() else path
  # What a killed run did not finish has a longer name.
  steps = [child for child in folder.iterdir() if child.is_dir() and child.name.isdecimal()]
  if not steps:
    raise ValueError(f"{path} holds no checkpoint; name a run's workdir that has one, or a tag of released weights.")
  return max(steps, key=lambda child: int(child.name))


def _from_checkpoint(folder: Path) -> Restored:
  description = _read_description(folder)
  model = _rebuilt(folder, description)
  for name in ("class_names", "image_shape", "mean", "std"):
    if name not in description:
      raise ValueError(f"{folder} is a checkpoint of no image classifier (its metadata has no {name}); name another.")
  state = _read_weights(folder)
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
  )
  _check(restored)
  return restored


_DAMAGE = (ValueError, KeyError, OSError)
"""What Orbax and TensorStore raise on broken and missing files."""


def _damaged(folder: Path, error: Exception) -> ValueError:
  reason = " ".join(str(error).split())[:200]
  return ValueError(
    f"the checkpoint {folder} is damaged ({type(error).__name__}: {reason}); name another, such as the one before it."
  )


def _read_description(folder: Path) -> dict[str, Any]:
  try:
    description = ocp.JsonCheckpointHandler().restore(folder.absolute() / "description", args=ocp.args.JsonRestore())
    if not (isinstance(description, dict) and {"model", "experiment"} <= set(description)):
      raise ValueError("its description has no model or no experiment")
  except _DAMAGE as error:
    raise _damaged(folder, error) from error
  return description


def _read_weights(folder: Path) -> dict[str, Any]:
  """{"step", "ema", "params", "model_state"} on the default device; the latter two are {} where there are averages."""
  path, handler = folder.absolute() / "state", ocp.PyTreeCheckpointHandler()
  try:
    names = _readable_parts(path)
    saved = handler.metadata(path).tree
    wanted = {name: saved[name] for name in names}
    # As NumPy: the shardings that were saved speak of devices that may not be here.
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    state = handler.restore(path, args=ocp.args.PyTreeRestore(wanted, restore_args=as_numpy, partial_restore=True))
  except _DAMAGE as error:
    raise _damaged(folder, error) from error
  return {"ema": {}, "params": {}, "model_state": {}, **jax.tree.map(jnp.asarray, state)}


def _readable_parts(path: Path) -> tuple[str, ...]:
  """The parts of the state to restore, after the bytes of each of their arrays have been read once.

  Orbax reads all arrays at once; when one fails, those on their way print tracebacks from other threads.
  """
  store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{path}/"}).result()
  keys = [key.decode() for key in store.list().result()]
  averaged = any(key.startswith("ema.") for key in keys)
  names = ("step", "ema") if averaged else ("step", "params", "model_state")
  wanted = [key for key in keys if re.split(r"[./]", key)[0] in names or key.endswith((".zarray", "zarr.json"))]
  for key, reading in [(key, store.read(key)) for key in wanted]:
    if not reading.result().value:  # so TensorStore gives what lay in a file that is gone
      raise ValueError(f"the bytes of {key} are missing")
  return names


def _rebuilt(folder: Path, description: dict[str, Any]) -> CoAtNet:
  fields = {**description["model"]}
  spec = dict(fields.get("spec", {}))
  if "activation" in spec:  # one for all, before there were two
    spec["conv_activation"] = spec["attention_activation"] = spec.pop("activation")
    fields["spec"] = spec
  try:
    return model_from_description(fields)
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
  height, width = restored.preprocessing.image_size
  try:
    logits = output_shape(restored, (height, width, len(restored.preprocessing.mean)))
  except ValueError as error:
    raise ValueError(f"the weights of the checkpoint {restored.source} do not fit its model: {error}") from error
  if logits != (1, len(restored.class_names)):
    raise ValueError(
      f"{restored.source} is a checkpoint of no image classifier (outputs {list(logits)}, {len(restored.class_names)} "
      f"class names); name another."
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
