"""The timeline of a few updates, for TensorBoard's profiler or Perfetto."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax

WARM_UP = 2
"""Updates before it begins: the first one compiles."""


def too_few(left: int, count: int) -> str | None:
  """What to tell a user who wants `count` updates recorded where only `left` are still to come; None if some are."""
  if not count or left > WARM_UP:
    return None
  return (
    f"no timeline is recorded: it begins after {WARM_UP} updates, which compile, and only {left} are left; give "
    "another --workdir to profile a new run."
  )


class Trace:
  """Records `count` updates of a run that starts after `first`, from the third one on, into `folder`."""

  def __init__(self, folder: Path, first: int, count: int):
    self._folder, self._span = folder, (first + WARM_UP, first + WARM_UP + count)
    self._is_on = False

  def before(self, step: int, state: Any) -> None:
    """Called before update `step` (from 0) with the state that it will change."""
    if step not in self._span or self._span[0] == self._span[1]:
      return
    jax.block_until_ready(state)  # so that the timeline holds whole updates
    if step == self._span[0]:
      jax.profiler.start_trace(str(self._folder))
      self._is_on = True
    else:
      self._stop()

  def _stop(self) -> None:
    if self._is_on:
      jax.profiler.stop_trace()
    self._is_on = False

  def __enter__(self) -> Self:
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
  ) -> None:
    self._stop()
