"""Workdirs that an earlier version left, finished and unfinished: they are read, and they go on.

workdirs/ holds two small ones, written at commit dfa6c3e by `training.run(EXPERIMENT, folder, model=MODEL)`; the second
was stopped by SIGTERM after step 12.
"""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from convattn import training
from convattn.models import CoAtNet, Run, Spec, Stage
from convattn.training.config import Augmentation, Checkpoint, Data, Experiment, Optimizer

pytestmark = pytest.mark.usefixtures("one_device")

WORKDIRS = Path(__file__).with_name("workdirs")
MODEL = CoAtNet(
  Spec(
    (Stage((Run("C", 1, 8),), 2), Stage((Run("T", 1, 16),), 1)),
    (4, 8),
    stem_stride=1,
    head_size=8,
    stochastic_depth=0.2,
  ),
  num_classes=10,
)
EXPERIMENT = Experiment(
  num_steps=24,
  batch_size=32,
  eval_batch_size=180,
  log_every=4,
  eval_every=8,
  data=Data(images_per_class=20),
  ema_decay=0.9,
  max_skipped_steps=1,
  augmentation=Augmentation(crop_padding=1, mixup_alpha=0.1),
  optimizer=Optimizer(peak_learning_rate=2e-2, warmup_steps=4, weight_decay=0.5, layer_decay=0.9),
  checkpoint=Checkpoint(every=8, keep_newest=1, keep_best=0),
)


@pytest.fixture
def workdir(request, tmp_path):
  """A copy of one of the workdirs."""
  return shutil.copytree(WORKDIRS / request.param, tmp_path / request.param)


def lines(folder):
  return {line["step"]: line for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())}


@pytest.mark.parametrize("workdir", ["finished"], indirect=True)
def test_a_finished_run_is_read(workdir, capsys):
  before = json.loads((workdir / "result.json").read_text())
  state = training.run(EXPERIMENT, workdir, model=MODEL)
  assert training.sha256(state.params) == before["params_sha256"]
  assert training.sha256(state) == before["state_sha256"]
  assert "holds a finished run of these settings" in capsys.readouterr().out
  assert json.loads((workdir / "result.json").read_text()) == before


@pytest.mark.parametrize("workdir", ["unfinished"], indirect=True)
def test_an_unfinished_run_goes_on_and_ends_where_it_would_have(workdir):
  training.run(EXPERIMENT, workdir, model=MODEL)
  found, wanted = lines(workdir), lines(WORKDIRS / "finished")
  earlier = lines(WORKDIRS / "unfinished")
  assert list(found) == list(wanted) == [4, 8, 12, 16, 20, 24]
  assert all(found[step] == earlier[step] for step in earlier)
  # Bit for bit on the machine that wrote them; elsewhere the compiler orders sums otherwise. A rate wrong by 5 % in
  # one step changes an update's norm by 1e-2, a gradient's by 5e-4.
  for step in (16, 20, 24):
    assert set(wanted[step]) <= set(found[step])
    trained = {name: value for name, value in wanted[step].items() if name.startswith("train/")}
    assert {name: found[step][name] for name in trained} == pytest.approx(trained, rel=1e-4), step
  # A bias in front of BatchNorm has rounding alone for a gradient, which Adam makes an update of: evaluation sees it.
  one, other = (json.loads((folder / "result.json").read_text()) for folder in (workdir, WORKDIRS / "finished"))
  assert one["test/loss"] == pytest.approx(other["test/loss"], rel=1e-3)
  assert set(one) == set(other)


@pytest.mark.parametrize(("workdir", "step"), [("finished", 24), ("unfinished", 12)], indirect=["workdir"])
def test_a_checkpoint_is_restored(workdir, step):
  restored = training.restore(workdir)
  assert (restored.step, restored.averaged, restored.experiment) == (step, True, EXPERIMENT)
  assert restored.model == MODEL
  assert restored.class_names == tuple("0123456789")
  images = np.zeros((2, 8, 8, 1), np.float32)
  assert jax.eval_shape(lambda x: restored.model.apply(restored.variables, x, train=False), images).shape == (2, 10)


@pytest.mark.parametrize("workdir", ["finished", "unfinished"], indirect=True)
def test_a_workdir_of_other_settings_is_refused(workdir):
  other = Experiment(**{**vars(EXPERIMENT), "seed": 1})
  with pytest.raises(ValueError, match="seed: 0 there, 1 now"):
    training.run(other, workdir, model=MODEL)
