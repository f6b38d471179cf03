"""What a task may bring of its own: a ranking, numbers of the host, arrays, something to close; and other metrics."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from convattn.errors import UserError
from convattn.inference import evaluate, restore
from convattn.training import ImageClassification, Ranking, run, sha256
from convattn.training.checkpoint_folder import kept, ranked
from convattn.training.config import Checkpoint
from convattn.training.progress import Progress, as_text, scores
from convattn.training.records import records_of
from convattn.training.task import host_numbers, ranking_of
from convattn.training.workdir import finite
from convattn.training.writer import read_metrics

pytestmark = pytest.mark.usefixtures("shared_programs", "one_device")


class Counted(ImageClassification):
  """A task with a metric and an array more, ranked by its loss."""

  ranking = Ranking("validation/loss", higher_is_better=False)

  def metric_sums(self, outputs, targets, mask):
    sums = super().metric_sums(outputs, targets, mask)
    certain = jnp.max(outputs, -1) > 0.1
    histogram = jnp.stack([(mask * ~certain).sum(), (mask * certain).sum()])
    return {**sums, "certain": (mask * certain).sum(), "histogram": histogram}

  def host_numbers(self):
    return {"fan_speed": 7.0}

  def close(self):
    closed.append(self)


closed = []


@pytest.fixture(scope="module")
def counted(toy, tmp_path_factory):
  """(folder, task) of a run with the task's own members."""
  folder = tmp_path_factory.mktemp("counted")
  experiment = toy.short(8)
  task = Counted(toy.dataset(), experiment, metric_names=("loss", "accuracy", "certain"))
  run(experiment, folder, model=toy.Toy(), task=task)
  return folder, task


def test_a_new_metric_array_and_number_of_the_host_are_in_the_record(counted):
  folder, task = counted
  assert closed.count(task) == 1
  lines = read_metrics(folder / "metrics.jsonl")
  assert all({"validation/certain", "train/certain", "fan_speed"} <= set(line) for line in lines if line["step"] == 8)
  result = json.loads((folder / "result.json").read_text())
  assert 0 <= result["test/certain"] <= 1
  assert sum(json.loads((folder / "histogram.json").read_text())["sums"]) == 13
  assert set(json.loads((folder / "confusion.json").read_text())) == {"class_names", "counts"}


def test_the_tasks_own_score_ranks_the_checkpoints(counted):
  folder, _ = counted
  losses = {
    line["step"]: line["validation/loss"] for line in read_metrics(folder / "metrics.jsonl") if line["step"] % 4 == 0
  }
  best = min(losses, key=lambda step: (losses[step], -step))
  result = json.loads((folder / "result.json").read_text())
  assert (result["best/step"], result["best/validation/loss"]) == (best, losses[best])
  assert "best/validation/accuracy" not in result


def test_of_scores_the_lowest_or_the_highest_are_kept_and_of_equals_the_latest():
  found = {1: 0.3, 2: 0.1, 3: None, 4: 0.1, 5: 0.2}
  assert ranked(found, Ranking("x")) == [2, 4, 5, 1]
  assert ranked(found, Ranking("x", higher_is_better=False)) == [1, 5, 2, 4]
  assert kept(found, Checkpoint(keep_newest=1, keep_best=1), Ranking("x")) == {5, 1}
  assert kept(found, Checkpoint(keep_newest=1, keep_best=1), Ranking("x", higher_is_better=False)) == {5, 4}
  assert kept(found, Checkpoint(keep_newest=2, keep_best=0), None) == {4, 5}


def test_without_members_of_its_own_a_task_is_ranked_by_validation_accuracy_if_it_has_one(toy):
  plain = ImageClassification(toy.dataset(), toy.EXPERIMENT)
  assert ranking_of(plain) == Ranking("validation/accuracy")
  assert ranking_of(dataclasses.replace(plain, evaluation_splits=("test",))) is None
  assert ranking_of(dataclasses.replace(plain, metric_names=("loss",))) is None
  assert host_numbers(plain) == host_numbers(object()) == {}
  assert records_of(plain, {}) == {}


