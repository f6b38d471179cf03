import threading
import time

import numpy as np
import pytest

from convattn.training import feeding
from convattn.training.feeding import AHEAD, Feeder, knows_rows, rows_of


def test_batches_come_in_order_and_none_is_made_twice():
  made = []
  with Feeder(lambda step: made.append(step) or {"step": step}, 3, 20) as batches:
    assert [batches.next()["step"] for _ in range(17)] == list(range(3, 20))
  assert made == list(range(3, 20))


def test_no_more_than_promised_is_made_ahead():
  made, enough = [], threading.Event()

  def make(step):
    made.append(step)
    if len(made) > AHEAD:
      enough.set()
    return {}

  with Feeder(make, 0, 99) as batches:
    assert enough.wait(10)
    time.sleep(0.05)
    assert len(made) == AHEAD + 1  # two lie ready, and one waits for a place
    batches.next()
  assert len(made) <= AHEAD + 3


def test_an_error_comes_in_the_place_of_its_batch():
  def make(step):
    if step == 2:
      raise KeyError("broken")
    return {"step": step}

  batches = Feeder(make, 0, 9)
  assert [batches.next()["step"] for _ in range(2)] == [0, 1]
  with pytest.raises(KeyError, match="broken"):
    batches.next()


def test_whoever_is_asked_to_stop_does_not_wait_for_a_batch_that_never_comes():
  never, asked = threading.Event(), threading.Event()

  def make(step):
    if step:
      never.wait()
    return {"step": step}

  batches = Feeder(make, 0, 9)
  assert batches.next(asked.is_set) == {"step": 0}
  threading.Timer(0.05, asked.set).start()
  assert batches.next(asked.is_set) is None
  assert batches.waited > 0
  never.set()


def test_after_an_error_the_thread_is_waited_for(monkeypatch):
  monkeypatch.setattr(feeding, "PATIENCE", 60.0)
  ended = []

  def make(step):
    time.sleep(0.05)
    ended.append(step)
    return {}

  batches = Feeder(make, 0, 9)
  batches.next()
  batches.__exit__(KeyError, KeyError(), None)
  assert not batches._thread.is_alive()
  assert len(ended) < 9


def test_a_task_without_rows_of_its_own_is_sliced():
  class Whole:
    def train_batch(self, step):
      return {"image": np.arange(12).reshape(6, 2) + step, "label": np.arange(6)}

  class Parts(Whole):
    def train_rows(self, step, rows):
      return {"label": np.arange(6)[rows] + 100 * step}

  class Changed(Parts):
    def train_batch(self, step):
      return {"label": np.full(6, 7)}

  np.testing.assert_array_equal(rows_of(Changed(), 1, slice(2, 4))["label"], [7, 7])
  found = rows_of(Whole(), 5, slice(2, 4))
  np.testing.assert_array_equal(found["image"], [[9, 10], [11, 12]])
  np.testing.assert_array_equal(found["label"], [2, 3])
  np.testing.assert_array_equal(rows_of(Parts(), 1, slice(2, 4))["label"], [102, 103])
  known = [knows_rows(kind(), "train_rows", "train_batch") for kind in (Whole, Parts, Changed)]
  assert known == [False, True, False]
