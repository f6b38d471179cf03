"""The table of laws, and the error of a law that does not hold."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from convattn.properties.calling import answering, demand_arrays, demand_keywords, demand_tolerance, seeded

Check = TypeVar("Check", bound=Callable[..., None])

SOFTMAX = "definition of the softmax"
"""A source that several laws have."""


class Law(NamedTuple):
  """A row of the table: its name, the function that checks it, what it says, and who says so."""

  name: str
  check: Callable[..., None]
  statement: str
  source: str


class LawBroken(AssertionError):
  """A law does not hold.

  Attributes:
    law: its name.
    where: the worst place, such as "output[0, 3, 1]".
    size: how far off it is there; infinite for a NaN or a wrong shape.
    tolerance: how far off it may be, in the same units.
  """

  def __init__(self, message: str, where: str = "output", size: float = float("inf"), tolerance: float = 0.0):
    super().__init__(message)
    self.law = ""
    self.where, self.size, self.tolerance = where, size, tolerance


LAWS: dict[str, Law] = {}


def law(statement: str, source: str) -> Callable[[Check], Check]:
  """Enters a function `check_x` into LAWS as law x; what it raises then names the law and says what it means."""

  def enter(check: Check) -> Check:
    name = check.__name__.removeprefix("check_")

    @functools.wraps(check)
    def checked(*arguments: Any, **keywords: Any) -> None:
      if len(arguments) < 2:
        raise ValueError(f"check_{name} was given {len(arguments)} arguments, but needs a function and its arrays.")
      if not callable(arguments[0]):
        raise ValueError(
          f"check_{name} was given {arguments[0]!r:.40} first, but needs a function and then its arrays."
        )
      demand_arrays(arguments[1:])
      demand_tolerance(keywords.get("tolerance"))
      demand_keywords(keywords)
      given = {what: answering(value, f"`{what}`") if callable(value) else value for what, value in keywords.items()}
      if "key" in keywords:
        given["key"] = seeded(keywords["key"])
      try:
        check(answering(arguments[0], "the function"), *arguments[1:], **given)
      except LawBroken as broken:
        if not broken.law:
          broken.law = name
          broken.args = (f"law {name!r} is broken: {statement}. {broken.args[0]}",)
        raise

    LAWS[name] = Law(name, checked, statement, source)
    return checked  # type: ignore[return-value]

  return enter


def laws() -> tuple[Law, ...]:
  """Every law of this library, by name."""
  return tuple(LAWS[name] for name in sorted(LAWS))
