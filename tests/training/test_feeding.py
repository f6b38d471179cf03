import threading
import time

import pytest

from convattn.training import feeding
from convattn.training.feeding import AHEAD, Feeder
from convattn.training.signals import Asked


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
    assert enough.wait(600)
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
  with pytest.raises(Asked):
    batches.next(asked.is_set)
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
