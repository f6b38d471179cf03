"""Splits a command line into options, `--name=value` and `--name value`, and writes one down."""

import itertools
import os
import re
import shlex
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from convattn.errors import UserError, nearest
from convattn.fields import whole_number
from convattn.files import check_writable


def split_options(arguments: Sequence[str]) -> list[tuple[str, str]]:
  """(name without dashes, value) of each option, in order.

  A value of its own that begins with two dashes is written behind an equals sign.

  Raises:
    UserError: something that is no option, or an option without a value.
  """
  options = []
  remaining = iter(arguments)
  for argument in remaining:
    if not argument.startswith("--") or argument == "--":
      raise UserError(f"expected an option such as --name=value, got {argument!r}.")
    name, equals, value = argument[2:].partition("=")
    if not equals:
      following = next(remaining, None)
      if following is None or following.startswith("--"):
        raise UserError(f"--{name} needs a value: --{name}=VALUE.")
      value = following
    options.append((name, value))
  return options


def split_positional(arguments: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
  """(options as `split_options` returns them, the other arguments), each in order.

  An argument that does not begin with a dash, and is not the value of an option before it, is one of the others; so is
  everything behind a lone "--".

  Raises:
    UserError: an option without a value, or an argument with a single dash.
  """
  before, others = list(arguments), []
  if "--" in before:
    place = before.index("--")
    before, others = before[:place], before[place + 1 :]
  options, plain, remaining = [], [], iter(before)
  for argument in remaining:
    if argument.startswith("-"):
      # One that lacks its value takes the argument behind it along.
      options.append(argument)
      options += itertools.islice(remaining, 0 if "=" in argument else 1)
    else:
      plain.append(argument)
  return split_options(options), plain + others


def named_options(
  options: Iterable[tuple[str, str]], known: Collection[str], related: Iterable[str] = ()
) -> dict[str, str]:
  """The options as a mapping; of one that is given more than once the last value counts.

  Args:
    options: as `split_options` returns them.
    known: the names an option may have.
    related: other names to suggest where an option has none of the known ones.

  Raises:
    UserError: a name that is not among the `known` ones, with the nearest.
  """
  values: dict[str, str] = {}
  for name, value in options:
    if name not in known:
      meant = " or ".join(f"--{each}" for each in nearest(name, [*known, *related]))
      raise UserError(f"there is no option --{name}; did you mean {meant}?")
    values[name] = value
  return values


def positive_number(name: str, text: str) -> int:
  """The whole number, at least 1, that `--name=text` gives.

  Raises:
    UserError: it is none.
  """
  number = _positive(text)
  if not number:
    raise UserError(f"--{name} must be a whole number of at least 1, got {text!r}.")
  return number


def positive_decimal(name: str, text: str) -> float:
  """The number above 0, with decimals or without, that `--name=text` gives.

  Raises:
    UserError: it is none.
  """
  if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9}", text) or not float(text):
    raise UserError(f"--{name} must be a number above 0 such as 20 or 0.5, got {text!r}.")
  return float(text)


def _positive(text: str) -> int | None:
  try:
    number = whole_number(text)
  except ValueError:
    return None
  return number if number > 0 else None


def output_file(name: str, text: str) -> Path:
  """The file that `--name=text` asks to write, checked before any work is done.

  Raises:
    UserError: it is a folder, its folder is not there, or it cannot be written.
  """
  path = Path(text).expanduser()
  if path.is_dir() or not path.name:
    raise UserError(f"--{name} must name a file, got {text!r}, which is a folder.")
  if not path.parent.is_dir():
    raise UserError(f"--{name}={text}: there is no folder {str(path.parent)!r}; make it, or name another.")
  try:
    check_writable(path)
  except OSError as error:
    raise UserError(f"--{name}={text} cannot be written ({error.strerror}); name another file.") from error
  return path


def pixels(name: str, text: str) -> tuple[int, int]:
  """(height, width) that `--name=384` or `--name=384x512` gives.

  Raises:
    UserError: it is neither.
  """
  height, *more = map(_positive, text.split("x"))
  width = more[0] if more else height
  if not (height and width) or len(more) > 1:
    raise UserError(f"--{name} must be a number of pixels such as 384, or height x width as 384x512, got {text!r}.")
  return height, width


def as_typed(command: str, arguments: Sequence[str]) -> str:
  """The command line of this process on one line, as a shell takes it; what cannot be seen in it as $'\\x0a'."""
  started = {"train.py": "python train.py", "__main__.py": f"python -m convattn {command}"}
  return " ".join([started.get(Path(sys.argv[0]).name, f"convattn {command}"), *map(_quoted, arguments)])


def _quoted(argument: str) -> str:
  if argument.isprintable():
    return shlex.quote(argument)
  # Bytes of a path that are no UTF-8, which no file of text can hold, are such too.
  letters = argument.replace("\\", "\\\\").replace("'", "\\'")
  hidden = {each: "".join(f"\\x{byte:02x}" for byte in os.fsencode(each)) for each in letters if not each.isprintable()}
  return f"$'{''.join(hidden.get(each, each) for each in letters)}'"
