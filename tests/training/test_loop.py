import asyncio
import dataclasses

import flax.linen as nn
import jax
import numpy as np
import pytest

from convattn.training import ImageClassification, build, make_mesh, run, runs, sha256, workdir as files
from convattn.training.checkpoints import Checkpoints
from convattn.training.config import Augmentation, Checkpoint, Compute, Data, Experiment, Loss, Model, Optimizer
from convattn.training.evaluation import evaluate
from convattn.training.progress import flop_per_image
from convattn.training.task import ALL_ROWS, Ranking
from convattn.training.writer import read_metrics

pytestmark = pytest.mark.usefixtures("shared_programs")

RANKING = Ranking("validation/accuracy")


class Overfitter(nn.Module):
  """Enough parameters to tell any images apart, and a BatchNorm whose running statistics must be right."""

  @nn.compact
  def __call__(self, x, *, train):
    x = nn.Dense(32, name="hidden")(x.reshape(len(x), -1))
    x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
    return nn.Dense(3, name="head")(nn.gelu(x))


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
  assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == [files.LOCK]


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


def test_each_line_is_one_step_with_what_was_due(toy, finished):
  lines = toy.lines(finished[0])
  assert [line["step"] for line in lines] == [4, 5, 8, 10, 12, 15, 16, 20, 24]
  for line in lines:
    assert ("train/loss" in line) == (line["step"] in (5, 10, 15, 20, 24))
    for split in ("validation", "validation_ema"):
      assert line.get(f"{split}/count") == (11 if line["step"] % 4 == 0 else None)
    assert ("test/accuracy" in line) == ("test_ema/accuracy" in line) == (line["step"] == 24)
  result = files.read_json(finished[0] / files.RESULT)
  assert {k: v for k, v in lines[-1].items() if k.startswith("test")} == {
    k: v for k, v in result.items() if k.startswith("test")
  }


def test_each_line_of_training_tells_the_work_done_counted_in_the_step(toy, finished):
  conv, head = 5 * 7 * 6 * (3 * 3 * 2), 6 * 3
  # Forward, and backward to kernels and inputs, but for the images, which have no gradient.
  flop_per_image = 2 * (2 * conv + 3 * head)
  lines = [line for line in read_metrics(finished[0] / files.METRICS) if "train/loss" in line]
  assert len(lines) == 5
  for line in lines:
    assert line["tflop_per_second"] * 1e12 == pytest.approx(flop_per_image * line["images_per_second"])


@pytest.mark.parametrize("change", [{"micro_batches": 2}, {"log_every": 1}, {"max_skipped_steps": 1}])
def test_the_work_counted_is_the_same_however_a_batch_is_cut(toy, change):
  counted = []
  for experiment in (toy.EXPERIMENT, dataclasses.replace(toy.EXPERIMENT, **change)):
    task = ImageClassification(toy.dataset(), experiment)
    program = build(experiment, toy.Toy(), task, make_mesh(jax.devices()[:1]))
    arguments = program.template, task.train_rows(0, ALL_ROWS), jax.random.key(0)
    counted.append(flop_per_image(program.train_step, experiment.batch_size, *arguments))
  assert counted[0] == counted[1] > 0


def test_saved_steps_are_exactly_the_promised_ones(toy, tmp_path):
  experiment = dataclasses.replace(toy.short(10), eval_every=3, checkpoint=Checkpoint(every=6, keep_newest=99))
  run(experiment, tmp_path, model=toy.Toy(), task=ImageClassification(toy.dataset(), experiment))
  lines = toy.lines(tmp_path)
  validated = {line["step"]: line["validation/accuracy"] for line in lines if "validation/accuracy" in line}
  assert set(validated) == {3, 6, 9, 10}
  best = max((6, 10), key=lambda step: (validated[step], step))
  with Checkpoints(tmp_path / files.CHECKPOINTS, experiment.checkpoint, RANKING) as checkpoints:
    assert checkpoints.steps() == [6, 10]
    assert checkpoints.best() == (best, validated[best])
  result = files.read_json(tmp_path / files.RESULT)
  assert (result["best/step"], result["best/validation/accuracy"]) == (best, validated[best])


def test_a_checkpoint_says_what_it_is_of(toy, finished):
  with Checkpoints(finished[0] / files.CHECKPOINTS, toy.EXPERIMENT.checkpoint, RANKING) as checkpoints:
    description = checkpoints.description(24)
  assert files.experiment_from_json(description["experiment"]) == toy.EXPERIMENT
  assert description["class_names"] == ["dark", "grey", "light"]
  assert (description["mean"], description["std"]) == ([0.45, 0.25], [0.25, 0.15])
  assert description["image_shape"] == [5, 7, 2]
  assert description["model"]["class"].endswith("Toy")
  assert description["model"]["dropout"] == "0.1"