@pytest.mark.parametrize(
  ("before", "after"),
  [(("loss", "accuracy"), ("loss", "accuracy", "certain")), (("loss", "accuracy", "certain"), ("loss",))],
)
def test_a_run_goes_on_and_is_read_after_a_metric_was_added_or_removed(toy, tmp_path, before, after):
  experiment = dataclasses.replace(toy.EXPERIMENT, num_steps=8, log_every=8, optimizer=toy.short(8).optimizer)
  stopping = toy.Interrupted(toy.dataset(), experiment, metric_names=before)

  class Stop(Exception):
    pass

  def stop():
    raise Stop

  if "certain" in before:
    stopping = type("Stopping", (toy.Interrupted, Counted), {})(toy.dataset(), experiment, metric_names=before)
  with pytest.raises(Stop):
    run(experiment, tmp_path, model=toy.Toy(), task=stopping.at(5, stop))
  task = Counted(toy.dataset(), experiment, metric_names=after)
  state = run(experiment, tmp_path, model=toy.Toy(), task=task)  # from the checkpoint of step 4
  whole = run(experiment, tmp_path / "whole", model=toy.Toy(), task=task)
  # Equal up to rounding: a program that counts something else is compiled otherwise.
  jax.tree.map(
    lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5), state.params, whole.params
  )
  (line,) = [line for line in read_metrics(tmp_path / "metrics.jsonl") if "train/loss" in line]
  (other,) = [line for line in read_metrics(tmp_path / "whole" / "metrics.jsonl") if "train/loss" in line]
  assert line["train/loss"] == pytest.approx(other["train/loss"], rel=1e-4)
  # Of a window that began without it there is no mean.
  assert {name for name in line if name.startswith("train/")} == {name for name in other if name.startswith("train/")}
  if "certain" in after:
    assert line["train/certain"] is None
    assert other["train/certain"] is not None
  # Finished, it is read with any of them.
  again = run(experiment, tmp_path, model=toy.Toy(), task=Counted(toy.dataset(), experiment, metric_names=before))
  assert sha256(again.params) == sha256(state.params)


def test_a_restored_model_is_evaluated_on_its_task_as_the_loop_did(counted, toy):
  folder, task = counted
  numbers, arrays = evaluate(restore(folder, model=toy.Toy()), task, "test")
  result = json.loads((folder / "result.json").read_text())
  assert numbers == pytest.approx({name: result[f"test_ema/{name}"] for name in numbers}, rel=1e-6)
  assert arrays["histogram"].shape == (2,)
  with pytest.raises(UserError, match="the task has no split 'dev'; choose one of validation, test"):
    evaluate(restore(folder, model=toy.Toy()), task, "dev")


def test_variables_given_are_where_a_run_begins(toy, tmp_path):
  experiment = dataclasses.replace(
    toy.short(1), optimizer=dataclasses.replace(toy.short(1).optimizer, peak_learning_rate=1e-30, weight_decay=0.0)
  )
  task = ImageClassification(toy.dataset(), experiment)
  variables = toy.Toy().init(jax.random.key(7), task.example_inputs, train=False)
  state = run(experiment, tmp_path, toy.Toy(), task, variables=dict(variables))
  np.testing.assert_array_equal(state.params["head"]["kernel"], variables["params"]["head"]["kernel"])
  other = {**variables, "params": {**variables["params"], "head": {"kernel": np.zeros((6, 4)), "bias": np.zeros(4)}}}
  with pytest.raises(UserError, match=r"variables: params/head/bias is \(4,\), but must be \(3,\); are they of this"):
    run(experiment, tmp_path / "other", toy.Toy(), task, variables=other)
  assert not (tmp_path / "other").exists()


