"""Signals that end a job end a run after the update in progress, or within an evaluation, with a checkpoint."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from convattn.data.workers import ENDING


class Terminated(SystemExit):
  """The run was asked to end, not by Ctrl-C, and has saved its state; not caught, it ends the process with 0."""

  def __init__(self, message: str):
    super().__init__(0)
    self.message = message


class Asked(Exception):
  """The run has been asked to end, and this is a place where it can; the loop saves its state and says so."""


class Stop:
  """What has been asked for. `signal` is None or one of `ENDING`."""

  def __init__(self) -> None:
    self.signal: int | None = None
    self._asked = 0

  def handle(self, number: int, frame: Any) -> None:
    """A signal handler. The first signal is kept for the loop; a second Ctrl-C interrupts at once."""
    if self.signal == signal.SIGINT and number == signal.SIGINT:
      raise KeyboardInterrupt
    self.signal = number
    if _many() and number != signal.SIGTERM:
      os.kill(os.getpid(), signal.SIGTERM)  # which jax tells the other processes

  def is_asked(self) -> bool:
    """Whether this process, alone, has been asked: not to be acted upon with several, which agree by `is_due`."""
    return self.signal is not None and not _many()

  def is_due(self) -> bool:
    """Whether to end here. With several processes, which must all ask equally often, all are told so at the same call.

    They agree on a call that none of them has made yet: a number, and jax compares it for equality.
    """
    if _many():
      self._asked += 1
      return bool(multihost_utils.reached_preemption_sync_point(self._asked))
    return self.is_asked()

  def check(self) -> None:
    """Raises `Asked` if the run is to end here."""
    if self.is_due():
      raise Asked

  def exception(self, step: int, num_steps: int, folder: Path) -> BaseException:
    """What a run raises when it has saved its state: for Ctrl-C in any process a KeyboardInterrupt in all of them."""
    message = f"stopped after step {step} of {num_steps}, which is saved in {folder}; the same command continues."
    message = message if step else "stopped before the first step; nothing was saved."
    interrupted = self.signal == signal.SIGINT
    if _many():
      interrupted = bool(np.any(multihost_utils.process_allgather(np.int32(interrupted))))
    return KeyboardInterrupt(message) if interrupted else Terminated(message)


def _many() -> bool:
  return jax.process_count() > 1


@contextlib.contextmanager
def catching() -> Iterator[Stop]:
  """The signals of `ENDING` go to the `Stop` inside the block, and where they went before after it.

  Outside the main thread, where Python takes no handlers, nothing is caught. With several processes SIGTERM is left to
  jax.distributed, whose coordinator lets all of them agree on a step.
  """
  stop = Stop()
  with _handled(stop.handle, but=(signal.SIGTERM,) if _many() else ()):
    yield stop


@contextlib.contextmanager
def leaving_at_once(folder: Path) -> Iterator[None]:
  """Within it, around `catching`, where there is nothing to be saved, the signals but Ctrl-C raise `Terminated`."""

  def leave(number: int, frame: Any) -> None:
    raise Terminated(f"ended by {signal.Signals(number).name}; the same command goes on from what is in {folder}.")

  with _handled(leave, but=(signal.SIGINT,)):
    yield


@contextlib.contextmanager
def _handled(handler: Callable[[int, Any], None], but: Collection[int]) -> Iterator[None]:
  before = {}
  if threading.current_thread() is threading.main_thread():
    for number in ENDING:
      # What is ignored from the start, as by nohup, stays so; but a shell ignores Ctrl-C for all in its background.
      ignored = signal.getsignal(number) in (signal.SIG_IGN, None) and number not in (signal.SIGINT, signal.SIGTERM)
      if number not in but and not ignored:
        before[number] = signal.signal(number, handler)
  try:
    yield
  finally:
    for number, earlier in before.items():
      signal.signal(number, earlier)
