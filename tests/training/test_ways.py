"""docs/architecture.md names every file that a batch and a setting pass through, as a run really enters them."""

import contextlib
import dataclasses
import inspect
import re
import sys
import threading
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest

from convattn.commands import main
from convattn.data import Dataset
from convattn.training import Data, Experiment, ImageClassification, Optimizer, run, runs
from convattn.training.classification import load_dataset

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "convattn"


def table(title):
  """The files in the table below a heading of the page, in order, without those in brackets."""
  page = (ROOT / "docs" / "architecture.md").read_text()
  (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## )", page, re.MULTILINE | re.DOTALL)
  rows = [re.sub(r"\(.*?\)", "", line) for line in section.splitlines() if line.startswith("|")]
  return list(dict.fromkeys(name for row in rows for name in re.findall(r"`([\w/]+\.py)`", row)))


@contextlib.contextmanager
def entered(holds):
  """Fills a set with the files of the package of which a function is given, hands on or returns what `holds` means.

  But for interceptors of modules, which are of the layers.
  """
  files = set()

  def note(frame):
    code = frame.f_code
    if code.co_filename.startswith(f"{PACKAGE}/") and "<locals>.intercept" not in code.co_qualname:
      files.add(str(Path(frame.f_code.co_filename).relative_to(PACKAGE)))

  def look(frame, event, value):
    if not frame.f_code.co_filename.startswith(f"{PACKAGE}/"):
      return
    if event == "call" and any(map(holds, frame.f_locals.values())):
      note(frame)
      note(frame.f_back)
    elif event == "return" and holds(value):
      note(frame)

  before = sys.getprofile()
  sys.setprofile(look)
  threading.setprofile(look)
  try:
    yield files
  finally:
    sys.setprofile(before)
    threading.setprofile(before)


class Plain(nn.Module):
  """Not of the package."""

  @nn.compact
  def __call__(self, images, *, train):
    return nn.Dense(10)(images.reshape(len(images), -1))


def is_batch(value):
  """A digit or several, as arrays, traced or not, or a batch or a data set of them; not the example of a model."""
  if isinstance(value, tuple):
    return any(map(is_batch, value))
  if isinstance(value, dict):
    return "image" in value
  if isinstance(value, np.ndarray | jax.Array):
    return value.shape[-3:] == (8, 8, 1) and value.shape[:-3] != (1,)
  return isinstance(value, Dataset)


BESIDE_THE_BATCHES_WAY = {
  "data/selection.py": "is asked for a part of the data set, and hands back the whole",
  "data/overview.py": "tells its numbers",
  "training/runs.py": "has the first batch asked about before the first update",
  "training/task_checks.py": "asks",
  "training/description.py": "and makes its digest",
  "training/state.py": "by this",
  "training/sharding.py": "which has it fetched to the host",
  "training/program.py": "jits the step, and hands on what it is given",
  "training/progress.py": "counts the work of a step with such a batch",
}


@pytest.mark.usefixtures("one_device")
def test_a_batch_passes_the_nine_files_that_the_page_names(tmp_path):
  experiment = Experiment(num_steps=2, batch_size=4, data=Data(dir=str(tmp_path / "data")))
  with entered(is_batch) as files:
    task = ImageClassification(load_dataset(experiment), experiment)
    task = dataclasses.replace(task, evaluation_splits=())
    run(experiment, tmp_path / "run", model=Plain(), task=task)
  named = table("A batch, from the disk to its gradient")
  assert files - BESIDE_THE_BATCHES_WAY.keys() == {*named}
  assert files >= BESIDE_THE_BATCHES_WAY.keys()
  assert len(named) <= 9


class _Made(Exception):
  pass


def is_setting(value):
  """0.95, its text, an option that has it, or the group of settings that it is in."""
  if isinstance(value, list | tuple):
    return any(map(is_setting, value))
  if isinstance(value, Optimizer):
    return value.beta1 == 0.95
  return (type(value) is str and value in ("0.95", "--config.optimizer.beta1=0.95")) or (
    type(value) is float and value == 0.95
  )


BESIDE_THE_SETTINGS_WAY = {
  "commands/__init__.py": "finds the command by its name",
  "fields.py": "is beside the rooms, as errors.py and files.py",
}


def test_a_setting_passes_the_six_files_that_the_page_names(tmp_path, monkeypatch):
  seen = []

  def made(*_, **settings):
    seen.append(settings["b1"])
    raise _Made

  monkeypatch.setattr("optax.adamw", made)
  monkeypatch.setattr(runs, "unused_gpu_warning", lambda: None)
  arguments = [f"--workdir={tmp_path / 'run'}", f"--config.data.dir={tmp_path}", "--config.optimizer.beta1=0.95"]
  with entered(is_setting) as files, pytest.raises(_Made):
    main(["train", *arguments])
  assert seen == [0.95]
  named = {*table("A setting, from the command line to its effect")}
  home = inspect.getfile(Optimizer)  # where the field is; what a dataclass runs has no file
  assert home == str(PACKAGE / "training/config.py") and "training/config.py" in named
  assert files | {"training/config.py"} == named | BESIDE_THE_SETTINGS_WAY.keys()
  assert len(named - BESIDE_THE_SETTINGS_WAY.keys()) <= 6
