import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest

from convattn.training import ImageClassification, build, loop, make_mesh, run, sha256
from convattn.training import workdir as files
from convattn.training.checkpoints import Checkpoints
from convattn.training.config import Augmentation, Checkpoint, Experiment, Loss, Model, Optimizer
from convattn.training.evaluation import evaluate
from convattn.training.writer import TIMES, read_metrics


class Overfitter(nn.Module):
  """Enough parameters to tell any images apart, and a BatchNorm whose running statistics must be right."""

  @nn.compact
  def __call__(self, x, *, train):
    x = nn.Dense(32, name="hidden")(x.reshape(len(x), -1))
    x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
    return nn.Dense(3, name="head")(nn.gelu(x))


def _lines(folder):
  """metrics.jsonl without its times."""
  return [{k: v for k, v in line.items() if k not in TIMES} for line in read_metrics(folder / files.METRICS)]


def _result(folder):
  return {k: v for k, v in files.read_json(folder / files.RESULT).items() if k not in TIMES}


@pytest.fixture(scope="module")
def finished(toy, tmp_path_factory):
  """(folder, final state) of a run that was never interrupted."""
  folder = tmp_path_factory.mktemp("uninterrupted")
  state = run(toy.EXPERIMENT, folder, model=toy.Toy(), task=ImageClassification(toy.dataset(), toy.EXPERIMENT))
  return folder, state


def test_files_hold_what_they_promise(toy, finished):
  folder, state = finished
  assert files.experiment_from_json(files.read_json(folder / files.CONFIG)) == toy.EXPERIMENT
  result = files.read_json(folder / files.RESULT)
  assert result["step"] == int(state.step) == 24
  assert result["test/count"] == result["test_ema/count"] == 13
  assert result["params_sha256"] == sha256(state.params)
  assert result["state_sha256"] == sha256(state)
  assert result["seconds"] > 0
  assert result["images_per_second"] > 0
  confusion = files.read_json(folder / files.CONFUSION)
  assert confusion["class_names"] == ["dark", "grey", "light"]
  test_labels = toy.dataset().test.labels
  np.testing.assert_array_equal(np.sum(confusion["counts"], axis=1), np.bincount(test_labels, minlength=3))
  assert np.trace(confusion["counts"]) == round(result["test/accuracy"] * 13)
  assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_test_and_test_ema_are_scores_of_the_final_weights_and_of_their_average(toy, finished):
  folder, state = finished
  task = ImageClassification(toy.dataset(), toy.EXPERIMENT)
  program = build(toy.EXPERIMENT, toy.Toy(), task, make_mesh())
  result = files.read_json(folder / files.RESULT)
  weights = {"test": (state.params, state.model_state), "test_ema": (state.ema["params"], state.ema["model_state"])}
  for name, (params, model_state) in weights.items():
    numbers, _ = evaluate(program, task, params, model_state, "test")
    assert result[f"{name}/loss"] == pytest.approx(numbers["loss"], rel=1e-6)
  assert result["test_ema/loss"] != result["test/loss"]


def test_each_line_is_one_step_with_what_was_due(finished):
  lines = _lines(finished[0])
  assert [line["step"] for line in lines] == [5, 8, 10, 15, 16, 20, 24]
  for line in lines:
    assert ("train/loss" in line) == (line["step"] in (5, 10, 15, 20, 24))
    for split in ("validation", "validation_ema"):
      assert line.get(f"{split}/count") == (11 if line["step"] in (8, 16, 24) else None)
    assert ("test/accuracy" in line) == ("test_ema/accuracy" in line) == (line["step"] == 24)
  result = files.read_json(finished[0] / files.RESULT)
  assert {k: v for k, v in lines[-1].items() if k.startswith("test")} == {
    k: v for k, v in result.items() if k.startswith("test")
  }


def test_saved_steps_are_exactly_the_promised_ones(toy, tmp_path):
  experiment = dataclasses.replace(
    toy.EXPERIMENT, num_steps=10, eval_every=6, checkpoint=Checkpoint(every=3, keep_newest=99)
  )
  run(experiment, tmp_path, model=toy.Toy(), task=ImageClassification(toy.dataset(), experiment))
  with Checkpoints(tmp_path / files.CHECKPOINTS, experiment.checkpoint) as checkpoints:
    assert checkpoints.steps() == [3, 6, 9, 10]
    validated = {
      line["step"]: line["validation/accuracy"] for line in _lines(tmp_path) if "validation/accuracy" in line
    }
    assert set(validated) == {6, 10}
    best = max(validated, key=lambda step: (validated[step], step))
    assert checkpoints.best() == (best, validated[best])
  result = files.read_json(tmp_path / files.RESULT)
  assert (result["best/step"], result["best/validation/accuracy"]) == (best, validated[best])