def test_the_first_lines_name_the_devices_and_count_the_parameters(toy, tmp_path, capsys):
  experiment = toy.short(1)
  run(experiment, tmp_path, model=toy.Toy(), task=ImageClassification(toy.dataset(), experiment))
  shown = capsys.readouterr().out.splitlines()
  assert shown[0] == f"{jax.device_count()} × cpu | float32 | matmul precision default"
  assert shown[1].startswith("data: 3 classes, images: train 37, ")
  assert shown[2].split() == ["part", "output", "parameters", "multiply-adds"]
  parameters = {line.split()[0]: line.split()[-2] for line in shown[3:8]}
  assert parameters == {"conv": "108", "norm": "12", "Dropout_0": "0", "head": "21", "total": "141"}


def test_it_runs_twice_in_one_process_and_inside_an_event_loop(toy, tmp_path):
  experiment = toy.short(4)
  task = ImageClassification(toy.dataset(), experiment)

  async def inside(folder):
    return run(experiment, folder, model=toy.Toy(), task=task)

  first = run(experiment, tmp_path / "a", model=toy.Toy(), task=task)
  second = asyncio.run(inside(tmp_path / "b"))
  again = asyncio.run(inside(tmp_path / "b"))
  assert sha256(first) == sha256(second) == sha256(again)


class _Reached(Exception):
  pass


def _stop(*arguments):
  raise _Reached(*arguments)


def test_the_settings_of_the_data_reach_load(toy, tmp_path, monkeypatch):
  monkeypatch.setattr(runs, "load_dataset", _stop)
  experiment = Experiment(data=Data("digits", "some/where"))
  with pytest.raises(_Reached) as reached:
    run(experiment, tmp_path)
  assert reached.value.args == (Experiment(data=Data("digits", "some/where", exif=False)), None)  # no folder


def test_reproducible_kernels_are_asked_for(toy, tmp_path, monkeypatch):
  monkeypatch.setattr(runs, "request_deterministic_kernels", _stop)
  monkeypatch.setattr(runs, "load_dataset", lambda *_: pytest.fail("they were not asked for"))
  task = ImageClassification(toy.dataset(), experiment := toy.short(1))
  run(experiment, tmp_path, model=toy.Toy(), task=task)
  with pytest.raises(_Reached):
    run(Experiment(compute=Compute(deterministic=True)), tmp_path / "other")


def test_a_score_that_is_not_finite_is_null_and_the_run_ends(toy, tmp_path):
  class Infinite(ImageClassification):
    def metric_sums(self, outputs, targets, mask):
      sums = super().metric_sums(outputs, targets, mask)
      return sums if len(mask) == self.experiment.batch_size else {**sums, "loss": sums["loss"] * np.inf}

  experiment = toy.short(4)
  for _ in range(2):
    run(experiment, tmp_path, model=toy.Toy(), task=Infinite(toy.dataset(), experiment))
    assert toy.result(tmp_path)["test/loss"] is toy.lines(tmp_path)[-1]["validation/loss"] is None
    assert toy.result(tmp_path)["test/accuracy"] is not None


def test_global_settings_of_jax_stay_as_they_are(toy, tmp_path, monkeypatch):
  monkeypatch.setattr(runs, "build", build)  # what traces and compiles might change one
  experiment = toy.short(4)
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
  losses = [line["train/loss"] for line in toy.lines(tmp_path)]
  assert losses[-1] < 0.02 < 0.7 < losses[0]
  result = files.read_json(tmp_path / files.RESULT)
  assert result["test/accuracy"] == 1.0
  assert not [name for name in result if "ema" in name]


def test_a_loss_that_is_not_finite_stops_the_run(toy, tmp_path):
  class Diverging(ImageClassification):
    def losses(self, outputs, targets):
      return super().losses(outputs, targets) * np.inf

  task = Diverging(toy.dataset(), toy.EXPERIMENT)
  with pytest.raises(FloatingPointError, match=r"not finite at steps 1, 2, 3, 4 .* lower optimizer"):
    run(toy.EXPERIMENT, tmp_path, model=toy.Toy(), task=task)


def test_settings_are_refused_before_anything_is_written(toy, tmp_path, monkeypatch):
  folder = tmp_path / "new"
  with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
    run(Experiment(num_steps=0), folder)
  # The default experiment's data would be prepared at this point, which takes its time.
  monkeypatch.setattr(runs, "load_dataset", lambda *_: pytest.fail("the data was loaded"))
  with pytest.raises(ValueError, match="there is no model 'coatnet_00'"):
    run(Experiment(batch_size=8, eval_batch_size=8, model=Model(name="coatnet_00")), folder)
  experiment = dataclasses.replace(toy.EXPERIMENT, batch_size=jax.device_count() + 1)
  if jax.device_count() > 1:
    with pytest.raises(ValueError, match="batch_size must be a multiple of the"):
      run(experiment, folder, model=toy.Toy(), task=ImageClassification(toy.dataset(), experiment))
  assert not folder.exists()


def test_a_task_without_validation_or_test_trains(toy, tmp_path):
  experiment = toy.short(5)
  task = dataclasses.replace(ImageClassification(toy.dataset(), experiment), evaluation_splits=())
  run(experiment, tmp_path, model=toy.Toy(), task=task)
  result = files.read_json(tmp_path / files.RESULT)
  assert result["step"] == 5
  assert not [name for name in result if name.startswith(("test", "best"))]
  assert not (tmp_path / files.CONFUSION).exists()
