"""Numbers that are not finite: which updates they were, and what is left on the disk."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from convattn.training import ImageClassification, run, workdir as files
from convattn.training.checkpoints import Checkpoints
from convattn.training.config import Compute
from convattn.training.task import Ranking
from convattn.training.writer import read_metrics

pytestmark = pytest.mark.usefixtures("shared_programs", "one_device")

RANKING = Ranking("validation/accuracy")


class Poisoned(ImageClassification):
  """Losses are nan where an image is all white, which those of some steps are."""

  def at(self, *steps):
    object.__setattr__(self, "_steps", steps)
    return self

  def train_rows(self, step, rows):
    batch = super().train_rows(step, rows)
    return {**batch, "image": np.full_like(batch["image"], 255)} if step in self._steps else batch

  def prepare_train(self, key, batch):
    inputs, targets = super().prepare_train(key, batch)
    return inputs, targets * np.float32(math.nan) ** (batch["image"].min() == 255)


def _run(toy, folder, *steps, **changes):
  experiment = dataclasses.replace(toy.EXPERIMENT, **changes)
  return run(experiment, folder, model=toy.Toy(), task=Poisoned(toy.dataset(), experiment).at(*steps))


def _steps(toy, folder):
  with Checkpoints(folder / files.CHECKPOINTS, toy.EXPERIMENT.checkpoint, RANKING) as checkpoints:
    return checkpoints.steps()


@pytest.mark.parametrize("log_every", [2, 24])  # whether a line of metrics or a checkpoint comes first
def test_the_run_stops_names_the_update_and_leaves_the_last_good_checkpoint_newest(toy, tmp_path, log_every):
  with pytest.raises(FloatingPointError) as raised:
    _run(toy, tmp_path, 9, log_every=log_every)
  message = str(raised.value)
  assert "not finite at step" in message
  assert " 10" in message.partition("(")[0]  # the tenth, counted from 1; those after it, up to the next look, follow
  assert "the checkpoint of step 8 in" in message
  assert _steps(toy, tmp_path)[-1] == 8


def test_updates_may_be_left_out_up_to_a_limit(toy, tmp_path):
  state = _run(toy, tmp_path, 9, 14, max_skipped_steps=2)
  assert int(state.step) == 24
  assert int(state.nonfinite["count"]) == 2
  lines = read_metrics(tmp_path / files.METRICS)
  assert {line["step"]: line["skipped_steps"] for line in lines if "skipped_steps" in line} == {
    5: 0,
    10: 1,
    15: 2,
    20: 2,
    24: 2,
  }
  assert all(line["train/loss"] is not None for line in lines if "train/loss" in line)
  with pytest.raises(FloatingPointError, match=r"at steps 10, 15 \(2 in all, max_skipped_steps is 1\)"):
    _run(toy, tmp_path / "fewer", 9, 14, max_skipped_steps=1)


def test_debug_nans_stops_at_the_operation(toy, tmp_path):
  with pytest.raises(FloatingPointError, match=r"\(nan\) encountered in"):
    _run(toy, tmp_path, 1, compute=Compute(debug_nans=True))

  assert not jax.config.jax_debug_nans
