"""A study from its first run to its table: in which order, from where, what is skipped, what a fault leaves."""

import dataclasses
import errno
import json
import re
import shutil

import numpy as np
import pytest

from convattn.errors import UserError
from convattn.study import run, running
from convattn.study.plan import Run, experiment_of, runs_of
from convattn.study.scores import read_score
from convattn.training import restore_classifier
from convattn.training.classification import load_dataset
from convattn.training.signals import Terminated

pytestmark = pytest.mark.usefixtures("one_device", "shared_programs")


def timeless(value):
  """JSON without what tells how long something took."""
  if isinstance(value, dict):
    return {name: timeless(each) for name, each in value.items() if name != "seconds"}
  return [timeless(each) for each in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def done(toy_study, one_device, shared_programs, tmp_path_factory):
  """(folder, study, result) of a study that was not interrupted."""
  folder, study = tmp_path_factory.mktemp("studies") / "study", toy_study("tuned")
  return folder, study, run(study, folder)


@pytest.fixture
def copy(done, tmp_path):
  """A folder with the same files, in another place."""
  return shutil.copytree(done[0], tmp_path / "copy")


def refuse_to_train(*_, **__):
  raise AssertionError("nothing was to be trained")


def test_each_run_stands_behind_what_it_needs(toy_study):
  names = [each.name for each in runs_of(toy_study("tuned"))]
  assert names == [
    "narrow/tuning_0.003", "narrow/tuning_0.03", "narrow/seed_0", "wide/tuning_0.003", "wide/tuning_0.03",
    "wide/seed_0", "begun/seed_0", "drawn/tuning_0.003", "drawn/tuning_0.03", "drawn/seed_0", "narrow/seed_1",
    "wide/seed_1", "begun/seed_1", "drawn/seed_1",
  ]  # fmt: skip
  backwards = toy_study(settings=toy_study().settings[::-1], baselines=("narrow", "drawn"))
  names = [each.name for each in runs_of(backwards)]
  assert names.index("narrow/seed_0") < names.index("begun/seed_0")
  assert len(names) == len(set(names)) == 8


def test_a_run_has_a_name_for_the_disk_and_one_for_people():
  tuning = Run("a", 1000, "layout_cctt_28")
  assert (tuning.name, tuning.title) == ("a/tuning_layout_cctt_28", "a tuning, layout_cctt_28")
  assert (Run("b_1", 3).name, Run("b_1", 3).title) == ("b_1/seed_3", "b_1 seed 3")


def test_an_experiment_is_the_base_with_its_changes(toy_study, tmp_path):
  study = toy_study("tuned", seeded=("seed", "data.subset_seed"))
  chosen = {"narrow": 0.003, "wide": 0.03, "drawn": 0.03}
  found = experiment_of(study, Run("begun", 1), tmp_path, chosen)
  data = dataclasses.replace(study.base.data, images_per_class=3, subset_seed=1)
  place = str(tmp_path / "runs" / "narrow" / "seed_1")
  assert found == dataclasses.replace(study.base, seed=1, data=data, init_from=place)
  tuning = experiment_of(study, Run("wide", 1000, 0.003), tmp_path, {})
  assert (tuning.model.name, tuning.seed, tuning.num_steps) == ("plain_wide", 1000, 6)
  assert (tuning.optimizer.peak_learning_rate, tuning.init_from) == (0.003, "")
  assert experiment_of(study, Run("narrow", 0), tmp_path, chosen).optimizer.peak_learning_rate == 0.003


def test_a_run_is_what_the_result_says(done):
  folder, _, result = done
  assert result == json.loads((folder / "study.json").read_text())
  assert result["finished"] and result["runs"] == {"all": 14, "ended": 14}
  rows = {row["name"]: row for row in result["settings"]}
  for name, seed in (("wide", 1), ("begun", 0)):
    place = folder / "runs" / name / f"seed_{seed}"
    restored = restore_classifier(place)
    dataset = load_dataset(restored.experiment, restored.preprocessing)
    logits = restored.model.apply(
      restored.variables,
      (dataset.test.images / np.float32(255) - np.float32(dataset.mean)) / np.float32(dataset.std),
      train=False,
    )
    right = np.asarray(logits).argmax(1) == dataset.test.labels
    assert rows[name]["test"]["seeds"][str(seed)] == right.mean()
    np.testing.assert_array_equal(read_score(folder, Run(name, seed)).correct, right)
    assert json.loads((place / "result.json").read_text())["test/accuracy"] == pytest.approx(right.mean(), abs=1e-6)
  assert rows["wide"]["images"] == {"train": 30, "test": 360}
  assert rows["begun"]["images"] == {"train": 30, "test": 360}
  assert json.loads((folder / "runs/begun/seed_0/config.json").read_text())["init_from"].endswith("/runs/narrow/seed_0")


def test_the_candidate_that_validates_best_is_taken_for_the_seeds(done):
  folder, _, result = done
  for name, tried in result["tuning"]["settings"].items():
    chosen = max(tried["validation"], key=tried["validation"].get)
    assert str(tried["chosen"]) == chosen
    config = json.loads((folder / "runs" / name / "seed_1" / "config.json").read_text())
    assert config["optimizer"]["peak_learning_rate"] == tried["chosen"]
  assert set(result["tuning"]["settings"]) == {"narrow", "wide", "drawn"}
  assert len({tried["chosen"] for tried in result["tuning"]["settings"].values()}) == 2  # else this says little


def test_what_is_done_is_not_done_again(done, copy, monkeypatch, capsys):
  monkeypatch.setattr(running, "train", refuse_to_train)
  monkeypatch.setattr(running, "score", refuse_to_train)
  assert run(done[1], copy) == done[2]
  out = capsys.readouterr().out
  assert out.count("\n") == 1 and out.startswith("Narrow or wide: 14 runs, 14 of them done; ")


def test_what_is_lost_is_made_again_and_comes_out_equal(done, copy, monkeypatch, capsys):
  for lost in ("runs/begun/seed_1", "scores/begun/seed_1.json", "scores/wide/seed_0.json", "study.json", "study.md"):
    path = copy / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
  trained, before = [], running.train
  monkeypatch.setattr(running, "train", lambda experiment, place: trained.append(place) or before(experiment, place))
  assert timeless(run(done[1], copy)) == timeless(done[2])
  assert trained == [copy / "runs" / "begun" / "seed_1"]
  lines = capsys.readouterr().out.splitlines()[1:]
  pattern = r" *\d+/14  (.*): train \d+\.\d\d %, test \d+\.\d\d % in \d+:\d\d(; about \d+:\d\d left)?"
  assert [re.fullmatch(pattern, line)[1] for line in lines] == ["wide seed 0", "begun seed 1"]


@pytest.mark.parametrize("lost", [("checkpoints", "result.json"), ("checkpoints/12", "result.json"), ()])
def test_a_study_that_has_moved_goes_on(done, copy, lost):
  """One of its runs starts from another, and had ended, been killed, or been killed before its first checkpoint."""
  place = copy / "runs" / "begun" / "seed_1"
  (copy / "scores" / "begun" / "seed_1.json").unlink()
  for path in (place / each for each in lost):
    shutil.rmtree(path) if path.is_dir() else path.unlink()
  config = json.loads((place / "config.json").read_text())
  (place / "config.json").write_text(json.dumps(config | {"init_from": "/nowhere/runs/narrow/seed_1"}))
  assert timeless(run(done[1], copy)) == timeless(done[2])
  now = json.loads((place / "config.json").read_text())
  assert now == config | {"init_from": str(copy / "runs" / "narrow" / "seed_1")}


def test_a_run_that_was_asked_to_end_goes_on(done, toy_study, tmp_path, monkeypatch):
  """The study ends as a run does, and says what there is so far."""
  before, calls = running.train, []

  def asked(experiment, place):
    calls.append(place)
    if len(calls) == 4:
      raise Terminated("stopped after step 6 of 12, which is saved")
    return before(experiment, place)

  monkeypatch.setattr(running, "train", asked)
  with pytest.raises(Terminated):
    run(done[1], tmp_path / "study")
  found = json.loads((tmp_path / "study" / "study.json").read_text())
  assert not found["finished"] and found["runs"] == {"all": 14, "ended": 3}
  assert "not run yet: narrow (seed 1), wide (seeds 0, 1)" in (tmp_path / "study" / "study.md").read_text()
  assert timeless(run(done[1], tmp_path / "study")) == timeless(done[2])


def test_what_runs_print_is_in_logs(done):
  assert "test accuracy" in (done[0] / "logs" / "wide" / "seed_1.txt").read_text()


def test_a_study_may_get_more_seeds(done, copy):
  more = run(dataclasses.replace(done[1], seeds=(0, 1, 5)), copy)
  assert more["runs"] == {"all": 18, "ended": 18}
  for old, new in zip(done[2]["settings"], more["settings"], strict=True):
    assert {**old["test"]["seeds"], "5": new["test"]["seeds"]["5"]} == new["test"]["seeds"]


def test_another_study_in_the_folder_is_refused(done, copy, toy_study):
  before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
  with pytest.raises(UserError, match=r"holds another study \(settings.narrow.tuned: True there, False now"):
    run(toy_study(), copy)
  assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


def test_two_studies_do_not_share_a_folder(done, copy):
  from convattn.training.workdir import locked

  with locked(copy), pytest.raises(UserError, match="another run is working in"):
    run(done[1], copy)


@pytest.mark.parametrize("written", ["write_plan", "write_whole"])
def test_a_full_disk_is_one_line(done, copy, monkeypatch, written):
  def fail(*_):
    raise OSError(errno.ENOSPC, "no space left on device", "study.md")

  monkeypatch.setattr(running, written, fail)
  with pytest.raises(UserError, match=f"^the disk of {copy} is full .*; make room, then give the same com"):
    run(done[1], copy)


def test_a_damaged_score_is_named(done, copy):
  path = copy / "scores" / "wide" / "seed_1"
  path.with_suffix(".npz").write_bytes(b"")
  with pytest.raises(UserError, match=r"wide/seed_1.json or the .npz beside it is damaged .*; delete .*scored anew"):
    run(done[1], copy)
  path.with_suffix(".json").write_text("{")
  with pytest.raises(UserError, match="wide/seed_1.json is damaged"):
    run(done[1], copy)


def test_a_run_that_diverges_is_told_and_left_out(toy_study, tmp_path, monkeypatch, capsys):
  before = running.train

  def diverging(experiment, place):
    if place.parent.name == "narrow" and experiment.seed == 0:
      raise FloatingPointError("the loss of step 3 is\nnot finite")
    return before(experiment, place)

  monkeypatch.setattr(running, "train", diverging)
  narrow, wide, begun = toy_study().settings[:3]
  begun = dataclasses.replace(begun, group=narrow.group)
  study = toy_study(settings=(narrow, wide, begun), baselines=["narrow"])
  result = run(study, tmp_path)
  narrow, wide, begun = result["settings"]
  assert narrow["diverged"] == {"0": "the loss of step 3 is not finite"}
  assert begun["diverged"] == {"0": "narrow seed 0, from which it starts, diverged"}
  assert result["finished"] and list(narrow["test"]["seeds"]) == ["1"]
  assert wide["difference"]["seeds"] == [1]
  assert "narrow seed 0: the loss of step 3 is not finite" in capsys.readouterr().out
  assert "diverged, and left out: narrow (seed 0), begun (seed 0)" in (tmp_path / "study.md").read_text()
  monkeypatch.setattr(running, "train", refuse_to_train)
  assert run(study, tmp_path) == result
  assert read_score(tmp_path, Run("narrow", 0)).seconds > 0
  # Tried again it is no obstacle to what starts from it.
  (tmp_path / "scores" / "narrow" / "seed_0.json").unlink()
  monkeypatch.setattr(running, "train", before)
  again = run(study, tmp_path)
  assert [row["diverged"] for row in again["settings"]] == [{}, {}, {}]
  assert list(again["settings"][2]["test"]["seeds"]) == ["0", "1"]


def test_a_candidate_that_diverges_is_not_taken(done, toy_study, tmp_path, monkeypatch):
  before = running.train

  def diverging(experiment, place):
    if experiment.seed == 1000 and (experiment.optimizer.peak_learning_rate == 0.03 or place.parent.name == "wide"):
      raise FloatingPointError("nan")
    return before(experiment, place)

  monkeypatch.setattr(running, "train", diverging)
  result = run(toy_study("tuned", settings=toy_study().settings[:2], baselines=["narrow"], seeds=[0]), tmp_path)
  tried = result["tuning"]["settings"]
  assert (tried["narrow"]["chosen"], tried["narrow"]["validation"]["0.03"]) == (0.003, None)
  assert tried["wide"]["chosen"] is None
  assert result["settings"][1]["diverged"] == {"0": "every candidate of its tuning diverged"}
  assert "wide: none, all diverged" in (tmp_path / "study.md").read_text()


def test_a_finished_run_whose_weights_are_gone_is_named(done, copy):
  (copy / "scores" / "wide" / "seed_1.json").unlink()
  shutil.rmtree(copy / "runs" / "wide" / "seed_1" / "checkpoints" / "12")
  with pytest.raises(UserError, match=r"ended after step 12, but its newest whole checkpoint is of step 6; delete"):
    run(done[1], copy)
