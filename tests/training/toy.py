"""A model and a data set small enough to train in a second; run as a script, a run that a test can kill.

usage: python toy.py WORKDIR [STALL_STEP]: with STALL_STEP, batch STALL_STEP (from 0) never comes.
"""

import contextlib
import dataclasses
import json
import sys
import threading

import flax.linen as nn
import jax
import numpy as np

from convattn.data import ArraySource, Dataset
from convattn.models import CoAtNet, Run, Spec, Stage
from convattn.training import (
  Augmentation,
  Checkpoint,
  Experiment,
  ImageClassification,
  Loss,
  Optimizer,
  build,
  run,
  runs,
  sharding,
)
from convattn.training.writer import TIMES, read_metrics


class Toy(nn.Module):
  """Convolution, BatchNorm, dropout, dense."""

  num_classes: int = 3
  dropout: float = 0.1

  @nn.compact
  def __call__(self, x, *, train):
    x = nn.Conv(6, (3, 3), use_bias=False, name="conv")(x)  # BatchNorm would leave a bias only rounding for a gradient
    x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
    x = nn.gelu(x).mean((1, 2))
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return nn.Dense(self.num_classes, name="head")(x)


def coatnet(**fields):
  """One MBConv and one Transformer block."""
  stages = (Stage((Run("C", 1, 8),), 2), Stage((Run("T", 1, 8),), 1))
  return CoAtNet(Spec(stages, (4, 4), stem_stride=1, head_size=4), **{"num_classes": 3, **fields})


def dataset(train=37, validation=11, test=13):
  """Images [5, 7, 2] of three classes that differ in the brightness of one channel."""
  draws = np.random.default_rng(0)

  def source(size):
    labels = draws.integers(0, 3, size)
    images = draws.integers(0, 120, (size, 5, 7, 2))
    images[..., 0] += 60 * labels[:, None, None]
    return ArraySource(images.astype(np.uint8), labels)

  return Dataset(
    train=source(train),
    validation=source(validation),
    test=source(test),
    class_names=("dark", "grey", "light"),
    image_shape=(5, 7, 2),
    mean=(0.45, 0.25),
    std=(0.25, 0.15),
  )


EXPERIMENT = Experiment(
  num_steps=24,
  batch_size=8,
  eval_batch_size=4,
  log_every=5,
  eval_every=4,
  ema_decay=0.8,
  augmentation=Augmentation(crop_padding=1, flip=True, mixup_alpha=0.3),
  loss=Loss(label_smoothing=0.1),
  optimizer=Optimizer(peak_learning_rate=0.02, warmup_steps=3),
  checkpoint=Checkpoint(every=4),
)


def short(num_steps):
  """The experiment with fewer steps and no warm-up."""
  # At a constant rate, which makes it one program for every number of steps.
  return dataclasses.replace(
    EXPERIMENT, num_steps=num_steps, optimizer=Optimizer(peak_learning_rate=0.02, schedule="constant")
  )


_PROGRAMS = {}
_TRACED = ("prepare_train", "prepare_eval", "losses", "metric_sums")


def shared_build(experiment, model, task, mesh):
  """`build`, once for all that the traced functions are made of: they are pure, so that they can serve many runs."""
  default = Experiment()
  unseen = {name: getattr(default, name) for name in ("seed", "init_from", "eval_every", "checkpoint", "data")}
  unseen["max_skipped_steps"] = min(experiment.max_skipped_steps, 1)  # whether any may be
  if experiment.optimizer.schedule == "constant":
    unseen["num_steps"] = 1
  settings = tuple(repr(dataclasses.replace(each, **unseen)) for each in (experiment, task.experiment))
  functions = tuple(getattr(type(task), name) for name in _TRACED)
  data = json.dumps({**task.metadata, "class_names": task.num_classes, "num_examples": 0}, sort_keys=True)
  key = (*settings, model, *functions, task.metric_names, data, mesh, sharding.SMALLEST_SPLIT)
  if key not in _PROGRAMS:
    _PROGRAMS[key] = build(experiment, model, task, mesh)
  return _PROGRAMS[key]


def drawing_build(experiment, model, task, mesh):
  """A program whose step draws another state: what is read from a checkpoint need not have been trained."""
  program = shared_build(experiment, model, task, mesh)

  def train_step(state, batch, key):
    draws = np.random.default_rng(int(state.step))

    def draw(leaf):
      if leaf.dtype != np.float32:
        return leaf
      return jax.device_put(draws.uniform(0.1, 0.3, leaf.shape).astype(np.float32), leaf.sharding)

    parts = ("params", "model_state", "opt_state", "ema", "window")
    return state.replace(step=state.step + 1, **{part: jax.tree.map(draw, getattr(state, part)) for part in parts})

  return dataclasses.replace(program, train_step=train_step)


@contextlib.contextmanager
def sharing(make=shared_build):
  """Within it `run` takes its program from there."""
  before, runs.build = runs.build, make
  try:
    yield
  finally:
    runs.build = before


def lines(folder):
  """metrics.jsonl without its times."""
  return [{k: v for k, v in line.items() if k not in TIMES} for line in read_metrics(folder / "metrics.jsonl")]


def result(folder):
  """result.json without its times."""
  return {k: v for k, v in json.loads((folder / "result.json").read_text()).items() if k not in TIMES}


def snapshot(folder):
  """When each file was last written."""
  return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


class Interrupted(ImageClassification):
  """Calls `interrupt` instead of giving out the batch of one step."""

  _step = None  # the class's own, which a copy made by dataclasses.replace has too

  def at(self, step, interrupt):
    object.__setattr__(self, "_step", step)
    object.__setattr__(self, "_interrupt", interrupt)
    return self

  def train_rows(self, step, rows):
    if step == self._step:
      self._interrupt()
    return super().train_rows(step, rows)


if __name__ == "__main__":
  experiment = dataclasses.replace(EXPERIMENT, log_every=4)
  stall_step = int(sys.argv[2]) if len(sys.argv) > 2 else None
  task = Interrupted(dataset(), experiment).at(stall_step, threading.Event().wait)
  run(experiment, sys.argv[1], model=Toy(), task=task)
