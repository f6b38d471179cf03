"""SIGTERM and Ctrl-C; what a whole process does is in test_kill.py."""

import os
import signal
import threading

import pytest

from convattn.training import ImageClassification, Terminated, feeding, run
from convattn.training import workdir as files
from convattn.training.checkpoint_folder import newest_verified
from convattn.training.checkpoints import Checkpoints
from convattn.training.signals import catching


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
  monkeypatch.setattr(feeding, "PATIENCE", 0.1)


def _run(toy, folder, task):
  return run(toy.EXPERIMENT, folder, model=toy.Toy(), task=task)


def _signalled(toy, step, number):
  """The toy's task; the signal arrives while the batch of `step` is being made by the feeder, and never comes."""

  def interrupt():
    if threading.current_thread() is not threading.main_thread():  # where the first batch is only looked at
      os.kill(os.getpid(), number)
      threading.Event().wait()

  return toy.Interrupted(toy.dataset(), toy.EXPERIMENT).at(step, interrupt)


@pytest.mark.parametrize("number, kind", [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_ends_the_run_with_a_checkpoint_and_the_next_one_ends_as_if_there_had_been_none(
  toy, finished, tmp_path, number, kind
):
  handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
  with pytest.raises(kind) as raised:
    _run(toy, tmp_path, _signalled(toy, 7, number))
  assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
  with Checkpoints(tmp_path / files.CHECKPOINTS, toy.EXPERIMENT.checkpoint) as checkpoints:
    step = checkpoints.latest_step()
  assert step in (5, 6, 7)  # between two of the checkpoints that are due, as far as the batches went
  message = raised.value.message if kind is Terminated else str(raised.value)
  assert f"stopped after step {step} of 24" in message
  if kind is Terminated:
    assert raised.value.code == 0
  _run(toy, tmp_path, ImageClassification(toy.dataset(), toy.EXPERIMENT))
  assert toy.lines(tmp_path) == toy.lines(finished[0])
  assert toy.result(tmp_path) == toy.result(finished[0])


def test_before_the_first_update_there_is_nothing_to_save(toy, tmp_path):
  with pytest.raises(Terminated) as raised:
    _run(toy, tmp_path, _signalled(toy, 0, signal.SIGTERM))
  assert "before the first step" in raised.value.message
  assert newest_verified(tmp_path / files.CHECKPOINTS) is None


def test_a_second_interruption_is_obeyed_at_once():
  with catching() as stop:
    os.kill(os.getpid(), signal.SIGINT)
    while not stop.is_asked():
      pass
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), signal.SIGINT)


def test_in_another_thread_nothing_is_caught():
  before, seen = signal.getsignal(signal.SIGTERM), []

  def inside():
    with catching() as stop:
      seen.append((signal.getsignal(signal.SIGTERM), stop.is_due(1)))

  thread = threading.Thread(target=inside)
  thread.start()
  thread.join()
  assert seen == [(before, False)]
