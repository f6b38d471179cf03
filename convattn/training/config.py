"""Every setting of an experiment: its type, its default and its meaning. There is no other place for a default.

A file in `configs/` returns an `Experiment` that names only what differs. `training.run` validates it once; nobody
writes to it afterwards (the classes are frozen).
"""

import dataclasses
import functools
from typing import Any, ClassVar

from convattn.data.broken import CHOICES
from convattn.errors import UserError, nearest
from convattn.fields import (
  COUNT,
  NOT_NEGATIVE,
  PART,
  POSITIVE,
  SHARE,
  Change,
  Range,
  from_to,
  setting,
  settings_of,
  type_hints,
)


def section(kind: type, change: Change = "refused") -> Any:
  """A dataclass field that holds a nested group of settings, with what their `change` is where they do not say."""
  return dataclasses.field(default_factory=kind, metadata={"change": change})


@dataclasses.dataclass(frozen=True)
class Data:
  name: str = setting(
    "digits",
    "data set: 'digits' is embedded; 'folder': pictures in data.dir, a folder per class; or what convattn prepare made",
  )
  dir: str = setting(
    "",
    "where prepared data lies; empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets; of 'folder': what holds "
    "train/CLASS/*.jpg, validation/CLASS/*.jpg and perhaps test/CLASS/*.jpg; or CLASS/*.jpg, of which parts are drawn",
    change="freely",
  )
  classes: str = setting("", "labels to keep, such as '0-4' or '0,3,7', renumbered from 0 in this order; empty: all")
  images_per_class: int = setting(0, "training images to keep of each class; 0: all", NOT_NEGATIVE)
  subset_seed: int = setting(0, "which images those are", NOT_NEGATIVE)
  image_size: int = setting(
    0, "pixels per side that images are resized to; 0: as they come (of many sizes: 224)", NOT_NEGATIVE, largest=2**14
  )
  broken: str = setting(
    "stop",
    "a picture that cannot be read: 'stop', or 'skip' (the next one instead) and count it",
    choices=CHOICES,
    change="freely",
  )
  exif: bool | None = setting(
    None,
    "turn pictures as their EXIF orientation says; None: as the run in workdir was recorded, of a new one those of a "
    "'folder'",
    change="freely",  # what it makes of the pictures is in the description of the data, which must be the same
  )
  workers: int = setting(
    0,
    "processes that decode and augment pictures; 0: this one, in threads",
    NOT_NEGATIVE,
    largest=2**10,
    change="freely",
  )


@dataclasses.dataclass(frozen=True)
class Model:
  """A model's name and what to change in its spec: `Model("coatnet_mini_8", stochastic_depth=0.2)`.

  Its fields are the name and the settings of the spec that the name stands for, read from the spec's class
  (models/spec.py for a CoAtNet) with their meaning and range; None keeps the named model's own value. Another name of
  the same family may be put in by `dataclasses.replace`, one of any family by `renamed`.

  Raises:
    UserError: an override that the spec does not have, with the nearest.
  """

  spec_class: ClassVar[type]
  name: str = setting("coatnet_mini_8", "a name of convattn.list_models()")

  def __new__(cls, name: str | None = None, **overrides: Any) -> "Model":
    kind = model_section(cls.name if name is None else name) if cls is Model else cls
    known = [field.name for field in dataclasses.fields(kind)]
    for unknown in overrides.keys() - known:
      raise UserError(f"there is no setting model.{unknown}; did you mean {' or '.join(nearest(unknown, known))}?")
    return object.__new__(kind)

  @property
  def overrides(self) -> dict[str, Any]:
    """What is changed in the spec."""
    values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "name"}
    return {name: value for name, value in values.items() if value is not None}

  def renamed(self, name: str) -> "Model":
    """The same overrides of another model's spec."""
    return Model(name, **self.overrides)

  def __reduce__(self) -> tuple[Any, ...]:  # its class has no place of its own where pickle would look for it
    return _of_spec, (self.spec_class, vars(self))


