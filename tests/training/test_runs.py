"""Each mistake in a task is one line before the first step."""

import dataclasses

import jax
import numpy as np
import pytest

from convattn.errors import UserError
from convattn.training import ImageClassification, Ranking, build, make_mesh, run
from convattn.training.task_checks import check_task, first_batches


class Changed(ImageClassification):
  """A task with one thing changed: `sums`, `batch` or `metadata` is a function of what it would be."""

  def change(self, **functions):
    object.__setattr__(self, "_functions", functions)
    return self

  def _after(self, name, value):
    return self._functions.get(name, lambda value: value)(value)

  def metric_sums(self, outputs, targets, mask):
    return self._after("sums", super().metric_sums(outputs, targets, mask))

  def evaluation_rows(self, split, rows):
    return (self._after("batch", batch) if split == "test" else batch for batch in super().evaluation_rows(split, rows))

  @property
  def metadata(self):
    return self._after("metadata", super().metadata)


def refusal(toy, task, devices=1):
  experiment = task.experiment
  program = build(experiment, toy.Toy(), task, make_mesh(jax.devices()[:devices]))
  with pytest.raises(ValueError) as raised:
    check_task(program, task, first_batches(task), experiment.batch_size)
  assert len(str(raised.value).splitlines()) == 1
  return str(raised.value)


def without(name):
  return lambda tree: {key: value for key, value in tree.items() if key != name}


def test_a_right_task_is_accepted(toy):
  for task in (ImageClassification(toy.dataset(), toy.EXPERIMENT), Changed(toy.dataset(), toy.EXPERIMENT).change()):
    check_task(build(toy.EXPERIMENT, toy.Toy(), task, make_mesh()), task, first_batches(task), 8)


@pytest.mark.parametrize(
  ("functions", "message"),
  [
    ({"sums": without("accuracy")}, "metric_sums of 'validation' must have a scalar 'accuracy', got only "),
    ({"sums": without("count")}, "metric_sums of 'validation' must have a scalar 'count', got only "),
    ({"sums": lambda sums: {**sums, "loss": sums["loss"][None]}}, "a scalar 'loss', got one of shape (1,)."),
    ({"metadata": without("class_names")}, "must have metadata['class_names'], one for each row and column, got no"),
    ({"metadata": lambda data: {**data, "class_names": ["a"]}}, "got 1 names for counts of shape (3, 3)."),
    ({"batch": without("mask")}, "a batch of 'test' must have a mask [b]"),
    ({"batch": lambda batch: {**batch, "mask": 0 * batch["mask"]}}, "not all 0."),
    ({"batch": lambda batch: {**batch, "label": batch["label"][:3]}}, "got image: 4, label: 3, mask: 4."),
  ],
)
def test_what_the_end_needs_is_asked_for_at_the_start(toy, functions, message):
  assert message in refusal(toy, Changed(toy.dataset(), toy.EXPERIMENT).change(**functions))


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("per/class", "an array 'per/class', which is to be written as NAME.json; name it by letters, digits"),
    ("", "an array '', which is to be written as NAME.json"),
    (".lock", "an array '.lock', which is to be written as NAME.json"),
    ("manifest", "an array 'manifest', but manifest.json is the run's own; rename it."),
    ("Config", "an array 'Config', but config.json is the run's own; rename it."),
    ("result", "an array 'result', but result.json is the run's own; rename it."),
    ("CONFUSION", "an array 'CONFUSION', but confusion.json is the run's own; rename it."),
    ("phase", "an array 'phase' of complex64, which JSON does not hold; make real numbers of it."),
  ],
)
def test_an_array_has_a_name_for_a_file_of_its_own(toy, name, message):
  array = np.zeros(2, np.complex64 if name == "phase" else np.float32)
  task = Changed(toy.dataset(), toy.EXPERIMENT).change(sums=lambda sums: {**sums, name: array})
  assert message in refusal(toy, task)


class Ranked(ImageClassification):
  """Ranked by whatever `by` returns; says `numbers` of its host, and whether it has been closed."""

  by, numbers, closed = None, {}, 0

  @property
  def ranking(self):
    return self.by

  def host_numbers(self):
    return self.numbers

  def close(self):
    type(self).closed += 1


