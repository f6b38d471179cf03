"""Every experiment in configs/: both of its steps lower for every platform, and neither holds a scatter.

And every study there: each of its runs could be run, were the data here.
"""

import dataclasses
import functools
import itertools
import pathlib
import re
import runpy

import jax
import numpy as np
import pytest

from convattn.analysis import memory
from convattn.data import ArraySource, Dataset
from convattn.data.made import MADE
from convattn.models import list_models
from convattn.study import check
from convattn.study.plan import runs_of
from convattn.training.classification import ImageClassification, load_dataset
from convattn.training.program import build, lowerings, make_model
from convattn.training.settings import validate
from convattn.training.sharding import make_mesh

FILES = sorted((pathlib.Path(__file__).parent.parent / "configs").glob("*.py"))
STUDIES = [path for path in FILES if path.stem.startswith("study_")]
CONFIGS = [path for path in FILES if path not in STUDIES]


def config(path, *arguments):
  return runpy.run_path(str(path))["get_config"](*arguments)


def shape_of(experiment):
  """(images, classes) of the experiment's data set, which may not be here."""
  name, size = experiment.data.name, experiment.data.image_size
  if name in ("imagenet2012", "folder"):
    return (size, size, 3), 21_841 if experiment.loss.kind == "sigmoid" else 1000
  if name == "cifar10":
    return (32, 32, 3), 10
  if name in MADE:
    images, _ = MADE[name].parts()["test"]
    return images.shape[1:], len(MADE[name].class_names)
  if name == "fashion_mnist":
    return (28, 28, 1), 10
  dataset = load_dataset(experiment)
  return dataset.image_shape, dataset.num_classes


class FullSize(ImageClassification):
  """Batches of the size that the experiment asks for, of one and the same pixel; only their shape is seen."""

  def train_rows(self, step, rows):
    return self._batch(self.experiment.batch_size)

  def evaluation_rows(self, split, rows):
    size = self.experiment.eval_batch_size
    yield {**self._batch(size), "mask": np.ones(size, np.float32)}

  def _batch(self, size):
    return {
      "image": np.broadcast_to(np.uint8(0), (size, *self.dataset.image_shape)),
      "label": np.zeros(size, np.int32),
    }


@functools.cache
def full_size(path, *arguments):
  """(experiment, task, program) as it would run on one device."""
  experiment = config(path, *arguments)
  validate(experiment)
  shape, classes = shape_of(experiment)
  half = (0.5,) * shape[-1]
  empty = ArraySource(np.zeros((1, *shape), np.uint8), np.zeros(1, int))
  dataset = Dataset(empty, empty, empty, tuple(map(str, range(classes))), shape, half, half)
  task = FullSize(dataset, experiment)
  return experiment, task, build(experiment, make_model(experiment, classes), task, make_mesh(jax.devices()[:1]))


@functools.cache
def texts(path, *arguments):
  _, task, program = full_size(path, *arguments)
  return lowerings(program, task, ("cpu", "cuda", "tpu"))


LARGE = ("imagenet", "imagenet21k", "imagenet_finetune")  # the full size takes its time
EVERY = [
  pytest.param(path, *arguments, id="_".join([path.stem, *filter(None, arguments)]), marks=marks)
  for path in CONFIGS
  for arguments in {
    "imagenet": [("coatnet_0",), ("coatnet_1",), ("coatnet_2",), ("coatnet_3",)],
    "imagenet21k": [("coatnet_2",), ("coatnet_3",), ("coatnet_4",)],
  }.get(path.stem, [("",)])
  for marks in [[pytest.mark.slow] * (path.stem in LARGE)]
]


@pytest.mark.parametrize("path, argument", EVERY)
def test_lowers_without_scatter(path, argument):
  """A scatter may be summed in any order on a GPU, and XLA's deterministic mode refuses select_and_scatter."""
  found = texts(path, *filter(None, [argument]))
  assert set(found) == set(itertools.product(("train", "eval"), ("cpu", "cuda", "tpu")))
  for (_, platform), text in found.items():
    assert "module @jit" in text
    assert "scatter" not in text
    groups = {int(count) for count in re.findall(r"feature_group_count = (\d+)", text)} - {1}
    assert bool(groups) == (platform != "cpu")  # depthwise convolutions are shifted sums on a CPU


@pytest.mark.parametrize("path, argument", EVERY)
def test_memory_at_full_size_is_what_the_file_says(path, argument):
  experiment, task, program = full_size(path, *filter(None, [argument]))
  state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(program.template)) / 2**30
  rows = memory(make_model(experiment, task.num_classes), task.dataset.image_shape)
  kept = sum(row.kept(experiment.batch_size) for row in rows) / 2**30
  said = f"{argument or experiment.model.name}: state {state:,.3f} GiB, kept for the backward pass {kept:,.2f} GiB"
  print(said)
  assert said in " ".join(path.read_text().split('"""')[1].split())


FINETUNE, IMAGENET = (path for path in CONFIGS if path.stem.endswith("finetune"))


