import dataclasses
import json

import pytest

from convattn.errors import UserError
from convattn.training import workdir
from convattn.training.config import Experiment, Loss, Optimizer


def test_an_experiment_survives_json():
  experiment = Experiment(seed=3, loss=Loss(kind="sigmoid"), optimizer=Optimizer(beta1=0.5))
  stored = json.loads(json.dumps(dataclasses.asdict(experiment)))
  assert workdir.experiment_from_json(stored) == experiment


def test_an_experiment_of_another_version_keeps_the_settings_that_there_still_are():
  stored = json.loads(json.dumps(dataclasses.asdict(Experiment(seed=3, loss=Loss(kind="sigmoid")))))
  stored["loss"]["gone"] = 1.0
  stored["colour"] = {"gone": "red"}
  del stored["loss"]["label_smoothing"], stored["optimizer"], stored["num_steps"]
  assert workdir.experiment_from_json(stored) == Experiment(seed=3, loss=Loss(kind="sigmoid"))


def test_a_folder_takes_the_experiment_it_was_made_for_and_no_other(tmp_path):
  experiment = Experiment(seed=3)
  workdir.check_config(tmp_path, experiment)
  workdir.write_json(tmp_path / workdir.CONFIG, dataclasses.asdict(experiment))
  workdir.check_config(tmp_path, experiment)
  other = dataclasses.replace(experiment, seed=5, loss=Loss(kind="sigmoid"))
  with pytest.raises(ValueError) as raised:
    workdir.check_config(tmp_path, other)
  message = str(raised.value)
  assert "(seed: 3 there, 5 now; loss.kind: 'softmax' there, 'sigmoid' now)" in message
  assert "another --workdir" in message
  assert "\n" not in message


def test_a_file_is_no_workdir_nor_holds_one(tmp_path):
  (tmp_path / "file").touch()
  for folder in (tmp_path / "file", tmp_path / "file" / "runs" / "mine"):
    with pytest.raises(UserError, match=rf"^{tmp_path / 'file'} is a file, but the workdir must be a folder"):
      workdir.check_config(folder, Experiment())
  workdir.check_config(tmp_path / "new" / "mine", Experiment())
  assert not (tmp_path / "new").exists()


def test_no_run_begins_in_the_folder_of_a_study(tmp_path):
  (tmp_path / "study.json").write_text("{}")
  with pytest.raises(UserError, match=r"holds a study, whose runs are in folders of their own; give this run another"):
    workdir.check_config(tmp_path, Experiment())
  # A file of that name in a run's own folder is the user's.
  workdir.write_config(tmp_path, workdir.Recorded(Experiment(), {}))
  assert workdir.check_config(tmp_path, Experiment()).experiment == Experiment()


def test_a_setting_that_is_new_or_gone_refuses_nobody(tmp_path):
  stored = dataclasses.asdict(Experiment())
  del stored["loss"]["kind"], stored["model"]["pool"]
  stored["colour"] = "red"
  workdir.write_json(tmp_path / workdir.CONFIG, stored)
  workdir.check_config(tmp_path, Experiment())
  with pytest.raises(ValueError, match="loss.kind: 'softmax' there, 'sigmoid' now"):
    workdir.check_config(tmp_path, Experiment(loss=Loss(kind="sigmoid")))


def test_a_module_may_move_to_another_file_but_not_change_its_name(tmp_path):
  identity = {"model": {"class": "old.place.Toy", "width": "3"}, "data": {}}
  workdir.write_config(tmp_path, workdir.Recorded(Experiment(), identity))
  workdir.check_config(tmp_path, Experiment(), {**identity, "model": {"class": "__main__.Toy", "width": "3"}})
  with pytest.raises(ValueError, match="model.class: 'Toy' there, 'Tov' now"):
    workdir.check_config(tmp_path, Experiment(), {**identity, "model": {"class": "new.place.Tov", "width": "3"}})


def test_model_and_data_are_compared_beside_the_settings(tmp_path):
  experiment = Experiment(seed=3)
  identity = {"model": {"class": "Toy", "widths": (3, 5)}, "data": {"sha256": {"train": "ab"}}}
  workdir.write_config(tmp_path, workdir.Recorded(experiment, identity))
  assert workdir.experiment_from_json(workdir.read_json(tmp_path / workdir.CONFIG)) == experiment
  workdir.check_config(tmp_path, experiment)
  workdir.check_config(tmp_path, experiment, identity)
  other = {"model": {"class": "Toy", "widths": [3, 7]}, "data": {"sha256": {"train": "c" * 200}}}
  with pytest.raises(UserError) as raised:
    workdir.check_config(tmp_path, experiment, other)
  assert "model or data (model.widths: [3, 5] there, [3, 7] now; data.sha256.train: 'ab' " in str(raised.value)
  assert len(str(raised.value).splitlines()) == 1
  assert "c" * 101 not in str(raised.value)


@pytest.mark.parametrize("content", [b"{", b"", b"[1]", b"null", b"\xff\xfe", b"{}"])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, content):
  (tmp_path / workdir.RESULT).write_bytes(content)
  with pytest.raises(UserError) as raised:
    workdir.read_result(tmp_path)
  assert f"{tmp_path / workdir.RESULT} is damaged" in str(raised.value)
  assert "delete this file alone and start again" in str(raised.value)
  assert len(str(raised.value).splitlines()) == 1
  if content != b"{}":
    (tmp_path / workdir.CONFIG).write_bytes(content)
    with pytest.raises(UserError, match=r"config.json is damaged .*; restore it, delete .*another --workdir"):
      workdir.check_config(tmp_path, Experiment())


def test_a_folder_has_one_run_at_a_time(tmp_path):
  folder = tmp_path / "new"
  refused = pytest.raises(UserError, match="another run is working in .*new; let it end, or .* another --workdir")
  with workdir.locked(folder), refused, workdir.locked(folder):
    pass
  with workdir.locked(folder), workdir.locked(tmp_path):
    pass
  with workdir.locked(folder):
    pass


def test_numbers_that_are_not_finite_are_null():
  numbers = {"a": float("nan"), "b": -float("inf"), "c": 0.5, "d": 3, "e": "nan", "f": None}
  assert workdir.finite(numbers) == {"a": None, "b": None, "c": 0.5, "d": 3, "e": "nan", "f": None}


def test_a_failed_write_leaves_the_old_file(tmp_path):
  path = tmp_path / "a.json"
  workdir.write_json(path, {"x": 1})
  with pytest.raises(ValueError):
    workdir.write_json(path, {"x": float("nan")})
  assert workdir.read_json(path) == {"x": 1}
  assert workdir.read_json(tmp_path / "missing.json") is None
