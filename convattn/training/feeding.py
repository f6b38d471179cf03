"""Batches that are ready when the device is: made and sent ahead by a thread, in order, each host its own rows."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
from jax.sharding import Mesh

from convattn.errors import UserError
from convattn.training.sharding import by_batch
from convattn.training.signals import Asked
from convattn.training.task import Batch, Task

AHEAD = 2
"""Batches that lie ready on the devices beside the one in use."""

PATIENCE = 5.0
"""Seconds that an interrupted run waits for a batch in the making."""


def local_rows(mesh: Mesh, batch_size: int) -> slice:
  """The rows of a batch that this process's devices hold: the smallest range with all of them."""
  indices = by_batch(mesh).addressable_devices_indices_map((batch_size,)).values()
  starts, stops = zip(*(index[0].indices(batch_size)[:2] for index in indices if index), strict=True)
  return slice(min(starts), max(stops))


def put_rows(rows: Mapping[str, np.ndarray], mesh: Mesh, batch_size: int) -> dict[str, Any]:
  """The global batch of `batch_size` rows on the devices, of which this host passes `local_rows` only.

  Raises:
    UserError: another number of rows.
  """
  sharding, mine = by_batch(mesh), local_rows(mesh, batch_size)
  count = mine.stop - mine.start

  def place(name: str, array: np.ndarray) -> jax.Array:
    if len(array) != count:
      raise UserError(f"{name!r} must have the {count} rows from {mine.start} to {mine.stop}, got {len(array)}.")

    def block(index: Any) -> np.ndarray:
      start, stop, _ = index[0].indices(batch_size)
      return array[start - mine.start : stop - mine.start]

    return jax.make_array_from_callback((batch_size, *array.shape[1:]), sharding, block)

  return {name: place(name, array) for name, array in rows.items()}


def train_batch(task: Task, step: int, batch_size: int, mesh: Mesh) -> Batch:
  """The batch of update `step` (from 0) on the devices; this host makes only the rows that its own devices hold."""
  return put_rows(task.train_rows(step, local_rows(mesh, batch_size)), mesh, batch_size)


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

  def next(self, is_asked: Callable[[], bool] = lambda: False) -> Batch:
    """The next batch.

    Raises:
      Asked: it is not there yet, and `is_asked` says that nobody wants it any more.
    """
    started = time.perf_counter()
    made: Batch | BaseException | None = None
    while made is None and not is_asked():
      with contextlib.suppress(queue.Empty):
        made = self._ready.get(timeout=0.1)
    self.waited += time.perf_counter() - started
    if made is None:
      raise Asked
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
