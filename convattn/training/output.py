"""What is printed: in any encoding of the terminal, and into an output whose reader has ended."""

import atexit
import codecs
import contextlib
import errno
import functools
import os
import sys
from collections.abc import Iterator
from typing import Any

SIGNS = {"×": "x", "…": "...", "–": "-", "—": "-", "−": "-", "·": "*", "“": '"', "”": '"', "‘": "'", "’": "'"}
"""What stands for signs of ours where the encoding lacks them."""

_REPLACING = "convattn.replacing"


class OutputLost(OSError):
  """The output takes no more, and the command has nothing to do that goes on without it."""

  @property
  def is_left(self) -> bool:
    """Whether its reader has ended, as `head` does: no mistake of anybody's."""
    return self.errno in (errno.EPIPE, errno.EIO)


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
  """Signs of `SIGNS` by what stands for them; bytes of a name that are not UTF-8, and other letters, as \\x and \\u."""
  if not isinstance(error, UnicodeEncodeError):
    raise error
  pieces = []
  for letter in error.object[error.start : error.end]:
    escaped = f"\\x{ord(letter) - 0xDC00:02x}" if "\udc80" <= letter <= "\udcff" else None
    pieces.append(SIGNS.get(letter) or escaped or letter.encode("ascii", "backslashreplace").decode())
  return "".join(pieces), error.end


codecs.register_error(_REPLACING, _replaced)


class _Stream:
  """A text stream whose `write` and `flush` outlive their reader; all else is the stream's own."""

  def __init__(self, stream: Any, is_result: bool):
    self._stream, self._is_result, self.goes_on = stream, is_result, False

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)

  def __iter__(self) -> Iterator[str]:
    return iter(self._stream)

  def write(self, text: str) -> int:
    try:
      self._stream.write(text)
    except OSError as error:
      self._lose(error)
    return len(text)

  def writelines(self, lines: Any) -> None:
    for line in lines:
      self.write(line)

  def flush(self) -> None:
    try:
      self._stream.flush()
    except OSError as error:
      self._lose(error)

  def _lose(self, error: OSError) -> None:
    """Whatever is written from now on, by libraries too, goes nowhere."""
    try:
      number, nowhere = self._stream.fileno(), os.open(os.devnull, os.O_WRONLY)
      os.dup2(nowhere, number)
      os.close(nowhere)
      self._stream.flush()  # what waits there still
    except (OSError, ValueError):  # no file: a stream of somebody's own
      self._stream = _nowhere()
    if not self._is_result:
      return
    if not self.goes_on:
      raise OutputLost(error.errno, error.strerror) from error
    print(f"note: the output takes no more ({error.strerror}); the work goes on without it.", file=sys.stderr)


@contextlib.contextmanager
def guarded(goes_on: bool = False) -> Iterator[None]:
  """Inside, stdout and stderr take every text: what their encoding lacks is replaced, and none raises UnicodeError.

  Nothing that is written on stderr raises. Where stdout takes no more (a closed pipe, a terminal that is gone, a full
  disk), one line on stderr says so and what follows is dropped if the work `goes_on`; else this raises.

  Args:
    goes_on: whether the work is of use without its output, as one that writes files is; so for the blocks inside.

  Raises:
    OutputLost: at the first write that stdout does not take.
  """
  _fill_closed()
  before = sys.stdout, sys.stderr
  wrapped = [
    each if isinstance(each, _Stream) else _Stream(_nowhere() if each is None else each, not i)
    for i, each in enumerate(before)
  ]
  errors = [getattr(each, "errors", None) for each in wrapped]
  sys.stdout, sys.stderr = wrapped
  went_on = wrapped[0].goes_on
  wrapped[0].goes_on = went_on or goes_on
  _set_errors(wrapped, [_REPLACING, _REPLACING])
  try:
    yield
    for stream in wrapped:
      stream.flush()
  finally:
    wrapped[0].goes_on = went_on
    for stream in wrapped:
      with contextlib.suppress(OSError):
        stream.flush()
    _set_errors(wrapped, errors)
    sys.stdout, sys.stderr = before


def _fill_closed() -> None:
  # A file that is opened later must not get the number of an output that was closed (`>&-`): libraries write there.
  for number in range(3):
    try:
      os.fstat(number)
    except OSError:
      os.open(os.devnull, os.O_RDWR)


@functools.cache
def _nowhere() -> Any:
  stream = open(os.devnull, "w")  # noqa: SIM115 - as long as the process
  atexit.register(stream.close)
  return stream


def _set_errors(streams: list[_Stream], names: list[str | None]) -> None:
  for stream, name in zip(streams, names, strict=True):
    if name is not None and hasattr(stream, "reconfigure"):
      with contextlib.suppress(OSError, ValueError):
        stream.reconfigure(errors=name)
