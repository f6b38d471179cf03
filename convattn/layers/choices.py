"""Fields that are a word of ours, or a thing of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
  if value not in choices:
    raise ValueError(f"{name} is {value!r}, but must be one of {', '.join(map(repr, choices))}.")


def check_choices(module: Any, **choices: Iterable[str]) -> None:
  """Each field that is named must be one of its words; ValueError with them."""
  for name, words in choices.items():
    check_choice(name, getattr(module, name), words)


def chosen(name: str, value: Any, table: Mapping[str, Any]) -> Any:
  """What the field `name` is: the entry of `table` that its value names, or a value that is no name as it is.

  Raises:
    ValueError: a name that is not in the table.
  """
  if not isinstance(value, str):
    return value
  check_choice(name, value, table)
  return table[value]


def refuse_beside(module: Any, part: str, *options: str) -> None:
  """Where the field `part` is handed in as what it is, its options by name must be left alone; ValueError with one."""
  for name in options:
    if getattr(module, name) != getattr(type(module), name):
      raise ValueError(
        f"{name} is {getattr(module, name)!r}, but {part} is handed in, and has its options itself; give it there."
      )
