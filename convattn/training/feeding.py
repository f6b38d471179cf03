"""Batches that are ready when the device is: made and sent ahead by a thread, in order."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import numpy as np

AHEAD = 2
"""Batches that lie ready on the devices beside the one in use."""

PATIENCE = 5.0
"""Seconds that an interrupted run waits for a batch in the making."""

Batch = dict[str, Any]


class Feeder:
  """`make(step)` for step = first .. last - 1, called by one thread up to `AHEAD` steps before they are asked for.

  What `make` raises is raised by `next`, in the place of that batch. Attributes: waited, the seconds that callers of
  `next` had to wait.
  """

  def __init__(self, make: Callable[[int], Batch], first: int, last: int):
    self.waited = 0.0
    self._ready: queue.Queue[Batch | BaseException] = queue.Queue(AHEAD)
    self._closed = threading.Event()
    # A daemon, so that a batch that never comes does not keep an interrupted process alive.
    self._thread = threading.Thread(target=self._fill, args=(make, first, last), name="batches", daemon=True)
    self._thread.start()

  def _fill(self, make: Callable[[int], Batch], first: int, last: int) -> None:
    for step in range(first, last):
      try:
        made: Batch | BaseException = make(step)
      except BaseException as error:  # for the thread that asks
        made = error
      self._put(made)
      if self._closed.is_set() or isinstance(made, BaseException):
        return

  def _put(self, made: Batch | BaseException) -> None:
    while not self._closed.is_set():
      with contextlib.suppress(queue.Full):
        self._ready.put(made, timeout=0.1)
        return

  def next(self, is_asked: Callable[[], bool] = lambda: False) -> Batch | None:
    """The next batch; None if it is not there yet when `is_asked` says that nobody wants it any more."""
    started = time.perf_counter()
    made: Batch | BaseException | None = None
    while made is None and not is_asked():
      with contextlib.suppress(queue.Empty):
        made = self._ready.get(timeout=0.1)
    self.waited += time.perf_counter() - started
    if isinstance(made, BaseException):
      raise made
    return made

  def __enter__(self) -> Self:
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
  ) -> None:
    self._closed.set()
    # After an error too: a thread inside jax while the interpreter ends would abort the process. But a batch that
    # never comes is not waited for longer than that.
    self._thread.join(timeout=None if error is None else PATIENCE)


def rows_of(task: Any, step: int, rows: slice) -> dict[str, np.ndarray]:
  """The rows `rows` of the batch of `step`: the task's `train_rows`, or part of the whole `train_batch`.

  A class that changes `train_batch` alone is asked for that, even where a class that it extends has `train_rows`.
  """
  if knows_rows(task, "train_rows", "train_batch"):
    return task.train_rows(step, rows)
  return {name: array[rows] for name, array in task.train_batch(step).items()}


def knows_rows(task: Any, part: str, whole: str) -> bool:
  """Whether the task's method `part` is of the class that has its method `whole`, or of one that extends that."""
  for kind in type(task).__mro__:
    if part in vars(kind):
      return True
    if whole in vars(kind):
      return False
  return False
