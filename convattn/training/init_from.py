"""The weights that a run starts from where it does not draw them: `init_from`."""

import dataclasses
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from convattn import pretrained
from convattn.errors import UserError
from convattn.fields import all_of, settings_of
from convattn.models import create_model, family_of
from convattn.pretrained.pictures import Preprocessing
from convattn.pretrained.shapes import image_channels, image_size_of
from convattn.training import workdir as files
from convattn.training.checkpoint_folder import newest_verified
from convattn.training.config import Experiment
from convattn.training.restoring import Classifier, restore_classifier
from convattn.training.state import TrainState, sha256
from convattn.training.task import Task
from convattn.training.workdir import differences, shape_difference


@dataclasses.dataclass(frozen=True, eq=False)
class Initial:
  """What `init_from` names.

  Attributes:
    preprocessing: what the weights expect of a picture.
    sha256: of the variables as they lie there, before anything is fitted to the data.
    restored: model, variables and class names (none where the weights come without); None where the run has a
      checkpoint of its own, from which it is continued.
  """

  preprocessing: Preprocessing
  sha256: str
  restored: Classifier | None

  @property
  def identity(self) -> dict[str, Any]:
    """What a workdir keeps of it, as JSON: a run started from other weights does not share it."""
    return {"sha256": self.sha256, "preprocessing": self.preprocessing.as_json()}


def find_initial(experiment: Experiment, workdir: Path) -> Initial | None:
  """Reads the weights that `experiment.init_from` names; None where it names none.

  A run that has a checkpoint of its own does not need them any more: they may be moved, and a change to them goes
  unnoticed. Before its first checkpoint they are read again, and `workdir.check_config` refuses others.

  Raises:
    UserError: nothing is there, or nothing that can be used, or no preprocessing is known; one line.
  """
  if not experiment.init_from:
    return None
  stored = (files.read_json(workdir / files.CONFIG) or {}).get(files.IDENTITY, {}).get("init_from")
  if stored is not None and newest_verified(workdir / files.CHECKPOINTS) is not None:
    return Initial(Preprocessing.from_json(stored["preprocessing"]), stored["sha256"], None)
  restored = _read(experiment.init_from, experiment.model.name)
  return Initial(restored.preprocessing, sha256(restored.variables), restored)


def _read(source: str, name: str) -> Classifier:
  if not source.endswith(".safetensors"):
    return restore_classifier(source)
  path = Path(source).expanduser()
  variables = pretrained.from_timm(name, pretrained.read_safetensors(path))
  num_classes = variables["params"]["classifier"].get("logits", {}).get("bias", np.zeros(0)).shape[0]
  model = create_model(name, num_classes)
  # Channels and size are in the file; the name stands for three, and for the size of its preset.
  preprocessing = pretrained.preprocessing(name).with_channels(image_channels(variables))
  size = image_size_of(variables, model.spec) or preprocessing.image_size
  return Classifier(model, variables, dataclasses.replace(preprocessing, image_size=size), (), None, None, source)


def initial_variables(
  restored: Classifier,
  model: nn.Module,
  task: Task,
  template: TrainState,
  key: jax.Array,
  *,
  adapt_channels: bool = False,
) -> dict[str, Any]:
  """The weights fitted to the run's model and data, as NumPy: {"params"} and the collections of its model_state.

  Bias tables are interpolated to the grids of the data's images (`pretrained.resize`, bilinear). The last dense layer
  is kept if its class names are the data's (where the weights come without names: if the number is), else drawn anew
  from `key`.

  Args:
    restored: the weights.
    model: the run's.
    task: its example inputs have the data's image size; metadata["class_names"] are its classes.
    template: shapes and dtypes of the run's state.
    key: a PRNG key.
    adapt_channels: fit the stem to the images' channels (`pretrained.adapt_channels`).

  Raises:
    UserError: the run's model is another one, or its images have other channels; one line with what differs.
  """
  model = _checked(restored, model)
  height, width, channels = jax.tree.leaves(task.example_inputs)[0].shape[1:]
  variables = restored.variables
  if adapt_channels:
    variables = pretrained.adapt_channels(variables, channels)
  its_channels = image_channels(variables)
  if its_channels != channels:
    raise UserError(
      f"init_from: the weights of {restored.source} are for images of {its_channels} channels, but the data's have "
      f"{channels}; load the data with their preprocessing, or set adapt_channels to true."
    )
  variables = pretrained.resize(restored.model, variables, (height, width), method="bilinear")
  if not _same_classes(restored, task):
    variables = pretrained.replace_head(variables, model, key)
  return as_template(variables, template, f"init_from: the weights of {restored.source}")


def _checked(restored: Classifier, model: nn.Module) -> Any:
  """`model`, if it is the architecture of the weights."""
  if family_of(model) is None:
    raise UserError(f"init_from needs a model of convattn.list_models(), got {type(model).__name__}; set it to ''.")
  differing = architecture_difference(restored.model, model)
  if differing:
    raise UserError(
      f"init_from: the weights of {restored.source} are of another model ({differing}); set model.name and the other "
      "settings of model to theirs."
    )
  return model


def architecture_difference(theirs: Any, ours: Any) -> str:
  """What keeps weights of one model from being another's first ones, but for classes and image size; empty: nothing.

  Both are of one of our families.
  """
  return differences(_comparable(theirs), _comparable(ours))


def _comparable(model: Any) -> dict[str, Any]:
  """The class and the spec's fields that decide what the weights compute."""
  needs = {field.name: field.metadata["weights_need"] for field in settings_of(type(model.spec))}
  values = dataclasses.asdict(model.spec).items()
  return {"class": type(model).__name__} | {name: needs.get(name, all_of)(value) for name, value in values}


def _same_classes(restored: Classifier, task: Task) -> bool:
  if restored.class_names:
    return restored.class_names == tuple(task.metadata.get("class_names", ()))
  return restored.model.num_classes == task.num_classes


def as_template(variables: dict[str, Any], template: TrainState, what: str) -> dict[str, Any]:
  """The first variables of a run as NumPy, in the dtypes of its state.

  Raises:
    UserError: another structure or other shapes than the state's, told of `what`.
  """
  wanted = {"params": template.params, **template.model_state}
  differing = shape_difference(variables, wanted)
  if differing:
    raise UserError(f"{what}: {differing}; are they of this model?")
  return jax.tree.map(lambda like, leaf: np.asarray(leaf, like.dtype), wanted, variables)
