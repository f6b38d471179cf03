import copy
import dataclasses
import pickle
import subprocess
import sys
import typing

import pytest

from convattn.fields import choices, kinds
from convattn.models import Spec
from convattn.models.coatnet import REMAT
from convattn.training.classification import LOSSES
from convattn.training.config import Augmentation, Checkpoint, Compute, Data, Experiment, Loss, Model, Optimizer
from convattn.training.optimizer import SCHEDULES
from convattn.training.settings import fields, validate, validate_batch_sizes


def test_the_defaults_are_valid():
  validate(Experiment())


@pytest.mark.parametrize(
  "experiment, message",
  [
    (Experiment(num_steps=0), "num_steps must be at least 1, got 0."),
    (Experiment(batch_size=-3), "batch_size must be at least 1, got -3."),
    (Experiment(num_steps="5"), "num_steps must be a whole number, got '5'."),
    (Experiment(num_steps=True), "num_steps must be a whole number, got True."),
    (Experiment(ema_decay=1.0), "ema_decay must be at least 0 and below 1, got 1.0."),
    (Experiment(ema_decay=float("nan")), "ema_decay must be a finite number, got nan."),
    (
      Experiment(loss=Loss(kind="sofmax")),
      "loss.kind must be one of 'softmax', 'sigmoid', got 'sofmax'; did you mean 'softmax'?",
    ),
    (
      Experiment(compute=Compute(dtype="float16")),
      "compute.dtype must be one of 'float32', 'bfloat16', got 'float16'; did you mean 'bfloat16'?",
    ),
    (Experiment(compute=Compute(deterministic=1)), "compute.deterministic must be true or false, got 1."),
    (
      Experiment(optimizer=Optimizer(schedule="xyz")),
      "optimizer.schedule must be one of 'cosine', 'linear', 'constant', got 'xyz'.",
    ),
    (Experiment(optimizer=Optimizer(peak_learning_rate=0)), "optimizer.peak_learning_rate must be above 0, got 0."),
    (Experiment(model=Model(head_size=1.5)), "model.head_size must be a whole number or None, got 1.5."),
    (
      Experiment(model=Model(stochastic_depth=-0.1)),
      "model.stochastic_depth must be at least 0 and below 1, got -0.1.",
    ),
    (
      Experiment(optimizer=Optimizer(clip_norm=float("inf"))),
      "optimizer.clip_norm must be a finite number, got inf.",
    ),
    (Experiment(loss="sigmoid"), "loss must be Loss(...), a group of settings, got 'sigmoid'."),
    (
      Experiment(eval_every=30, checkpoint=Checkpoint(every=100)),
      "checkpoint.every must be a multiple of eval_every (30) or divide it, so that some can be ranked, got 100; "  # noqa: ISC004
      "change one of them or set checkpoint.keep_best to 0.",
    ),
    (
      Experiment(max_skipped_steps=2, compute=Compute(debug_nans=True)),
      "compute.debug_nans stops at the first nan, which max_skipped_steps=2 would leave out; set that to 0.",
    ),
    (
      Experiment(data=Data(name="d\0")),
      "data.name must be text without the character \\0, which no name of a file or a data set has, got 'd\\x00'.",
    ),
    (
      Experiment(adapt_channels=True),
      "adapt_channels is about the weights of init_from, which is ''; name some, or set it to false.",
    ),
    (
      Experiment(ema_warmup=True),
      "ema_warmup lets ema_decay grow, which is 0: no average; set that too, such as to 0.9999.",
    ),
    (Experiment(data=Data(images_per_class=-1)), "data.images_per_class must be at least 0, got -1."),
    (
      Experiment(augmentation=Augmentation(resized_crop_area=0.0)),
      "augmentation.resized_crop_area must be above 0 and at most 1, got 0.0.",
    ),
    (
      Experiment(augmentation=Augmentation(randaugment_magnitude=31)),
      "augmentation.randaugment_magnitude must be from 0 to 30, got 31.",
    ),
    (Experiment(loss=Loss(kind=3)), "loss.kind must be 'softmax', 'sigmoid', got 3."),
    (Experiment(checkpoint=Checkpoint(keep_newest=0)), "checkpoint.keep_newest must be at least 1, got 0."),
  ],
)
def test_each_error_is_one_line_with_setting_value_and_what_is_wanted(experiment, message):
  with pytest.raises(ValueError) as raised:
    validate(experiment)
  assert str(raised.value) == message


