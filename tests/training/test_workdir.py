import dataclasses
import json

import pytest

from convattn.training import workdir
from convattn.training.config import Experiment, Loss, Optimizer


def test_an_experiment_survives_json():
  experiment = Experiment(seed=3, loss=Loss(kind="sigmoid"), optimizer=Optimizer(beta1=0.5))
  stored = json.loads(json.dumps(dataclasses.asdict(experiment)))
  assert workdir.experiment_from_json(stored) == experiment


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


def test_a_setting_that_is_new_or_gone_is_a_difference(tmp_path):
  stored = dataclasses.asdict(Experiment())
  del stored["loss"]["kind"]
  stored["colour"] = "red"
  workdir.write_json(tmp_path / workdir.CONFIG, stored)
  with pytest.raises(ValueError, match="colour: 'red' there, 'absent' now; loss.kind: 'absent' there, 'softmax' now"):
    workdir.check_config(tmp_path, Experiment())


def test_a_failed_write_leaves_the_old_file(tmp_path):
  path = tmp_path / "a.json"
  workdir.write_json(path, {"x": 1})
  with pytest.raises(ValueError):
    workdir.write_json(path, {"x": float("nan")})
  assert workdir.read_json(path) == {"x": 1}
  assert workdir.read_json(tmp_path / "missing.json") is None
