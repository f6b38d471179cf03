"""Every experiment in configs/: both of its steps lower for every platform, and neither holds a scatter."""

import dataclasses
import functools
import pathlib
import re
import runpy
import tempfile

import jax
import PIL.Image
import pytest

from convattn.data import in_memory
from convattn.models import list_models
from convattn.training.dataset import load_dataset
from convattn.training.program import build, lowerings, make_model
from convattn.training.sharding import make_mesh
from convattn.training.task import ImageClassification
from convattn.training.validation import validate

CONFIGS = sorted((pathlib.Path(__file__).parent.parent / "configs").glob("*.py"))


def config(path, *arguments):
  return runpy.run_path(str(path))["get_config"](*arguments)


def data_of(experiment):
  """The data set; of pictures in a folder, which are not here, three in their place."""
  if experiment.data.name != "folder":
    return load_dataset(experiment)
  with tempfile.TemporaryDirectory() as folder:
    for split in ("train", "validation"):
      for name in "abc":
        place = pathlib.Path(folder, split, name)
        place.mkdir(parents=True)
        PIL.Image.new("RGB", (50, 40)).save(place / "1.png")
    named = dataclasses.replace(experiment.data, dir=folder)
    dataset = load_dataset(dataclasses.replace(experiment, data=named))
    images = {split: source.take([0, 1, 2], range(3)) for split, source in dataset.labelled.items()}
    return dataclasses.replace(dataset, **{split: in_memory(source) for split, source in images.items()})


@functools.cache
def texts(path):
  experiment = config(path)
  validate(experiment)
  if experiment.data.name == "folder":  # a batch of this size is seen as a shape only, but made of pixels
    host = dataclasses.replace(experiment.augmentation, resized_crop_area=1.0, randaugment_layers=0)
    experiment = dataclasses.replace(experiment, batch_size=4, eval_batch_size=4, augmentation=host)
  task = ImageClassification(data_of(experiment), experiment)
  program = build(experiment, make_model(experiment, task.num_classes), task, make_mesh(jax.devices()[:1]))
  return lowerings(program, task, ("cpu", "cuda", "tpu"))


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
@pytest.mark.parametrize("step", ["train", "eval"])
@pytest.mark.parametrize(
  "path",
  # the full size takes its time
  [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem == "imagenet_finetune")) for path in CONFIGS],
)
def test_lowers_without_scatter(path, step, platform):
  """A scatter may be summed in any order on a GPU, and XLA's deterministic mode refuses select_and_scatter."""
  text = texts(path)[step, platform]
  assert "module @jit" in text
  assert "scatter" not in text
  groups = {int(count) for count in re.findall(r"feature_group_count = (\d+)", text)} - {1}
  assert bool(groups) == (platform != "cpu")  # depthwise convolutions are shifted sums on a CPU


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
