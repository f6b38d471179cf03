"""SIGTERM and Ctrl-C; what a whole process does is in test_kill.py."""

import os
import signal
import threading

import pytest

from convattn.training import ImageClassification, Terminated, feeding, run, workdir as files
from convattn.training.checkpoint_folder import newest_verified
from convattn.training.checkpoints import Checkpoints
from convattn.training.signals import catching
from convattn.training.task import Ranking

pytestmark = pytest.mark.usefixtures("shared_programs")

RANKING = Ranking("validation/accuracy")


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
  with Checkpoints(tmp_path / files.CHECKPOINTS, toy.EXPERIMENT.checkpoint, RANKING) as checkpoints:
    step = checkpoints.latest_step()
  assert step in (5, 6, 7)  # between two of the checkpoints that are due, as far as the batches went
  message = raised.value.message if kind is Terminated else str(raised.value)
  assert f"stopped after step {step} of 24" in message
  if kind is Terminated:
    assert raised.value.code == 0
  _run(toy, tmp_path, ImageClassification(toy.dataset(), toy.EXPERIMENT))
  assert toy.lines(tmp_path) == toy.lines(finished[0])
  assert toy.result(tmp_path) == toy.result(finished[0])


class Signalled(ImageClassification):
  """A signal arrives while the batch numbered `at` of `split` is being made, counted over all evaluations from 1."""

  def during(self, split, at):
    object.__setattr__(self, "made", {"validation": 0, "test": 0})
    object.__setattr__(self, "_place", (split, at))
    return self

  def evaluation_rows(self, split, rows):
    for batch in super().evaluation_rows(split, rows):
      self.made[split] += 1
      if (split, self.made[split]) == self._place:
        os.kill(os.getpid(), signal.SIGTERM)
      yield batch


@pytest.fixture(scope="module")
def short(toy, tmp_path_factory):
  """(experiment, workdir) of a run of 16 steps whose first checkpoint, of step 4, is by far the best."""
  experiment, folder = toy.short(16), tmp_path_factory.mktemp("short")
  run(experiment, folder, model=toy.Toy(), task=ImageClassification(toy.dataset(), experiment))
  assert toy.result(folder)["best/step"] == 4
  return experiment, folder


def _left(toy, experiment, folder, split, at):
  """A run that is asked to end while a batch of an evaluation is made, and does not ask for another."""
  task = Signalled(toy.dataset(), experiment).during(split, at)
  with pytest.raises(Terminated) as raised:
    run(experiment, folder, model=toy.Toy(), task=task)
  assert task.made[split] == at
  return raised.value.message


def _ends_like(toy, short, folder):
  experiment, straight = short
  run(experiment, folder, model=toy.Toy(), task=ImageClassification(toy.dataset(), experiment))
  assert toy.lines(folder) == toy.lines(straight)
  assert toy.result(folder) == toy.result(straight)


# A validation takes 3 batches for the weights and 3 for their average, and one is looked at before the run.
@pytest.mark.parametrize(
  ("split", "at", "step"),
  [
    ("validation", 3, 4),
    pytest.param("validation", 1 + 5, 4, marks=pytest.mark.slow),
    pytest.param("validation", 1 + 19, 16, marks=pytest.mark.slow),
    ("test", 3, 16),
  ],
)
def test_an_evaluation_is_left_and_done_again_by_the_next_run_which_ends_as_if_there_had_been_none(
  toy, short, tmp_path, split, at, step
):
  assert f"stopped after step {step} of 16, which is saved" in _left(toy, short[0], tmp_path, split, at)
  assert step not in {line["step"] for line in toy.lines(tmp_path)}
  assert newest_verified(tmp_path / files.CHECKPOINTS).name == str(step)
  _ends_like(toy, short, tmp_path)


@pytest.mark.slow
def test_a_score_that_came_after_its_checkpoint_counts_in_every_later_run(toy, short, tmp_path):
  messages = [
    _left(toy, short[0], tmp_path, "validation", 3),
    _left(toy, short[0], tmp_path, "validation", 1 + 4),  # the same evaluation, done again
    _left(toy, short[0], tmp_path, "validation", 1 + 6 + 1),  # the next one: the first has its line, but no checkpoint
    _left(toy, short[0], tmp_path, "validation", 1 + 6 + 1),
  ]
  assert [message.split(" of ")[0] for message in messages] == [f"stopped after step {step}" for step in (4, 4, 8, 12)]
  _ends_like(toy, short, tmp_path)


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
      seen.append((signal.getsignal(signal.SIGTERM), stop.is_due()))

  thread = threading.Thread(target=inside)
  thread.start()
  thread.join()
  assert seen == [(before, False)]
