"""Pictures that cannot be read: named, and left out where a data set is told to."""

import sys
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from convattn.errors import UserError, counted

_Made = TypeVar("_Made")

CHOICES = ("stop", "skip")
"""What to do about such a picture: raise BrokenPicture, or leave it out and count it."""

IN_A_ROW = 100
"""So many unreadable examples, one behind the other, are not a few broken pictures but a disk that has gone."""


class BrokenPicture(UserError):
  """A picture of a data set that is not there any more, or cannot be decoded; one line with its path.

  Attributes:
    picture: its path, or the record's place.
  """

  def __init__(self, message: str, picture: str = ""):
    super().__init__(message)
    self.picture = picture or message


class Skipped:
  """The pictures of a data set that were left out, each counted once. The first time it is met, stderr says so.

  Safe to share among threads. A copy in another process is empty and says nothing: what it meets is brought back to
  this one (see `workers`).
  """

  def __init__(self, aloud: bool = True):
    self._aloud = aloud
    self._lock = threading.Lock()
    self._met: dict[str, BrokenPicture] = {}

  def __len__(self) -> int:
    return len(self._met)

  def add(self, error: BrokenPicture) -> None:
    with self._lock:
      if error.picture in self._met:
        return
      self._met[error.picture] = error
    if self._aloud:
      # In one piece: `print` writes the end of the line by itself, and another thread's line could come before it.
      sys.stderr.write(f"skipped: {error}\n")
      sys.stderr.flush()

  def last(self) -> BrokenPicture | None:
    """The one that was met last."""
    with self._lock:
      return next(reversed(self._met.values()), None)

  def taken(self) -> list[BrokenPicture]:
    """All that were met since the last call; they are forgotten here."""
    with self._lock:
      met, self._met = [*self._met.values()], {}
    return met

  def __reduce__(self) -> tuple[type["Skipped"], tuple[bool]]:
    return Skipped, (False,)


def first_readable(read: Callable[[int], _Made], index: int, size: int, skipped: Skipped | None) -> _Made:
  """`read` of the first of index, index + 1, ... (after size - 1 comes 0) that can be read.

  It depends on nothing but the data, so a batch stays a function of (seed, step). Without `skipped` only `index` is
  tried.

  Raises:
    BrokenPicture: `index` cannot be read and is not to be skipped, or neither it nor the IN_A_ROW - 1 behind it.
  """
  if skipped is None:
    return read(index)
  tries = min(size, IN_A_ROW)
  for place in range(index, index + tries):
    try:
      return read(place % size)
    except BrokenPicture as error:
      skipped.add(error)
      last = error
  raise _too_many(tries, last)


def _too_many(count: int, last: BrokenPicture | None) -> BrokenPicture:
  return BrokenPicture(f"{counted(count, 'picture')} in a row cannot be read; is the disk there? The last one: {last}")


class InARow:
  """Counts the pictures of an evaluation that are left out, one behind the other.

  Args:
    size: the number of pictures; if it is less than IN_A_ROW, all of them must be unreadable.
    skipped: where they are counted.
  """

  def __init__(self, size: int, skipped: Skipped | None):
    self._limit, self._skipped, self._count = min(size, IN_A_ROW), skipped, 0

  def add(self, mask: Iterable[float]) -> None:
    """The next pictures: 0 for one that is left out.

    Raises:
      BrokenPicture: that makes IN_A_ROW of them, or all.
    """
    for is_there in mask:
      self._count = 0 if is_there else self._count + 1
      if self._count >= self._limit and self._skipped is not None:
        raise _too_many(self._count, self._skipped.last())


def readable(read: Callable[[int], _Made], index: int, skipped: Skipped | None) -> _Made | None:
  """`read(index)`; None where that cannot be read and is to be skipped.

  Raises:
    BrokenPicture: it cannot be read, and there is no `skipped`.
  """
  try:
    return read(index)
  except BrokenPicture as error:
    if skipped is None:
      raise
    skipped.add(error)
    return None
