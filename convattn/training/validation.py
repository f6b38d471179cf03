"""What an experiment may say. Names of models and data sets, and the model's own fields, are checked by their rooms."""

import dataclasses
import difflib
import importlib.util
import math
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

from convattn.errors import UserError
from convattn.training.config import Experiment

CHOICES: dict[str, tuple[str, ...]] = {
  "data.broken": ("stop", "skip"),
  "loss.kind": ("softmax", "sigmoid"),
  "optimizer.schedule": ("cosine", "linear", "constant"),
  "compute.dtype": ("float32", "bfloat16"),
  "compute.matmul_precision": ("default", "high", "highest"),
  "compute.remat": ("none", "block", "dots"),
}
"""The values of each setting that is one of a few words."""

_POSITIVE = ("above 0", lambda value: value > 0)
_COUNT = ("at least 1", lambda value: value >= 1)
_NOT_NEGATIVE = ("at least 0", lambda value: value >= 0)
_SHARE = ("at least 0 and below 1", lambda value: 0 <= value < 1)

_RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
  "seed": ("at least 0 and below 2**32", lambda value: 0 <= value < 2**32),
  "data.images_per_class": _NOT_NEGATIVE,
  "data.subset_seed": _NOT_NEGATIVE,
  "data.image_size": _NOT_NEGATIVE,
  "data.workers": _NOT_NEGATIVE,
  "num_steps": _COUNT,
  "batch_size": _COUNT,
  "eval_batch_size": _COUNT,
  "micro_batches": _COUNT,
  "log_every": _COUNT,
  "eval_every": _COUNT,
  "ema_decay": _SHARE,
  "max_skipped_steps": _NOT_NEGATIVE,
  "model.stochastic_depth": _SHARE,
  "model.head_size": _COUNT,
  "model.conv_expansion": _COUNT,
  "model.conv_norm_epsilon": _POSITIVE,
  "model.conv_layer_scale": _NOT_NEGATIVE,
  "model.squeeze_ratio": _POSITIVE,
  "model.relative_hidden": _COUNT,
  "model.relative_dropout": _SHARE,
  "model.attention_expansion": _COUNT,
  "model.attention_norm_epsilon": _POSITIVE,
  "model.attention_layer_scale": _NOT_NEGATIVE,
  "augmentation.crop_padding": _NOT_NEGATIVE,
  "augmentation.color_jitter": ("from 0 to 1", lambda value: 0 <= value <= 1),
  "augmentation.mixup_alpha": _NOT_NEGATIVE,
  "augmentation.cutmix_alpha": _NOT_NEGATIVE,
  "augmentation.resized_crop_area": ("above 0 and at most 1", lambda value: 0 < value <= 1),
  "augmentation.randaugment_layers": _NOT_NEGATIVE,
  "augmentation.randaugment_magnitude": ("from 0 to 30", lambda value: 0 <= value <= 30),
  "loss.label_smoothing": _SHARE,
  "optimizer.peak_learning_rate": _POSITIVE,
  "optimizer.end_learning_rate": _NOT_NEGATIVE,
  "optimizer.warmup_steps": _NOT_NEGATIVE,
  "optimizer.weight_decay": _NOT_NEGATIVE,
  "optimizer.beta1": _SHARE,
  "optimizer.beta2": _SHARE,
  "optimizer.epsilon": _POSITIVE,
  "optimizer.clip_norm": _NOT_NEGATIVE,
  "optimizer.layer_decay": ("above 0 and at most 1", lambda value: 0 < value <= 1),
  "compute.fsdp": _COUNT,
  "checkpoint.every": _COUNT,
  "checkpoint.keep_newest": _COUNT,
  "checkpoint.keep_best": _NOT_NEGATIVE,
}

_LARGEST = {
  "seed": 2**32 - 1,
  "data.image_size": 2**14,
  "data.workers": 2**10,
  "batch_size": 2**20,
  "eval_batch_size": 2**20,
  "augmentation.crop_padding": 2**10,
  "augmentation.randaugment_layers": 2**6,
  **dict.fromkeys(("model.head_size", "model.relative_hidden"), 2**16),
  **dict.fromkeys(("model.conv_expansion", "model.attention_expansion"), 2**10),
}
"""Whole numbers above these are typing errors that would end in a lack of memory; steps are counted in int32."""
_INT32 = 2**31 - 1
_SMALLEST_REAL, _LARGEST_REAL = 1.2e-38, 3.4e38
"""Of float32, in which all is computed: beyond them it holds 0 and infinity."""