def test_warmup_must_end_before_training_does():
  experiment = Experiment(num_steps=7, optimizer=Optimizer(warmup_steps=7))
  with pytest.raises(ValueError, match=r"optimizer.warmup_steps must be below num_steps \(7\), .* got 7"):
    validate(experiment)
  validate(dataclasses.replace(experiment, num_steps=8))


def test_every_number_has_a_range_and_every_setting_a_meaning():
  for name, field, kind, _ in fields(Experiment()):
    assert len(field.metadata["meaning"]) > 10, name
    numbers = {int, float} & set(kinds(kind))
    assert bool(numbers) == (field.metadata["within"] is not None), name
    assert not field.metadata["choices"] or str in kinds(kind)


def test_a_models_settings_are_those_of_its_spec():
  """One source: type, meaning and range are the spec's own; None is added."""
  ours = {field.name: field for field in dataclasses.fields(Model("coatnet_0"))}
  types, its_types = typing.get_type_hints(type(Model("coatnet_0"))), typing.get_type_hints(Spec)
  for field in dataclasses.fields(Spec):
    if field.name not in ("stages", "stem_widths"):
      assert ours[field.name].metadata == field.metadata and field.metadata["meaning"]
      assert types[field.name] == its_types[field.name] | None


def test_what_a_spec_refuses_is_refused_of_a_model_in_the_same_words():
  refused = [
    ("pool", "median"),
    ("head_size", 0),
    ("squeeze_ratio", 0.0),
    ("stochastic_depth", 1.0),
    ("head_size", 2**40),
  ]
  for name, value in refused:
    with pytest.raises(ValueError, match=f"^{name} is ") as of_the_spec:
      Spec((), (), **{name: value})
    with pytest.raises(ValueError, match=f"^model.{name} must be ") as of_the_model:
      validate(Experiment(model=Model(**{name: value})))
    wanted = str(of_the_spec.value).rpartition("but must be ")[2].removesuffix(".")
    assert str(of_the_model.value).startswith(f"model.{name} must be {wanted}")


def test_an_override_that_a_spec_does_not_have_gives_the_nearest():
  with pytest.raises(ValueError, match=r"^there is no setting model.head_sise; did you mean head_size\?$"):
    Model("coatnet_0", head_sise=8)


def test_without_a_best_checkpoint_any_steps_are_saved():
  validate(Experiment(eval_every=30, checkpoint=Checkpoint(every=100, keep_best=0)))


def test_choices_are_those_of_what_is_chosen_from():
  assert choices(Compute, "remat") == tuple(REMAT)
  assert choices(Loss, "kind") == tuple(LOSSES)
  assert choices(Optimizer, "schedule") == tuple(SCHEDULES)


def test_an_experiment_is_pickled_and_copied():
  experiment = Experiment(seed=3, model=Model("coatnet_0", stochastic_depth=0.3))
  for copied in (pickle.loads(pickle.dumps(experiment)), copy.deepcopy(experiment), copy.copy(experiment.model)):
    assert copied in (experiment, experiment.model)
    assert type(copied) in (Experiment, type(experiment.model))
  code = "import pickle, sys; print(pickle.load(sys.stdin.buffer))"
  done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(experiment), capture_output=True, check=False)
  assert done.stdout.decode().strip() == repr(experiment), done.stderr.decode()


def test_batches_divide_over_the_devices():
  validate_batch_sizes(Experiment(batch_size=12, eval_batch_size=8), 4)
  with pytest.raises(ValueError, match="eval_batch_size must be a multiple of the 3 devices, got 8; try 6 or 9."):
    validate_batch_sizes(Experiment(batch_size=12, eval_batch_size=8), 3)
  with pytest.raises(ValueError, match="batch_size must be a multiple of the 4 devices, got 3; try 4."):
    validate_batch_sizes(Experiment(batch_size=3), 4)