def test_the_fine_tuning_experiment_takes_what_its_first_part_leaves():
  first, second = config(FINETUNE, "pretrain"), config(FINETUNE)
  validate(first)
  assert (first.init_from, second.init_from) == ("", "runs/pretrain")
  assert dataclasses.replace(first.model, stochastic_depth=None) == dataclasses.replace(
    second.model, stochastic_depth=None
  )  # all that decides what the weights compute
  assert (first.data.classes, second.data.classes) == ("0-4", "5-9")
  assert (second.data.images_per_class, second.data.image_size, first.data.image_size) == (10, 12, 0)
  assert second.ema_decay
  with pytest.raises(ValueError, match="'pretrain' and 'finetune', got 'tune'"):
    config(FINETUNE, "tune")


@pytest.mark.parametrize(
  "argument, name, size, depth, magnitude, init_from",
  [
    ("coatnet_0_rw_224@384", "coatnet_0_rw_224", 384, 0.2, 15, "coatnet_0_rw_224.sw_in1k"),
    ("coatnet_1@512", "coatnet_1", 512, 0.3, 15, "runs/coatnet_1"),
    ("coatnet_2_rw_224@384", "coatnet_2_rw_224", 384, 0.5, 15, "coatnet_2_rw_224.sw_in12k"),
    ("coatnet_3@512", "coatnet_3", 512, 0.7, 20, "runs/coatnet_3"),
  ],
)
def test_imagenet_fine_tuning_is_the_papers_recipe(argument, name, size, depth, magnitude, init_from):
  experiment = config(IMAGENET, argument)
  validate(experiment)
  assert name in list_models()
  assert (experiment.model.name, experiment.data.image_size, experiment.init_from) == (name, size, init_from)
  assert experiment.model.stochastic_depth == depth
  # Dai et al. 2021, Table 10, fine-tuning on ImageNet-1k: 30 epochs of 1,281,167 images.
  assert (experiment.batch_size, experiment.num_steps) == (512, 75068)
  chosen = experiment.optimizer
  assert (chosen.schedule, chosen.peak_learning_rate, chosen.warmup_steps) == ("constant", 5e-5, 0)
  assert (chosen.weight_decay, chosen.clip_norm, experiment.ema_decay) == (1e-8, 1.0, 0.9999)
  assert (experiment.loss.kind, experiment.loss.label_smoothing) == ("softmax", 0.1)
  changes = experiment.augmentation
  assert (changes.mixup_alpha, changes.randaugment_layers, changes.randaugment_magnitude) == (0.8, 2, magnitude)


@pytest.mark.parametrize("argument", ["coatnet_0", "coatnet_4@384", "coatnet_mini_8@8", "maxvit@384"])
def test_imagenet_fine_tuning_is_of_the_models_in_the_table(argument):
  with pytest.raises(ValueError, match="must be MODEL@SIZE with a model of coatnet_0 to coatnet_3"):
    config(IMAGENET, argument)


@pytest.mark.parametrize("size", ["abc", "", "0", "-1", "384px"])
def test_a_wrong_size_of_imagenet_fine_tuning_is_named(size):
  with pytest.raises(ValueError, match=f"the size behind @ must be a number of pixels such as 384, got '{size}' in "):
    config(IMAGENET, f"coatnet_0_rw_224@{size}")


@pytest.fixture
def fashion(monkeypatch):
  """Black pictures in the place of Fashion-MNIST, whose files may not be here."""
  from convattn.data import loading

  def source(number):
    return ArraySource(np.zeros((number, 28, 28, 1), np.uint8), np.arange(number) % 10)

  dataset = Dataset(source(55_000), source(500), source(1000), tuple("abcdefghij"), (28, 28, 1), (0.3,), (0.35,))
  monkeypatch.setattr(loading, "_load_prepared", lambda name, directory: {"fashion_mnist": dataset}[name])


QUICK = "study_finetune", "hour"
"""Of two models; the others trace more of them."""


@pytest.mark.parametrize(
  "path, budget",
  [
    pytest.param(path, budget, id=f"{path.stem}_{budget}", marks=[pytest.mark.slow] * ((path.stem, budget) != QUICK))
    for path in STUDIES
    for budget in ("hour", "full")
  ],
)
def test_every_run_of_a_study_could_be_run(path, budget, fashion, tmp_path):
  study = runpy.run_path(str(path))["get_study"](budget)
  sizes = check(study, tmp_path)
  assert all(0.4e6 < size.parameters < 0.55e6 and size.multiply_adds < 4e7 for size in sizes.values())
  assert (study.tuning is None) == (budget == "hour")
  assert {each.name for each in runs_of(study) if each.seed == 0} == {f"{name}/seed_0" for name in sizes}
  with pytest.raises(ValueError, match="the budgets are 'full' and 'hour', got 'day'"):
    runpy.run_path(str(path))["get_study"]("day")


def test_a_study_without_its_data_says_how_to_get_them(tmp_path, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  with pytest.raises(ValueError, match=r"^setting cccc_1: data set 'fashion_mnist' .* convattn prepare fashion_mnist"):
    check(runpy.run_path(str(STUDIES[2]))["get_study"](), tmp_path)