def settings(experiment: Experiment) -> Iterator[tuple[str, Any, Any]]:
  """(dotted name, declared type, value) of every setting, sections opened.

  Raises:
    UserError: something else in the place of a section.
  """

  def walk(node: Any, prefix: str) -> Iterator[tuple[str, Any, Any]]:
    kinds = typing.get_type_hints(type(node))
    for field in dataclasses.fields(node):
      value, kind = getattr(node, field.name), kinds[field.name]
      is_section = dataclasses.is_dataclass(kind)
      if is_section:
        if not isinstance(value, kind):
          raise UserError(f"{field.name} must be {kind.__name__}(...), a group of settings, got {value!r}.")
        yield from walk(value, f"{prefix}{field.name}.")
      else:
        yield f"{prefix}{field.name}", kind, value

  return walk(experiment, "")


def validate(experiment: Experiment) -> None:
  """Checks every setting by itself and those that must fit each other.

  Raises:
    UserError: one line with the setting, the value given and the value wanted.
  """
  for name, kind, value in settings(experiment):
    if not _has_type(value, kind):
      raise UserError(f"{name} must be {describe_kind(name, kind)}, got {value!r}.")
    if name in CHOICES and value not in CHOICES[name]:
      nearest = difflib.get_close_matches(value, CHOICES[name], n=1)
      hint = f"; did you mean {nearest[0]!r}?" if nearest else "."
      raise UserError(f"{name} must be one of {', '.join(map(repr, CHOICES[name]))}, got {value!r}{hint}")
    if name in _RANGES and value is not None:
      wanted, fits = _RANGES[name]
      if not fits(value):
        raise UserError(f"{name} must be {wanted}, got {value!r}.")
    _check_size(name, kind, value)
  _check_together(experiment)


def _check_size(name: str, kind: Any, value: Any) -> None:
  if type(value) is int and float not in _kinds(kind) and value > _LARGEST.get(name, _INT32):
    raise UserError(f"{name} must be at most {_LARGEST.get(name, _INT32)}, got {value}.")
  if value and float in _kinds(kind) and not _SMALLEST_REAL <= abs(value) <= _LARGEST_REAL:
    raise UserError(
      f"{name} must be 0 or {_SMALLEST_REAL} to {_LARGEST_REAL} in size, as float32 can hold it, got {value}."
    )


def _check_together(experiment: Experiment) -> None:
  if experiment.optimizer.warmup_steps >= experiment.num_steps:
    raise UserError(
      f"optimizer.warmup_steps must be below num_steps ({experiment.num_steps}), so that the peak learning rate is "
      f"reached, got {experiment.optimizer.warmup_steps}."
    )
  if experiment.wandb_project and not importlib.util.find_spec("wandb"):
    raise UserError(
      f"wandb_project is {experiment.wandb_project!r}, but Weights & Biases is not installed; pip install wandb."
    )
  every, eval_every = experiment.checkpoint.every, experiment.eval_every
  if experiment.checkpoint.keep_best and every % eval_every and eval_every % every:
    raise UserError(
      f"checkpoint.every must be a multiple of eval_every ({eval_every}) or divide it, so that some can be ranked, got "
      f"{every}; change one of them or set checkpoint.keep_best to 0."
    )
  if experiment.compute.debug_nans and experiment.max_skipped_steps:
    raise UserError(
      f"compute.debug_nans stops at the first nan, which max_skipped_steps={experiment.max_skipped_steps} would leave "
      "out; set that to 0."
    )


def _kinds(kind: Any) -> tuple[Any, ...]:
  return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


def _has_type(value: Any, kind: Any) -> bool:
  if float in _kinds(kind) and type(value) in (int, float):  # an int will do for a float
    return type(value) is int or math.isfinite(value)
  return type(value) in _kinds(kind)  # bool is an int to isinstance


_WORDS = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a string"}
"""How each declared type is named to a user."""


def describe_kind(name: str, kind: Any) -> str:
  """What a setting of this name and type takes, in words: its choices if it has some, else its type."""
  kinds = _kinds(kind)
  words = [_WORDS[each] for each in kinds if each is not type(None)]
  if name in CHOICES:
    words = [", ".join(map(repr, CHOICES[name]))]
  return " or ".join(words + ["None"] * (type(None) in kinds))


def validate_batch_sizes(experiment: Experiment, num_devices: int) -> None:
  """Each batch is split evenly over the devices; one to train on, over the micro-batches too.

  Raises:
    UserError: one line with the setting, its value and the nearest ones that fit.
  """
  parts = experiment.micro_batches
  for name, factor in (("batch_size", num_devices * parts), ("eval_batch_size", num_devices)):
    size = getattr(experiment, name)
    if size % factor:
      below, above = size // factor * factor, (size // factor + 1) * factor
      nearest = f"{below} or {above}" if below else f"{above}"
      product = f" times {parts} micro_batches" if factor != num_devices else ""
      raise UserError(f"{name} must be a multiple of the {num_devices} devices{product}, got {size}; try {nearest}.")
