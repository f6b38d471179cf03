"""Settings as text: `optimizer.beta1` and `0.95` onto a frozen experiment, by the types the schema declares."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from convattn.errors import UserError, nearest
from convattn.fields import kinds as kinds_of
from convattn.fields import wanted
from convattn.training.config import Experiment, Model
from convattn.training.validation import fields


def apply_overrides(experiment: Experiment, overrides: Iterable[tuple[str, str]]) -> Experiment:
  """The experiment with some settings replaced.

  Args:
    experiment: where to start.
    overrides: (dotted name, text) such as ("optimizer.beta1", "0.95"); see `parse_value` for the text.

  Raises:
    ValueError: an unknown name, with the nearest ones; a section; a text of the wrong type; a name given twice.
  """
  seen = set()
  for name, text in sorted(overrides, key=lambda each: each[0] != "model.name"):  # which settings there are, goes by it
    known = {each: (field, kind) for each, field, kind, _ in fields(experiment)}
    if name not in known:
      raise UserError(_unknown(name, known))
    if name in seen:
      raise UserError(f"{name} is given twice; keep one.")
    seen.add(name)
    experiment = _replaced(experiment, name.split("."), parse_value(name, *known[name], text))
  return experiment


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
    ValueError: one line with the setting's name, the text and the type it must have.
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


def _parse_float(text: str) -> float:
  value = float(text)
  if not math.isfinite(value):
    raise ValueError
  return value


_PARSERS: dict[type, Any] = {bool: _parse_bool, int: int, float: _parse_float, str: str}


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