def test_a_finished_run_prints_its_result_and_trains_nothing(toy, finished, capsys):
  folder, state = finished
  before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}

  def refuse():
    raise AssertionError("trained")

  task = toy.Interrupted(toy.dataset(), toy.EXPERIMENT).at(0, refuse)
  again = run(toy.EXPERIMENT, folder, model=toy.Toy(), task=task)
  assert sha256(again) == sha256(state)
  assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before
  shown = capsys.readouterr().out
  assert "finished run" in shown
  assert "test accuracy" in shown
  assert "WORKDIR=" in shown


def test_another_experiment_is_refused_and_changes_nothing(toy, finished):
  other = dataclasses.replace(toy.EXPERIMENT, batch_size=16)
  with pytest.raises(ValueError, match=r"other settings \(batch_size: 8 there, 16 now\)"):
    run(other, finished[0], model=toy.Toy(), task=ImageClassification(toy.dataset(), other))


@pytest.mark.parametrize("step", [2, 7, 9, 23])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(toy, finished, tmp_path, step):
  class Stop(Exception):
    pass

  def stop():
    raise Stop

  with pytest.raises(Stop):
    run(toy.EXPERIMENT, tmp_path, model=toy.Toy(), task=toy.Interrupted(toy.dataset(), toy.EXPERIMENT).at(step, stop))
  assert not (tmp_path / files.RESULT).exists()
  state = run(toy.EXPERIMENT, tmp_path, model=toy.Toy(), task=ImageClassification(toy.dataset(), toy.EXPERIMENT))
  assert sha256(state) == sha256(finished[1])
  assert _lines(tmp_path) == _lines(finished[0])
  assert _result(tmp_path) == _result(finished[0])


def test_a_run_stopped_between_its_last_checkpoint_and_its_result_is_completed(toy, finished, tmp_path, monkeypatch):
  task = ImageClassification(toy.dataset(), toy.EXPERIMENT)
  write = files.write_json

  def fail_at_the_result(path, value):
    if path.name == files.RESULT:
      raise OSError("no space left")
    write(path, value)

  monkeypatch.setattr(files, "write_json", fail_at_the_result)
  with pytest.raises(OSError, match="no space"):
    run(toy.EXPERIMENT, tmp_path, model=toy.Toy(), task=task)
  monkeypatch.undo()
  state = run(toy.EXPERIMENT, tmp_path, model=toy.Toy(), task=task)
  assert sha256(state) == sha256(finished[1])
  assert _lines(tmp_path) == _lines(finished[0])
  assert _result(tmp_path) == _result(finished[0])


def test_a_run_stopped_as_soon_as_a_checkpoint_is_complete_misses_no_line(toy, finished, tmp_path, monkeypatch):
  task = ImageClassification(toy.dataset(), toy.EXPERIMENT)
  save = Checkpoints.save

  def stop_after_it(self, step, *args):
    save(self, step, *args)
    self.wait()
    if step == 16:
      raise KeyboardInterrupt

  monkeypatch.setattr(Checkpoints, "save", stop_after_it)
  with pytest.raises(KeyboardInterrupt):
    run(toy.EXPERIMENT, tmp_path, model=toy.Toy(), task=task)
  monkeypatch.undo()
  run(toy.EXPERIMENT, tmp_path, model=toy.Toy(), task=task)
  assert _lines(tmp_path) == _lines(finished[0])


def test_a_checkpoint_alone_says_how_to_rebuild_its_model(toy, finished):
  with Checkpoints(finished[0] / files.CHECKPOINTS, toy.EXPERIMENT.checkpoint) as checkpoints:
    description = checkpoints.description(24)
  assert files.experiment_from_json(description["experiment"]) == toy.EXPERIMENT
  assert description["class_names"] == ["dark", "grey", "light"]
  assert (description["mean"], description["std"]) == ([0.45, 0.25], [0.25, 0.15])
  assert description["image_shape"] == [5, 7, 2]
  assert description["model"].endswith("Toy")


def test_global_settings_of_jax_stay_as_they_are(toy, tmp_path):
  experiment = dataclasses.replace(toy.EXPERIMENT, num_steps=4)
  before = dict(jax.config.values)
  run(experiment, tmp_path, model=toy.Toy(), task=ImageClassification(toy.dataset(), experiment))
  assert dict(jax.config.values) == before


