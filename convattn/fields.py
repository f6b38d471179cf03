"""A setting is a dataclass field that carries its default, its meaning and the values it takes."""

import dataclasses
import math
import re
import types
import typing
from collections.abc import Callable
from typing import Any, Literal

INT32 = 2**31 - 1
_SMALLEST_REAL, _LARGEST_REAL = 1.2e-38, 3.4e38
"""Of float32, in which all is computed: beyond them it holds 0 and infinity."""
_WORDS = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a string"}
"""How each declared type is named to a user."""


Change = Literal["refused", "continued", "freely"]
"""Whether a run that has begun may go on with another value of a setting: never; where that is asked for; or "freely",
as its updates stay what they are (up to rounding) or are only left out."""


@dataclasses.dataclass(frozen=True)
class Range:
  """The numbers that `fits` says yes to; `wanted` names them to a user."""

  wanted: str
  fits: Callable[[Any], bool]


POSITIVE = Range("above 0", lambda value: value > 0)
COUNT = Range("at least 1", lambda value: value >= 1)
NOT_NEGATIVE = Range("at least 0", lambda value: value >= 0)
SHARE = Range("at least 0 and below 1", lambda value: 0 <= value < 1)
PART = Range("above 0 and at most 1", lambda value: 0 < value <= 1)


def from_to(lowest: float, highest: float) -> Range:
  return Range(f"from {lowest} to {highest}", lambda value: lowest <= value <= highest)


def whole_number(text: str) -> int:
  """The number that digits 0 to 9, perhaps behind a sign, stand for: int() takes "1_0" and other scripts' digits too.

  Raises:
    ValueError: the text is anything else.
  """
  if not re.fullmatch("[+-]?[0-9]+", text):
    raise ValueError(f"{text!r} is no whole number")
  return int(text)


def real_number(text: str) -> float:
  """The finite number that a text stands for, such as 1e-3, in the characters of `whole_number`.

  Raises:
    ValueError: the text is anything else.
  """
  if not re.fullmatch("[+-]?[0-9.]+([eE][+-]?[0-9]+)?", text) or not math.isfinite(float(text)):
    raise ValueError(f"{text!r} is no finite number")
  return float(text)


def all_of(value: Any) -> Any:
  return value


def nothing_of(value: Any) -> None:
  del value


def setting(
  default: Any,
  meaning: str,
  within: Range | None = None,
  *,
  choices: typing.Iterable[str] = (),
  largest: int = INT32,
  weights_need: Callable[[Any], Any] = all_of,
  change: Change | None = None,
) -> Any:
  """A field with its default, the sentence that `--help` prints, and what it takes.

  Args:
    default: its value where none is given.
    meaning: what it is, on one line.
    within: of a number.
    choices: of a word.
    largest: a whole number above it is a typing error that would end in a lack of memory; steps are counted in int32.
    weights_need: of a model's setting, what of its value must be the same for trained weights to serve another model:
      `nothing_of` it where it is about training or about other image sizes alone.
    change: of a run's setting; None: as its group of settings.
  """
  metadata = {"meaning": meaning, "within": within, "choices": tuple(choices), "largest": largest}
  return dataclasses.field(default=default, metadata=metadata | {"weights_need": weights_need, "change": change})


def settings_of(kind: type) -> list[dataclasses.Field]:
  """The fields of a dataclass that are settings."""
  return [field for field in dataclasses.fields(kind) if "meaning" in field.metadata]


def choices(kind: type, name: str) -> tuple[str, ...]:
  """The words that a setting of a dataclass takes; none where it takes others than words."""
  (found,) = (field.metadata["choices"] for field in settings_of(kind) if field.name == name)
  return found


def type_hints(kind: Any) -> dict[str, Any]:
  """Field -> declared type of a dataclass."""
  return typing.get_type_hints(kind)


def kinds(kind: Any) -> tuple[Any, ...]:
  """The types of a union, or the one type."""
  return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


def wanted(field: dataclasses.Field, kind: Any) -> str:
  """What a setting of this type takes, in words: its choices if it has some, else its type."""
  words = [_WORDS[each] for each in kinds(kind) if each is not type(None)]
  if field.metadata["choices"]:
    words = [", ".join(map(repr, field.metadata["choices"]))]
  return " or ".join(words + ["None"] * (type(None) in kinds(kind)))


def misfit(field: dataclasses.Field, kind: Any, value: Any) -> str:
  """What the setting wants in the place of `value`, in words behind "must be"; empty where it takes it."""
  if not _has_type(value, kind):
    return wanted(field, kind)
  if value is None:
    return ""
  allowed, within, largest = (field.metadata[name] for name in ("choices", "within", "largest"))
  if allowed and value not in allowed:
    return f"one of {', '.join(map(repr, allowed))}"
  if isinstance(value, str) and "\0" in value:
    return "text without the character \\0, which no name of a file or a data set has"
  if within is not None and not within.fits(value):
    return within.wanted
  if type(value) is int and float not in kinds(kind) and value > largest:
    return f"at most {largest}"
  if value and float in kinds(kind) and not _SMALLEST_REAL <= abs(value) <= _LARGEST_REAL:
    return f"0 or {_SMALLEST_REAL} to {_LARGEST_REAL} in size, as float32 can hold it"
  return ""


def _has_type(value: Any, kind: Any) -> bool:
  if float in kinds(kind) and type(value) in (int, float):  # an int will do for a float
    return type(value) is int or math.isfinite(value)
  return type(value) in kinds(kind)  # bool is an int to isinstance
