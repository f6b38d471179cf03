"""A package whose names are fetched from their modules on first use, so that importing it imports little."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
  package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
  """(`__getattr__`, `__dir__`, `__all__`) of `package`.

  Args:
    package: its `__name__`.
    homes: module -> the names that are fetched from it, with spaces between them; the module is one of the package's,
      or one by its full name, with dots. Type checkers read the package's imports under TYPE_CHECKING, which
      tests/test_house.py holds to the same names.
  """
  places = {name: module for module, names in homes.items() for name in names.split()}

  def fetch(name: str) -> Any:
    if name not in places:
      raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {', '.join(sorted(places))}.")
    module = places[name] if "." in places[name] else f"{package}.{places[name]}"
    return getattr(importlib.import_module(module), name)

  return fetch, lambda: sorted(places), sorted(places)