def test_scores_are_shown_of_every_split_but_the_training_metrics(capsys):
  assert scores(("loss", "accuracy")) == ("accuracy",)
  assert scores(("loss",)) == ("loss",)
  assert (as_text("a/accuracy", 0.5), as_text("iou", 0.51239), as_text("iou", None)) == (
    "50.00%",
    "0.5124",
    "not finite",
  )
  with Progress(9, 0, ("loss", "accuracy", "iou"), enabled=True) as progress:
    progress.report(4, {"train/accuracy": 0.1, "pretrain/accuracy": 0.25, "train/iou": 3, "val/iou": 0.5, "seconds": 1})
  assert capsys.readouterr().out == "step 4/9, pretrain/accuracy 25.00%, val/iou 0.5\n"


@pytest.mark.parametrize("batch_size", [6, 1])
def test_a_restored_model_is_evaluated_on_as_many_devices_as_divide_a_batch(finished, toy, batch_size):
  assert jax.device_count() == 4
  folder, _ = finished
  task = ImageClassification(toy.dataset(), dataclasses.replace(toy.EXPERIMENT, eval_batch_size=batch_size))
  restored = restore(folder, model=toy.Toy())
  on_one = dataclasses.replace(restored, variables=jax.device_put(restored.variables, jax.devices()[1]))
  result = json.loads((folder / "result.json").read_text())
  for each in (restored, on_one):
    numbers, arrays = evaluate(each, task, "test")
    assert numbers == pytest.approx({name: result[f"test_ema/{name}"] for name in numbers}, rel=1e-5)
    assert arrays["confusion"].sum() == 13


def test_a_task_of_released_weights_is_evaluated_at_the_highest_precision(finished, toy):
  seen = []

  class Watched(ImageClassification):
    def prepare_eval(self, batch):
      seen.append(jax.config.jax_default_matmul_precision)
      return super().prepare_eval(batch)

  restored = restore(finished[0], model=toy.Toy())
  for experiment, wanted in ((restored.experiment, "default"), (None, "highest")):
    task = Watched(toy.dataset(), toy.EXPERIMENT)
    evaluate(dataclasses.replace(restored, experiment=experiment), task, "validation")
    assert seen.pop() == wanted


def test_arrays_are_recorded_whatever_they_hold():
  class Named:
    metadata = {"class_names": ["a"]}  # noqa: RUF012

  given = {"a": np.array([np.nan, 1.5], np.float32), "b": np.array([[np.inf]], ml_dtypes.bfloat16)}
  given |= {"c": np.array([True]), "d": np.array([2]), "confusion": np.array([[np.nan]])}
  wanted = {"a": [None, 1.5], "b": [[None]], "c": [True], "d": [2]}
  records = finite(records_of(Named(), given))
  assert records.pop("confusion") == {"class_names": ["a"], "counts": [[None]]}
  assert json.loads(json.dumps(records, allow_nan=False)) == {name: {"sums": sums} for name, sums in wanted.items()}


def test_numbers_of_the_host_are_pythons_own():
  class Said:
    evaluation_splits = ("dev",)

    def __init__(self, **numbers):
      self.host_numbers = lambda: numbers

  said = host_numbers(Said(a=np.float32(0.5), b=jnp.int32(3), c=2, d=np.nan))
  assert [type(value) for value in said.values()] == [float, int, int, float]
  assert (said["a"], said["b"], said["c"]) == (0.5, 3, 2)
  for name in ("step", "seconds", "images_per_second", "skipped_steps", "train/loss", "dev/loss", "dev_ema/loss"):
    with pytest.raises(UserError, match=f"host_numbers.. has '{name}', which the loop writes itself; rename it.$"):
      host_numbers(Said(**{name: 1.0}))
  for value in ("3", None, [1.0], 1j):
    with pytest.raises(UserError, match=r"must be real numbers by name, got .* for 'a'\.$"):
      host_numbers(Said(a=value))