def model_section(name: str) -> type[Model]:
  """The class of the settings of a named model; of a CoAtNet for a name that there is not, which is refused later."""
  from convattn.models import Spec, family_named  # not before it is needed: they import jax

  family = family_named(name)
  spec: Any = Spec if family is None else family.spec
  return _model_section(spec)


@functools.cache
def _model_section(spec: type) -> type[Model]:
  overrides = [
    (field.name, type_hints(spec)[field.name] | None, dataclasses.field(default=None, metadata=field.metadata))
    for field in settings_of(spec)
  ]
  return dataclasses.make_dataclass(
    "Model",
    overrides,
    bases=(Model,),
    frozen=True,
    namespace={"__module__": __name__, "__doc__": Model.__doc__, "spec_class": spec},
  )


def _of_spec(spec: type, values: dict[str, Any]) -> Model:
  return _model_section(spec)(**values)


@dataclasses.dataclass(frozen=True)
class Augmentation:
  crop_padding: int = setting(
    0, "pixels of zero padding before a random crop back to size; 0: no crop", NOT_NEGATIVE, largest=2**10
  )
  flip: bool = setting(False, "mirror half of the images left to right")
  color_jitter: float = setting(
    0.0, "brightness, contrast, saturation times 1 - this to 1 + this, each; 0: as it is", from_to(0, 1)
  )
  erasing: float = setting(0.0, "share of the images in which a rectangle becomes noise; 0: none", from_to(0, 1))
  mixup_alpha: float = setting(0.0, "mixing weight ~ Beta(alpha, alpha), one per batch; 0: no mixup", NOT_NEGATIVE)
  cutmix_alpha: float = setting(
    0.0, "so for rectangles pasted in; 0: no cutmix; with mixup a batch takes one of them", NOT_NEGATIVE
  )
  resized_crop_area: float = setting(
    1.0, "least share of a picture's area in a random resized crop; 1: no such crop", PART
  )
  randaugment_layers: int = setting(
    0, "random operations on each picture, one after another; 0: no RandAugment", NOT_NEGATIVE, largest=2**6
  )
  randaugment_magnitude: float = setting(
    15.0, "strength of each of them, 0 to 30 (CoAtNet: 2 layers of 15)", from_to(0, 30)
  )


@dataclasses.dataclass(frozen=True)
class Loss:
  kind: str = setting(
    "softmax",
    "'softmax' cross-entropy, or 'sigmoid' (one binary cross-entropy per class, summed)",
    choices=("softmax", "sigmoid"),
  )
  label_smoothing: float = setting(0.0, "share of the target that is spread evenly over all classes", SHARE)


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """AdamW with global-norm clipping; norms, biases, bias tables and the networks that make them are not decayed."""

  peak_learning_rate: float = setting(1e-3, "learning rate at the end of the warm-up", POSITIVE)
  end_learning_rate: float = setting(
    1e-5, "learning rate at num_steps, one past the last update ('constant': unused)", NOT_NEGATIVE
  )
  warmup_steps: int = setting(0, "steps of linear rise from 0 to the peak", NOT_NEGATIVE)
  schedule: str = setting(
    "cosine", "after the warm-up: 'cosine', 'linear' or 'constant'", choices=("cosine", "linear", "constant")
  )
  weight_decay: float = setting(0.05, "decoupled decay, times the learning rate", NOT_NEGATIVE)
  beta1: float = setting(0.9, "decay of the gradient's mean", SHARE)
  beta2: float = setting(0.999, "decay of the gradient's second moment", SHARE)
  epsilon: float = setting(1e-8, "added to the root of the second moment", POSITIVE)
  clip_norm: float = setting(1.0, "largest global norm of a gradient; 0: no clipping", NOT_NEGATIVE)
  freeze: str = setting(
    "",
    "parts that stay as they are, by path or pattern, such as 'stem,stage_[12]/*,stage_3/block_0'; empty: none",
    change="refused",  # what was frozen has no moments to go on with
  )
  layer_decay: float = setting(1.0, "learning rate times this per block between a layer and the classifier", PART)


