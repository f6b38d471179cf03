"""The scripts in benchmarks/, reduced."""

import dataclasses
import pathlib
import runpy

import numpy as np
import pytest

from convattn import data

BENCHMARKS = pathlib.Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def transfer():
  return runpy.run_path(str(BENCHMARKS / "transfer.py"))


def test_the_two_runs_of_a_pair_differ_in_their_first_weights_and_rate_alone(transfer, tmp_path):
  for seed in (0, 3):
    pretrain, trained, drawn = transfer["experiments"](seed, tmp_path, {"trained": 0.1, "drawn": 0.2}).values()
    assert (trained.init_from, drawn.init_from) == (str(tmp_path / f"pretrain-{seed}"), "")
    assert (trained.optimizer.peak_learning_rate, drawn.optimizer.peak_learning_rate) == (0.1, 0.2)
    rate = dataclasses.replace(drawn.optimizer, peak_learning_rate=0.1)
    assert dataclasses.replace(drawn, init_from=trained.init_from, optimizer=rate) == trained
    assert {pretrain.seed, trained.seed, trained.data.subset_seed} == {seed}
  assert (pretrain.data.classes, drawn.data.classes, drawn.data.images_per_class) == ("0-4", "5-9", 10)
  assert drawn.data.image_size != 8
  assert not {0, 1, 2, 3, 4} & set(transfer["TUNING_SEEDS"])
  assert set(transfer["RATES"].values()) <= set(transfer["TRIED"])


@pytest.mark.slow
def test_trained_weights_are_worth_some_points(transfer, tmp_path, capsys):
  gains = transfer["table"]([0], tmp_path)
  assert gains.shape == (1,)
  assert np.all(gains > 0)
  shown = capsys.readouterr().out.splitlines()
  assert len(shown) == 4
  assert shown[2].startswith("| 0 | ")
  assert shown[3].startswith("| mean | ")


def test_only_the_labels_to_learn_from_are_shuffled():
  overlays = runpy.run_path(str(BENCHMARKS / "overlays.py"))
  dataset = data.load("digits")
  other = overlays["shuffled"](dataset, seed=1)
  before, after = dataset.labelled["train"], other.labelled["train"]
  np.testing.assert_array_equal(np.sort(after.labels), np.sort(before.labels))
  assert 0.05 < np.mean(after.labels == before.labels) < 0.15
  for number in (0, 700, len(before) - 1):
    np.testing.assert_array_equal(after[number]["image"], before[number]["image"])
    assert after[number]["label"] == after.labels[number]
  assert other.validation is dataset.validation and other.test is dataset.test


@pytest.mark.slow
def test_overlays_are_asked_on_a_run_of_a_few_steps(tmp_path, capsys):
  main = runpy.run_path(str(BENCHMARKS / "overlays.py"))["main"]
  main(["--steps=2", "--images=2", f"--workdir={tmp_path}"])
  rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
  names = ["class map", "Grad-CAM", "occlusion", "rollout"]
  gains = [f"{name}, gain over the centre" for name in names]
  assert rows == ["", *names, "random", "centre", "", *gains, "", *names, "centre"]
