"""What an experiment may say, read from its fields. Names of models and data sets are checked by their rooms."""

import dataclasses
import importlib.util
from collections.abc import Iterator
from typing import Any

from convattn.errors import UserError, nearest
from convattn.fields import misfit, type_hints
from convattn.training.config import Experiment, model_section


def settings(experiment: Experiment) -> Iterator[tuple[str, Any, Any]]:
  """(dotted name, declared type, value) of every setting, sections opened.

  Raises:
    UserError: something else in the place of a section.
  """
  return ((name, kind, value) for name, _, kind, value in fields(experiment))


def fields(experiment: Experiment) -> Iterator[tuple[str, dataclasses.Field, Any, Any]]:
  """(dotted name, field, declared type, value), as `settings`."""

  def walk(node: Any, prefix: str) -> Iterator[tuple[str, dataclasses.Field, Any, Any]]:
    kinds = type_hints(type(node))
    for field in dataclasses.fields(node):
      value, kind = getattr(node, field.name), kinds[field.name]
      is_section = dataclasses.is_dataclass(kind)
      if is_section:
        if not isinstance(value, kind):
          raise UserError(f"{field.name} must be {kind.__name__}(...), a group of settings, got {value!r}.")
        yield from walk(value, f"{prefix}{field.name}.")
      else:
        yield f"{prefix}{field.name}", field, kind, value

  return walk(experiment, "")


def validate(experiment: Experiment) -> None:
  """Checks every setting by itself and those that must fit each other.

  Raises:
    UserError: one line with the setting, the value given and the value wanted.
  """
  for name, field, kind, value in fields(experiment):
    wanted = misfit(field, kind, value)
    if wanted:
      words = field.metadata["choices"] if isinstance(value, str) else ()
      meant = f"; did you mean {nearest(value, words)[0]!r}?" if words else "."
      raise UserError(f"{name} must be {wanted}, got {value!r}{meant}")
  model = experiment.model
  if type(model) is not model_section(model.name):
    raise UserError(f"model.name is {model.name!r}, whose settings are others; write Model({model.name!r}).")
  _check_together(experiment)


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
