"""Processes that decode and change the pictures of batches, where the threads of one process are not enough.

They are started anew ("spawn"), not forked off: jax has threads of its own, which a fork would lose. So each of them
imports the module that was started as a script once more; what that does must stand under
`if __name__ == "__main__":`. A notebook is no such module and needs nothing. They import neither jax nor TensorFlow
and touch no device.
"""

import collections
import concurrent.futures
import concurrent.futures.process
import contextlib
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from convattn.data.batches import (
  WHOLE,
  cut,
  evaluation_batches,
  evaluation_indexes,
  num_rows,
  padded,
  stack,
  train_places,
  with_mask,
)
from convattn.data.broken import BrokenPicture, InARow, readable
from convattn.data.host_augmentation import HostAugmentation, Rows
from convattn.data.sources import Dataset, Item, Source, skipped_of
from convattn.errors import UserError

Batch = dict[str, np.ndarray]
Found = tuple[Batch, list[BrokenPicture]]
"""Rows of a batch, and the pictures that were met and left out."""

_LARGEST = 32  # rows at once: 5 MB of pixels of 224 x 224
_AHEAD = 2  # evaluation batches in the making behind the one that is asked for
ENDING = tuple(getattr(signal, f"SIG{name}") for name in ("INT", "TERM", "HUP", "USR1", "USR2", "XCPU"))
"""Signals that end a job: of a user, a scheduler (Slurm's --signal), a terminal that hangs up, a limit of time."""


class WorkersEnded(UserError):
  """The processes that decode are gone; one line."""


class Workers:
  """`count` processes that make the batches of a data set, equal to those that this process would make.

  They start with the first batch and end with `close`, with this object, or with this process, however that ends.
  Methods may be called from several threads.

  Args:
    dataset: sent to each process once.
    augmentation: of the training examples.
    count: at least 1.
  """

  def __init__(self, dataset: Dataset, augmentation: HostAugmentation, count: int):
    if count < 1:
      raise UserError(f"workers must be at least 1, got {count}; without any, use augmented_batch.")
    self._dataset, self._augmentation, self._count = dataset, augmentation, count
    self._lock = threading.Lock()
    self._pool: concurrent.futures.ProcessPoolExecutor | None = None

  def train_batch(self, *, batch_size: int, seed: int, step: int, rows: slice = WHOLE) -> Batch:
    """See `augmented_batch`.

    Raises:
      WorkersEnded: a process died.
    """
    Rows(self._dataset, self._augmentation, seed, step)  # refuses images that it cannot change
    source = self._dataset.train
    places = train_places(source, batch_size=batch_size, seed=seed, step=step, rows=rows)
    return self._collected(source, self._submitted(_train_rows, seed, int(step), places))

  def evaluation_batches(self, split: str, batch_size: int, rows: slice = WHOLE) -> Iterator[Batch]:
    """See `evaluation_batches` of a source; here of "train", "validation" or "test".

    Raises:
      WorkersEnded: a process died.
    """
    source = getattr(self._dataset, split)
    evaluation_batches(source, batch_size)  # refuses a wrong size
    return self._evaluated(source, split, batch_size, rows)

  def _evaluated(self, source: Source, split: str, batch_size: int, rows: slice) -> Iterator[Batch]:
    ahead: collections.deque[tuple[int, list[concurrent.futures.Future[Found]]]] = collections.deque()
    in_a_row, size = InARow(len(source), skipped_of(source)), num_rows(batch_size, rows)

    def first() -> Batch:
      count, futures = ahead.popleft()
      batch = cut(self._collected(source, futures), count)
      in_a_row.add(batch["mask"])
      return padded(batch, size)

    for indexes in evaluation_indexes(source, batch_size):
      wanted = indexes[rows]
      ahead.append((len(wanted), self._submitted(_evaluation_rows, split, wanted or indexes[:1])))
      if len(ahead) > _AHEAD:
        yield first()
    while ahead:
      yield first()

  def close(self) -> None:
    """Ends the processes. The next batch would start others."""
    with self._lock:
      pool, self._pool = self._pool, None
    if pool is not None:
      pool.shutdown(wait=True, cancel_futures=True)

  def _submitted(self, function: Callable[..., Found], *arguments: Any) -> list[concurrent.futures.Future[Found]]:
    """Futures of `function(*arguments[:-1], piece)` for the pieces of the last argument."""
    *shared, items = arguments
    size = max(1, min(_LARGEST, -(-len(items) // self._count)))
    with self._lock:
      if self._pool is None:
        context = multiprocessing.get_context("spawn")
        given = (self._dataset, self._augmentation)
        self._pool = concurrent.futures.ProcessPoolExecutor(self._count, context, _begin, given)
      pool = self._pool
    with _told(), _signals_blocked():  # submitting starts processes
      return [pool.submit(function, *shared, items[i : i + size]) for i in range(0, len(items), size)]

  def _collected(self, source: Source, futures: Sequence[concurrent.futures.Future[Found]]) -> Batch:
    skipped = skipped_of(source)
    try:
      with _told():
        found = [future.result() for future in futures]
    finally:
      for future in futures:  # what follows one that raised is of no use
        future.cancel()
    if skipped is not None:
      for error in (error for _, met in found for error in met):
        skipped.add(error)
    return {name: np.concatenate([piece[name] for piece, _ in found]) for name in found[0][0]}


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
  """A process that is started inside begins with `ENDING` blocked, so that they cannot end it while it imports."""
  before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
  try:
    multiprocessing.resource_tracker.ensure_running()  # starting that one unblocks some
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _told() -> Iterator[None]:
  try:
    yield
  except concurrent.futures.process.BrokenProcessPool as error:
    raise WorkersEnded(
      "a process that decodes pictures ended (out of memory, killed, or started by a script whose work does not stand "
      "under `if __name__ == '__main__':`); start again, with data.workers=0 to decode in the threads of one process."
    ) from error


# What follows runs in a worker.

_given: tuple[Dataset, HostAugmentation]


def _begin(dataset: Dataset, augmentation: HostAugmentation) -> None:
  global _given
  _given = dataset, augmentation
  # Ctrl-C and a scheduler's SIGTERM go to every process of a job. The one that trains decides when these end; it may
  # want some batches still, to end well.
  for number in ENDING:
    signal.signal(number, signal.SIG_IGN)
  signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
  threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
  # A worker holds both ends of the queue it waits at, so nothing wakes it when a parent is killed.
  parent = multiprocessing.parent_process()
  assert parent is not None
  parent.join()
  os._exit(1)


def _train_rows(seed: int, step: int, places: Sequence[tuple[int, int]]) -> Found:
  dataset, augmentation = _given
  rows = Rows(dataset, augmentation, seed, step)
  return stack([rows(place) for place in places]), _met(dataset.train)


def _evaluation_rows(split: str, indexes: Sequence[int]) -> Found:
  source = getattr(_given[0], split)
  skipped = skipped_of(source)
  items: list[Item | None] = [readable(source.__getitem__, index, skipped) for index in indexes]
  return with_mask(items, _given[0].image_shape), _met(source)


def _met(source: Source) -> list[BrokenPicture]:
  skipped = skipped_of(source)
  return [] if skipped is None else skipped.taken()
