"""Runs side by side: those that differ in their seed only are one group, and what differs is told."""

import dataclasses
import json
import statistics

import pytest

from convattn.errors import UserError
from convattn.study.comparison import compare, differing_settings, read_run, shown_value
from convattn.training.config import Data, Experiment, Model, Optimizer
from convattn.training.workdir import Recorded, write_config

BASE = Experiment(num_steps=4, model=Model("coatnet_mini_8"))


def write_run(folder, experiment=BASE, accuracy=0.5, ended=True, metadata="digits", history=()):
  """A workdir with two lines of metrics, and a result."""
  folder.mkdir(parents=True)
  digests = {"train": str(experiment.seed), "validation": metadata}
  identity = {"model": {"class": "CoAtNet"}, "data": {"metadata": metadata, "sha256": digests}}
  write_config(folder, Recorded(experiment, identity, list(history)))
  lines = [
    {"step": 2, "train/loss": 2.0, "validation/accuracy": accuracy / 2, "tflop_per_second": 0.25},
    {"step": 4, "train/loss": 1.0, "validation/accuracy": accuracy, "validation/count": 9, "tflop_per_second": 0.5},
  ]
  (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[: 1 + ended]))
  if ended:
    result = {"step": 4, "seconds": 10 * accuracy, "images_per_second": 8.0, "state_sha256": "ab" * 32}
    (folder / "result.json").write_text(json.dumps({**result, "test/accuracy": accuracy, "test/count": 9}))
  return folder


def changed(**values):
  return dataclasses.replace(BASE, **values)


def test_runs_that_differ_in_their_seed_are_one_group(tmp_path):
  accuracies = (0.5, 0.75, 0.625)
  folders = [write_run(tmp_path / str(seed), changed(seed=seed), accuracy) for seed, accuracy in enumerate(accuracies)]
  (group,) = compare(folders)
  assert (group.name, group.seeds, dict(group.settings)) == ("coatnet_mini_8", (0, 1, 2), {})
  found = group.scores()
  assert set(found) == {"test/accuracy", "validation/accuracy"}  # of the last weights, without numbers of images
  assert found["test/accuracy"].mean == pytest.approx(0.625)
  assert found["test/accuracy"].deviation == pytest.approx(statistics.stdev(accuracies))
  assert found["validation/accuracy"] == found["test/accuracy"]
  assert group.speed()["seconds"].mean == pytest.approx(6.25)
  assert group.speed()["tflop_per_second"].mean == 0.375  # the median of a run's lines
  assert differing_settings([group]) == []


def test_groups_are_called_by_what_tells_them_apart(tmp_path):
  rate = changed(optimizer=Optimizer(peak_learning_rate=0.25), model=Model("layout_cccc_28"))
  folders = [write_run(tmp_path / "a"), write_run(tmp_path / "b", rate), write_run(tmp_path / "c", changed(seed=3))]
  first, second = compare(folders)
  assert first.name == f"model coatnet_mini_8, peak_learning_rate {Optimizer().peak_learning_rate:g}"
  assert second.name == "model layout_cccc_28, peak_learning_rate 0.25"
  assert [run.folder.name for run in first.runs] == ["a", "c"]
  names = dict(differing_settings([first, second]))
  assert names["optimizer.peak_learning_rate"] == (Optimizer().peak_learning_rate, 0.25)
  assert set(names) == {"model.name", "optimizer.peak_learning_rate"}
  assert second.scores()["test/accuracy"].deviation is None


def test_settings_that_leave_results_as_they_are_make_no_group(tmp_path):
  other = changed(seed=1, log_every=3, data=Data(dir="/elsewhere", workers=2))
  assert len(compare([write_run(tmp_path / "a"), write_run(tmp_path / "b", other)])) == 1


def test_other_data_and_what_changed_on_the_way_do(tmp_path):
  change = {"step": 2, "changed": {"optimizer.beta1": {"from": 0.9, "to": 0.5}}}
  folders = [
    write_run(tmp_path / "a"),
    write_run(tmp_path / "b", changed(seed=1), metadata="others"),
    write_run(tmp_path / "c", changed(seed=2), history=[change]),
  ]
  groups = compare(folders)
  assert len(groups) == 3
  assert ("after step 2", (None, None, "optimizer.beta1 from 0.9 to 0.5")) in differing_settings(groups)
  alike = compare(folders[:2])
  assert [group.name for group in alike] == [str(folder) for folder in folders[:2]]  # no setting tells them apart


def test_a_run_that_goes_on_has_no_final_figures(tmp_path):
  (group,) = compare([write_run(tmp_path / "a"), write_run(tmp_path / "b", changed(seed=1), 0.9, ended=False)])
  assert group.scores()["test/accuracy"].count == 1
  assert group.scores()["test/accuracy"].mean == 0.5
  assert group.speed()["tflop_per_second"].count == 2


def test_what_cannot_be_compared_is_one_line(tmp_path):
  run, again = write_run(tmp_path / "a"), write_run(tmp_path / "b")
  with pytest.raises(UserError, match=r"a and .*b are the same run, with one seed; leave out all but one"):
    compare([run, again])
  with pytest.raises(UserError, match=r"two or more workdirs, each once; .*/a is given twice"):
    compare([run, again, tmp_path / "b" / ".." / "a"])
  with pytest.raises(UserError, match="two or more workdirs, each once; got 1"):
    compare([run])
  with pytest.raises(UserError, match="holds no run .config.json is missing.: name a workdir"):
    read_run(tmp_path)
  (tmp_path / "study.json").write_text("{}")
  with pytest.raises(UserError, match="it holds a study; its runs are the folders .*/runs/SETTING/seed_N"):
    read_run(tmp_path)


def test_values_are_short():
  assert [shown_value(each) for each in (None, "", 0.25, 1e-05, True, "max", 3)] == [
    "–", "–", "0.25", "1e-05", "True", "max", "3",
  ]  # fmt: skip
