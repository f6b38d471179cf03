"""How many images are done, on stderr: what a command prints on stdout stays its result alone."""

import sys
import time
from types import TracebackType
from typing import Self

import tqdm

from convattn.training.progress import time_left

_QUIET_SECONDS = 5.0


class Counting:
  """A bar on a terminal, cleared at the end; elsewhere at most one line in five seconds, and if any the end's."""

  def __init__(self, total: int, unit: str = "images"):
    self._total, self._unit, self._done = total, unit, 0
    self._started = self._printed = time.perf_counter()
    self._told: int | None = None
    terminal = sys.stderr.isatty()
    self._bar = tqdm.tqdm(total=total, unit=f" {unit}", file=sys.stderr, leave=False) if terminal else None

  def advance(self, number: int) -> None:
    self._done += number
    now = time.perf_counter()
    if self._bar is not None:
      self._bar.update(number)
    elif now - self._printed > _QUIET_SECONDS:
      self._printed, self._told = now, self._done
      left = time_left(self._started, self._done, self._total - self._done)
      # In one piece, since threads that read pictures may write there too.
      sys.stderr.write(f"{self._done}/{self._total} {self._unit}, {left}\n")
      sys.stderr.flush()

  def write(self, text: str) -> None:
    """Prints `text` on stdout, above the bar where there is one."""
    if self._bar is None:
      print(text, flush=True)
    else:
      self._bar.write(text, file=sys.stdout)

  def __enter__(self) -> Self:
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
  ) -> None:
    if self._bar is not None:
      self._bar.close()
    elif self._told is not None and self._told < self._done == self._total:
      sys.stderr.write(f"{self._done}/{self._total} {self._unit}\n")
