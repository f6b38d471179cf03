"""What a page shows, as its address says it: the part behind the #. The page reads and writes it in page/state.js."""

import dataclasses
import math
import re
import urllib.parse
from pathlib import Path
from typing import Literal, cast, get_args

from convattn.analysis.attention_map import MODES
from convattn.errors import UserError, nearest
from convattn.viz.looks import Direction

Average = Literal["one", "mean", "difference"]


@dataclasses.dataclass(frozen=True)
class View:
  """One view of a page.

  Attributes:
    average: one picture, the mean of all, or one less the mean of all.
    image: number of the picture.
    at: row and column of a pixel, or of the first and last of a rectangle; "all"; None: not said.
    token: number of a token without a place, in the place of `at`.
    direction: what the place attends to, or what attends to it.
    layer: name; None: all.
    head: number; None: all.
    mode: one of MODES.
    shared: one scale of colours for all maps.
    overlay: name of what lies over the picture; None: nothing.
    step: of the timeline; None: the end.
    s: what the position's part of the logits is multiplied with.
  """

  average: Average = "one"
  image: int = 0
  at: tuple[int, ...] | Literal["all"] | None = None
  token: int | None = None
  direction: Direction = "out"
  layer: str | None = None
  head: int | None = None
  mode: str = "probabilities"
  shared: bool = True
  overlay: str | None = None
  step: int | None = None
  s: float = 1.0


_KNOWN = ("image", "of", "at", "direction", "layer", "head", "mode", "scale", "overlay", "step", "s")

_OTHERS = ("sort", "pins", "weight")
"""Of the page alone: they change no map."""


def split_address(address: str) -> tuple[Path, str]:
  """(the page's file, its view behind the #) of a path or a file:// address.

  Raises:
    UserError: the address is of the network.
  """
  place, _, view = address.partition("#")
  if "://" not in place:
    return Path(place).expanduser(), view
  parsed = urllib.parse.urlsplit(place)
  if parsed.scheme != "file":
    raise UserError(f"{address} lies in the network; save the page and name its file.")
  return Path(urllib.parse.unquote(parsed.path)), view


def parse_view(text: str) -> View:
  """The view that the part behind the # says: NAME=VALUE&NAME=VALUE.

  Raises:
    UserError: a name that is none, or a value that its name does not take.
  """
  values: dict[str, str] = {}
  for part in filter(None, text.split("&")):
    name, equals, value = part.partition("=")
    if not equals or name not in (*_KNOWN, *_OTHERS):
      meant = " or ".join(nearest(name, _KNOWN))
      raise UserError(f"the view has {part!r}, but it is made of NAME=VALUE; did you mean {meant}?")
    values[name] = urllib.parse.unquote(value)
  image = values.get("image", "0")
  average = cast(Average, image if image in ("mean", "difference") else "one")
  at, token = _place(values.get("at"))
  return View(
    average=average,
    image=_number("image", image) if average == "one" else _number("of", values.get("of", "0")),
    at=at,
    token=token,
    direction=cast(Direction, _one_of("direction", values.get("direction", "out"), get_args(Direction))),
    layer=values.get("layer") or None,
    head=_number("head", values["head"]) if "head" in values else None,
    mode=_one_of("mode", values.get("mode", MODES[0]), MODES),
    shared=_one_of("scale", values.get("scale", "shared"), ("shared", "each")) == "shared",
    overlay=None if values.get("overlay") in (None, "", "none") else values["overlay"],
    step=_number("step", values["step"]) if "step" in values else None,
    s=_real(values.get("s", "1")),
  )


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
  if value not in known:
    raise UserError(f"the view has {name}={value}, but it must be one of {', '.join(known)}.")
  return value


def _number(name: str, value: str) -> int:
  if not re.fullmatch(r"[0-9]{1,9}", value):
    raise UserError(f"the view has {name}={value}, but it must be a whole number from 0.")
  return int(value)


def _real(value: str) -> float:
  try:
    number = float(value)
  except ValueError:
    number = math.nan
  if not 0 <= number <= 2:
    raise UserError(f"the view has s={value}, but it must be a number from 0 to 2.")
  return number


def _place(value: str | None) -> tuple[tuple[int, ...] | Literal["all"] | None, int | None]:
  """(pixel, rectangle or all of them; token)."""
  if value is None or value == "all":
    return cast(Literal["all"] | None, value), None
  if found := re.fullmatch(r"token:([0-9]{1,9})", value):
    return None, int(found[1])
  if not re.fullmatch(r"[0-9]{1,6},[0-9]{1,6}(,[0-9]{1,6},[0-9]{1,6})?", value):
    raise UserError(
      f"the view has at={value}, but it must be ROW,COLUMN of a pixel such as at=3,4, of the first and last of a "
      "rectangle, token:N, or all."
    )
  return tuple(map(int, value.split(","))), None