def test_it_overfits_sixteen_images(toy, tmp_path):
  data = toy.dataset(train=16)
  labels = np.random.default_rng(1).integers(0, 3, 16)  # labels at random: there is nothing to learn but the images
  source = dataclasses.replace(data.train, labels=labels)
  data = dataclasses.replace(data, train=source, validation=source, test=source)
  experiment = dataclasses.replace(
    toy.EXPERIMENT,
    num_steps=80,
    batch_size=16,
    eval_every=80,
    log_every=1,
    ema_decay=0.0,
    augmentation=Augmentation(),
    loss=Loss(),
    optimizer=Optimizer(peak_learning_rate=0.05, schedule="linear", weight_decay=0.0),
    checkpoint=Checkpoint(every=80),
  )
  run(experiment, tmp_path, model=Overfitter(), task=ImageClassification(data, experiment))
  losses = [line["train/loss"] for line in _lines(tmp_path)]
  assert losses[-1] < 0.02 < 0.7 < losses[0]
  result = files.read_json(tmp_path / files.RESULT)
  assert result["test/accuracy"] == 1.0
  assert not [name for name in result if "ema" in name]


def test_a_loss_that_is_not_finite_stops_the_run(toy, tmp_path):
  class Diverging(ImageClassification):
    def losses(self, outputs, targets):
      return super().losses(outputs, targets) * np.inf

  task = Diverging(toy.dataset(), toy.EXPERIMENT)
  with pytest.raises(FloatingPointError, match="train/loss is .* at step 5; lower optimizer.peak_learning_rate"):
    run(toy.EXPERIMENT, tmp_path, model=toy.Toy(), task=task)


def test_settings_are_refused_before_anything_is_written(toy, tmp_path, monkeypatch):
  folder = tmp_path / "new"
  with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
    run(Experiment(num_steps=0), folder)
  # The default experiment's data would be prepared at this point, which takes its time.
  monkeypatch.setattr(loop, "load", lambda *_: pytest.fail("the data was loaded"))
  with pytest.raises(ValueError, match="there is no model 'coatnet_00'"):
    run(Experiment(batch_size=8, eval_batch_size=8, model=Model(name="coatnet_00")), folder)
  experiment = dataclasses.replace(toy.EXPERIMENT, batch_size=jax.device_count() + 1)
  if jax.device_count() > 1:
    with pytest.raises(ValueError, match="batch_size must be a multiple of the"):
      run(experiment, folder, model=toy.Toy(), task=ImageClassification(toy.dataset(), experiment))
  assert not folder.exists()


def test_a_task_without_validation_or_test_trains(toy, tmp_path):
  experiment = dataclasses.replace(toy.EXPERIMENT, num_steps=5)
  task = dataclasses.replace(ImageClassification(toy.dataset(), experiment), evaluation_splits=())
  run(experiment, tmp_path, model=toy.Toy(), task=task)
  result = files.read_json(tmp_path / files.RESULT)
  assert result["step"] == 5
  assert not [name for name in result if name.startswith(("test", "best"))]
  assert not (tmp_path / files.CONFUSION).exists()


def _start(folder, *arguments):
  root = Path(files.__file__).parents[2]
  environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  environment["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
  environment["JAX_COMPILATION_CACHE_DIR"] = str(folder.parent / "compiled")
  environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  command = [sys.executable, str(Path(__file__).with_name("toy.py")), str(folder), *map(str, arguments)]
  return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _kill_at(folder, step):
  """Starts the run and kills it as soon as the line of `step` is there, while its checkpoint is being written."""
  process = _start(folder, step)
  deadline = time.monotonic() + 120
  while not any(line["step"] == step for line in read_metrics(folder / files.METRICS)):
    assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
    time.sleep(0.002)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert process.returncode == -signal.SIGKILL


def test_after_sigkill_the_same_command_ends_as_if_it_had_never_been_killed(tmp_path):
  straight, killed = tmp_path / "straight", tmp_path / "killed"
  output, _ = _start(straight).communicate()
  assert (straight / files.RESULT).exists(), output
  _kill_at(killed, 4)
  _kill_at(killed, 16)
  with (killed / files.METRICS).open("a") as file:
    file.write(json.dumps({"step": 20})[:7])  # and in the middle of a line
  output, _ = _start(killed).communicate()
  assert (killed / files.RESULT).exists(), output
  assert "continues after step" in output
  assert _lines(killed) == _lines(straight)
  assert _result(killed) == _result(straight)