@dataclasses.dataclass(frozen=True)
class Compute:
  dtype: str = setting(
    "float32", "computation: 'float32' or 'bfloat16'; parameters stay float32", choices=("float32", "bfloat16")
  )
  matmul_precision: str = setting(
    "default", "of float32 products: 'default', 'high' or 'highest'", choices=("default", "high", "highest")
  )
  remat: str = setting(
    "none",
    "recompute in the backward pass: 'none', 'block' (all but block inputs) or 'dots' (nor dense outputs)",
    choices=("none", "block", "dots"),
  )
  fsdp: int = setting(
    1, "devices that share one copy of parameters, averages and moments; divides their number", COUNT, change="freely"
  )
  debug_nans: bool = setting(
    False, "stop at the operation that makes a nan (slow; with max_skipped_steps 0)", change="freely"
  )
  deterministic: bool = setting(False, "ask XLA for reproducible kernels on a GPU (slower)")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  every: int = setting(
    100, "steps between checkpoints, a multiple of eval_every or a part of it; the last is always saved", COUNT
  )
  keep_newest: int = setting(2, "newest checkpoints to keep", COUNT)
  keep_best: int = setting(1, "best checkpoints to keep as well, by the score that the task ranks by", NOT_NEGATIVE)
  keep_every: int = setting(
    0,
    "keep every so manieth checkpoint for good: those of the steps that this times every divides; 0: none",
    NOT_NEGATIVE,
  )


@dataclasses.dataclass(frozen=True)
class Experiment:
  seed: int = setting(
    0,
    "initial parameters, dropout, augmentation and data order are functions of it and the step",
    Range("at least 0 and below 2**32", lambda value: 0 <= value < 2**32),
    largest=2**32 - 1,
  )
  num_steps: int = setting(1000, "updates to apply", COUNT, change="continued")
  batch_size: int = setting(64, "images per update, over all devices", COUNT, largest=2**20, change="continued")
  eval_batch_size: int = setting(
    128, "images per evaluation batch, over all devices", COUNT, largest=2**20, change="freely"
  )
  micro_batches: int = setting(
    1,
    "equal parts of a batch, one after another, gradients averaged; BatchNorm sees one part at a time",
    COUNT,
    change="continued",
  )
  log_every: int = setting(
    10, "steps between lines of training metrics; each line averages the steps since the last", COUNT, change="freely"
  )
  eval_every: int = setting(100, "steps between validations; the last step is always validated", COUNT, change="freely")
  ema_decay: float = setting(
    0.0, "decay of the running average of parameters and batch statistics; 0: none", SHARE, change="continued"
  )
  ema_warmup: bool = setting(
    False,
    "let that decay grow, (n - 1) / (n + 8) after n updates but no more: a short run's average follows faster",
    change="continued",
  )
  max_skipped_steps: int = setting(
    0,
    "updates with a loss or gradient that is not finite to leave out before the run stops; 0: it stops at the first",
    NOT_NEGATIVE,
    change="freely",
  )
  wandb_project: str = setting(
    "", "project at Weights & Biases that gets the metrics too; empty: none", change="freely"
  )
  init_from: str = setting(
    "", "first weights: a run's workdir, a checkpoint, a timm tag or a .safetensors file for model.name; empty: drawn"
  )
  adapt_channels: bool = setting(
    False, "images keep their channels, and the stem of init_from's weights is fitted to them: summed or repeated"
  )
  explore: int = setting(
    12,
    "test images in explore.html, the page of what the model looks at that the command writes at the end, where a page "
    "has room for so many; 0: no page",
    NOT_NEGATIVE,
    change="freely",
  )
  data: Data = section(Data)
  model: Model = section(Model)
  augmentation: Augmentation = section(Augmentation, "continued")
  loss: Loss = section(Loss, "continued")
  optimizer: Optimizer = section(Optimizer, "continued")
  compute: Compute = section(Compute, "continued")
  checkpoint: Checkpoint = section(Checkpoint, "freely")
