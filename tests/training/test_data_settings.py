"""The data set of an experiment, and training on pictures."""

import dataclasses

import numpy as np
import PIL.Image
import pytest

from convattn.data import BrokenPicture
from convattn.pretrained import Preprocessing
from convattn.training import Augmentation, ImageClassification, run, sha256
from convattn.training.classification import load_dataset
from convattn.training.config import Data, Experiment
from convattn.training.description import describe_data
from convattn.training.task import ALL_ROWS
from convattn.training.task_checks import first_batches

pytestmark = pytest.mark.usefixtures("shared_programs", "one_device")

BASE = {"name": "digits", "images_per_class": 3}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  return str(tmp_path_factory.mktemp("tfds"))


def description(experiment, preprocessing=None):
  task = ImageClassification(load_dataset(experiment, preprocessing), experiment)
  return describe_data(task.metadata, first_batches(task))


@pytest.mark.parametrize(
  "change",
  [{"classes": "0-8"}, {"images_per_class": 4}, {"subset_seed": 1}, {"image_size": 9}],
  ids=lambda change: next(iter(change)),
)
def test_each_setting_of_the_data_changes_the_examples(directory, change):
  before, after = (Experiment(data=Data(dir=directory, **{**BASE, **new})) for new in ({}, change))
  assert description(before) == description(before)
  assert description(before)["sha256"]["train"] != description(after)["sha256"]["train"]


def test_the_preprocessing_of_a_model_is_kept_instead_of_the_data_sets_own(directory):
  experiment = Experiment(data=Data(dir=directory, **BASE))
  other = Preprocessing((5, 5), (0.4,), (0.6,))
  kept = description(experiment, other)["metadata"]["preprocessing"]
  assert kept == {**description(experiment)["metadata"]["preprocessing"], "mean": [0.4], "std": [0.6]}


@pytest.fixture
def pictures(tmp_path):
  """Red and blue pictures of several sizes."""
  rng = np.random.default_rng(0)
  for split, count in (("train", 7), ("val", 3)):
    for channel, name in ((0, "red"), (2, "blue")):
      for i in range(count):
        pixels = rng.integers(0, 120, (8 + i, 13 - i, 3), np.uint8)
        pixels[..., channel] += 120
        path = tmp_path / split / name / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(pixels).save(path)
  return tmp_path


@pytest.mark.parametrize("adapt_channels", [False, True])
def test_pictures_are_turned_where_that_is_asked_for_whatever_the_weights_were_trained_with(pictures, adapt_channels):
  data = Data("folder", str(pictures), image_size=6, exif=True)
  experiment = Experiment(data=data, init_from="weights", adapt_channels=adapt_channels)
  its_own = Preprocessing((8, 8), (0.4,) * 3, (0.6,) * 3)
  assert load_dataset(experiment, its_own).preprocessing == dataclasses.replace(its_own, image_size=(6, 6), exif=True)


def of_pictures(toy, pictures):
  return dataclasses.replace(
    toy.short(24),
    data=Data("folder", str(pictures), image_size=6),
    augmentation=Augmentation(flip=True, resized_crop_area=0.5, randaugment_layers=2, randaugment_magnitude=4),
  )


def test_a_run_on_pictures_goes_on_as_if_it_had_not_been_interrupted(toy, pictures, tmp_path_factory):
  experiment = of_pictures(toy, pictures)
  whole, parts = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("parts")
  expected = run(experiment, whole, model=toy.Toy(2), task=ImageClassification(load_dataset(experiment), experiment))

  class Stop(Exception):
    pass

  def interrupt():
    raise Stop

  interrupted = toy.Interrupted(load_dataset(experiment), experiment).at(14, interrupt)
  with pytest.raises(Stop):
    run(experiment, parts, model=toy.Toy(2), task=interrupted)
  state = run(experiment, parts, model=toy.Toy(2))
  assert sha256(state) == sha256(expected)
  assert toy.result(parts) == toy.result(whole) and toy.lines(parts) == toy.lines(whole)
  assert toy.result(whole)["test/accuracy"] > 0.8


def test_a_picture_that_is_broken_by_then_is_named(toy, pictures, tmp_path_factory):
  experiment = of_pictures(toy, pictures)
  task = ImageClassification(load_dataset(experiment), experiment)
  (pictures / "val" / "red" / "2.png").write_text("")
  with pytest.raises(BrokenPicture, match=r"val/red/2\.png"):
    run(experiment, tmp_path_factory.mktemp("run"), model=toy.Toy(2), task=task)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_skips_what_is_broken_counts_it(toy, pictures, tmp_path_factory, workers, capsys):
  (pictures / "train" / "red" / "2.png").write_text("")
  (pictures / "val" / "blue" / "0.png").write_text("")
  experiment = of_pictures(toy, pictures)
  experiment = dataclasses.replace(
    experiment, num_steps=12, data=dataclasses.replace(experiment.data, broken="skip", workers=workers)
  )
  dataset = load_dataset(experiment)
  task = ImageClassification(dataset, experiment)
  run(experiment, tmp_path_factory.mktemp("run"), model=toy.Toy(2), task=task)
  task.close()
  assert dataset.skipped() == 2
  said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped: ")]
  assert len(said) == 2 and "red/2.png" in "".join(said) and "blue/0.png" in "".join(said)
  counts = [batch["mask"].sum() for batch in task.evaluation_rows("validation", ALL_ROWS)]
  assert sum(counts) == 5
  task.close()