@pytest.mark.parametrize(
  ("by", "numbers", "message"),
  [
    (Ranking("validation/acuracy"), {}, "'validation/acuracy', which is never reported; did you mean 'validation/accu"),
    (Ranking("validation_ema/loss"), {}, "'validation_ema/loss', which is never reported; did you mean 'validation/l"),
    ("validation/loss", {}, "ranking must be None or such as Ranking('validation/accuracy'), got 'validation/loss'."),
    (None, {"step": 3.0}, "host_numbers() has 'step', which the loop writes itself; rename it."),
  ],
)
def test_what_a_task_says_of_itself_is_asked_for_before_anything_is_written(toy, tmp_path, by, numbers, message):
  experiment = dataclasses.replace(toy.EXPERIMENT, ema_decay=0.0)
  kind = type("Own", (Ranked,), {"by": by, "numbers": numbers})
  with toy.sharing(), pytest.raises(UserError) as raised:
    run(experiment, tmp_path / "new", model=toy.Toy(), task=kind(toy.dataset(), experiment))
  assert message in str(raised.value)
  assert not (tmp_path / "new").exists()
  assert kind.closed == 1


def test_what_is_reported_may_rank(toy):
  for score in ("validation/count", "validation_ema/loss", "test/accuracy", "train/gradient_norm", "heat"):
    task = type("Own", (Ranked,), {"by": Ranking(score), "numbers": {"heat": 3}})(toy.dataset(), toy.EXPERIMENT)
    with toy.sharing():
      program = toy.shared_build(toy.EXPERIMENT, toy.Toy(), task, make_mesh(jax.devices()[:1]))
    check_task(program, task, first_batches(task), toy.EXPERIMENT.batch_size)


def test_a_task_is_closed_where_a_run_is_refused_at_once(toy, tmp_path):
  kind = type("Own", (Ranked,), {})
  task = kind(toy.dataset(), toy.EXPERIMENT)
  with pytest.raises(UserError, match="num_steps must be"):
    run(dataclasses.replace(toy.EXPERIMENT, num_steps=0), tmp_path, model=toy.Toy(), task=task)
  assert kind.closed == 1


def test_batches_of_a_task_divide_over_the_devices(toy):
  task = Changed(toy.dataset(), dataclasses.replace(toy.EXPERIMENT, eval_batch_size=3))
  wanted = "must have evaluation_batch_size = 3 rows, a multiple of the 2 devices, got image: 3, label: 3, mask: 3."
  assert wanted in refusal(toy, task.change(), devices=2)


def test_batches_of_a_task_have_the_rows_that_the_loop_counts(toy):
  task = Changed(toy.dataset(), toy.EXPERIMENT).change(
    batch=lambda batch: {name: array[:3] for name, array in batch.items()}
  )
  assert "must have evaluation_batch_size = 4 rows" in refusal(toy, task)


@pytest.mark.parametrize("name", ["steps", "learning_rate", "gradient_norm", "update_norm", "count"])
def test_a_metric_with_a_name_of_the_loops_own_is_refused(toy, name):
  task = ImageClassification(toy.dataset(), toy.EXPERIMENT, metric_names=("loss", name))
  reserved = "'learning_rate', 'gradient_norm', 'update_norm', 'parameter_norm', 'steps', 'count'"
  assert f"none of {reserved}, got 'loss', '{name}'." in refusal(toy, task)


def test_the_loss_is_a_metric(toy):
  task = ImageClassification(toy.dataset(), toy.EXPERIMENT, metric_names=("accuracy",))
  assert "metric_names must hold 'loss'" in refusal(toy, task)


def test_a_split_called_train_is_refused(toy):
  task = ImageClassification(toy.dataset(), toy.EXPERIMENT, evaluation_splits=("train",))
  assert "must not be called 'train'" in refusal(toy, task)


def test_an_empty_test_split_or_a_label_outside_the_classes_stops_a_run_before_it_writes(toy, tmp_path):
  folder = tmp_path / "new"
  for test, message in ((0, "split 'test' has no examples"), (13, "labels must be at least 0 and below 3")):
    data = toy.dataset(test=test)
    if test:
      data = dataclasses.replace(data, test=dataclasses.replace(data.test, labels=np.full(test, 3)))
    with pytest.raises(ValueError, match=message):
      run(toy.EXPERIMENT, folder, model=toy.Toy(), task=ImageClassification(data, toy.EXPERIMENT))
    assert not folder.exists()


def test_a_run_asks_before_it_writes(toy, tmp_path):
  task = Changed(toy.dataset(), toy.EXPERIMENT).change(metadata=without("class_names"))
  with pytest.raises(ValueError, match="'confusion' must have metadata"):
    run(toy.EXPERIMENT, tmp_path / "new", model=toy.Toy(), task=task)
  assert not (tmp_path / "new").exists()


def test_a_task_of_another_experiment_is_refused(toy, tmp_path):
  other = dataclasses.replace(toy.EXPERIMENT, seed=5, batch_size=16)
  with pytest.raises(ValueError, match=r"\(seed: 5 there, 0 now; batch_size: 16 there, 8 now\); make it"):
    run(toy.EXPERIMENT, tmp_path / "new", model=toy.Toy(), task=ImageClassification(toy.dataset(), other))
  assert not (tmp_path / "new").exists()
