"""Settings as a whole: all of them by name, from text, checked, and described for --help.

Names of models and data sets are checked by their rooms.
"""

import dataclasses
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from convattn.errors import UserError, nearest
from convattn.fields import Change, kinds as kinds_of, misfit, real_number, type_hints, wanted, whole_number
from convattn.training.config import Experiment, Model, model_section


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


def changing(experiment: Experiment) -> dict[str, Change]:
  """{dotted name: whether a run that has begun may go on with another value} of every setting."""
  groups = {field.name: field.metadata["change"] for field in dataclasses.fields(experiment)}
  return {
    name: field.metadata["change"] or groups[name.partition(".")[0]] or "refused"
    for name, field, _, _ in fields(experiment)
  }


def validate(experiment: Experiment) -> None:
  """Checks every setting by itself and those that must fit each other.

  Raises:
    UserError: one line with the setting, the value given and the value wanted.
  """
  for name, field, kind, value in fields(experiment):
    problem = misfit(field, kind, value)
    if problem:
      words = field.metadata["choices"] if isinstance(value, str) else ()
      alike = nearest(value, words) if words else []
      meant = f"; did you mean {alike[0]!r}?" if 0 < len(alike) < len(words) else "."
      raise UserError(f"{name} must be {problem}, got {value!r}{meant}")
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
  if experiment.ema_warmup and not experiment.ema_decay:
    raise UserError("ema_warmup lets ema_decay grow, which is 0: no average; set that too, such as to 0.9999.")
  if experiment.adapt_channels and not experiment.init_from:
    raise UserError("adapt_channels is about the weights of init_from, which is ''; name some, or set it to false.")
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


def apply_overrides(experiment: Experiment, overrides: Iterable[tuple[str, str]]) -> Experiment:
  """The experiment with some settings replaced.

  Args:
    experiment: where to start.
    overrides: (dotted name, text) such as ("optimizer.beta1", "0.95"); see `parse_value` for the text. Of a name that
      is given more than once the last text counts.

  Raises:
    UserError: an unknown name, with the nearest ones; a section; a text of the wrong type.
  """
  for name, text in _model_first(overrides):
    known = {each: (field, kind) for each, field, kind, _ in fields(experiment)}
    if name not in known:
      raise UserError(_unknown(name, known))
    experiment = _replaced(experiment, name.split("."), parse_value(name, *known[name], text))
  return experiment


def with_values(experiment: Experiment, values: Mapping[str, Any]) -> Experiment:
  """The experiment with some settings replaced by values, {dotted name: value}, which `validate` has yet to check.

  Raises:
    UserError: an unknown name, with the nearest ones; or a section.
  """
  for name, value in _model_first(values.items()):
    known = [each for each, _, _ in settings(experiment)]
    if name not in known:
      raise UserError(_unknown(name, known))
    experiment = _replaced(experiment, name.split("."), value)
  return experiment


def _model_first(pairs: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
  """The pairs with model.name in front: which settings there are, goes by it."""
  return sorted(pairs, key=lambda each: each[0] != "model.name")


def _replaced(node: Any, path: list[str], value: Any) -> Any:
  head, *rest = path
  if isinstance(node, Model) and head == "name":
    return node.renamed(value)
  return dataclasses.replace(node, **{head: _replaced(getattr(node, head), rest, value) if rest else value})


def _unknown(name: str, known: Iterable[str]) -> str:
  inside = [each for each in known if each.startswith(f"{name}.")]
  if inside:
    return f"{name} is a group of settings; give one of {', '.join(inside)}."
  return f"there is no setting {name!r}; did you mean {' or '.join(nearest(name, known))}?"


def parse_value(name: str, field: dataclasses.Field, kind: Any, text: str) -> Any:
  """The value of type `kind` that `text` writes for a setting.

  bool: true or false. int: a whole number, not 1.0. float: any finite number. str: the text as it is. X | None: None
  (with a capital N, since 'none' is a word that some settings take), or whatever X takes.

  Raises:
    UserError: one line with the setting's name, the text and the type it must have.
  """
  kinds = kinds_of(kind)
  if type(None) in kinds and text == "None":
    return None
  (plain,) = (each for each in kinds if each is not type(None))
  try:
    return _PARSERS[plain](text)
  except ValueError:
    raise UserError(f"{name} must be {wanted(field, kind)}, got {text!r}.") from None


def _parse_bool(text: str) -> bool:
  if text.lower() not in ("true", "false"):
    raise ValueError
  return text.lower() == "true"


_PARSERS: dict[type, Any] = {bool: _parse_bool, int: whole_number, float: real_number, str: str}


def describe_settings(experiment: Experiment) -> str:
  """A line for each setting: its name, type, value in `experiment` and meaning. Sections are apart."""
  groups: dict[str, list[tuple[str, str, str]]] = {}
  for name, field, kind, value in fields(experiment):
    section = name.rpartition(".")[0]
    type_name = " | ".join(each.__name__ for each in kinds_of(kind))
    shown = str(value).lower() if isinstance(value, bool) else repr(value)
    row = (f"--config.{name}", f"{type_name.replace('NoneType', 'None')} = {shown}", field.metadata["meaning"])
    groups.setdefault(section, []).append(row)
  rows = [row for group in groups.values() for row in group]
  widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
  blocks = [
    "\n".join(f"  {name:<{widths[0]}}  {kind:<{widths[1]}}  {meaning}" for name, kind, meaning in group)
    for group in groups.values()
  ]
  return "\n\n".join(blocks)
