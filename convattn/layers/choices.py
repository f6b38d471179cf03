"""Fields that are a name of a table of ours, or a thing of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
  if value not in choices:
    raise ValueError(f"{name} is {value!r}, but must be one of {', '.join(map(repr, choices))}.")


def chosen(name: str, value: Any, table: Mapping[str, Any]) -> Any:
  """What the field `name` is: the entry of `table` that its value names, or a value that is no name as it is.

  Raises:
    ValueError: a name that is not in the table.
  """
  if not isinstance(value, str):
    return value
  check_choice(name, value, table)
  return table[value]
