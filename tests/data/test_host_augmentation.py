import dataclasses
import os
import threading

import numpy as np
import pytest
from PIL import Image

from convattn.data import (
  ArraySource,
  Dataset,
  HostAugmentation,
  augmented_batch,
  host_augmentation,
  load,
  picture_source,
  rand_augment,
  train_batch,
)
from convattn.data.host_augmentation import random_box
from convattn.pretrained import Preprocessing

SHAPE = (14, 19)
PLACE = {"batch_size": 6, "seed": 3, "step": 2}
BOTH = HostAugmentation(resized_crop_area=0.3, randaugment_layers=2, randaugment_magnitude=6)


def dataset(channels=3):
  rng = np.random.default_rng(0)
  source = ArraySource(rng.integers(0, 255, (9, *SHAPE, channels), np.uint8), np.arange(9) % 4)
  half = (0.5,) * channels
  return Dataset(source, source, source, tuple("abcd"), (*SHAPE, channels), half, half, interpolation="bilinear")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
  """A folder of pictures of different sizes, as images of 7 x 5."""
  root = tmp_path_factory.mktemp("pictures")
  rng = np.random.default_rng(1)
  for split in ("train", "val"):
    for name in ("cat", "dog"):
      (root / split / name).mkdir(parents=True)
      for i in range(3):
        pixels = rng.integers(0, 255, (20 + i, 31 - 2 * i, 3), np.uint8)
        Image.fromarray(pixels).save(root / split / name / f"{i}.png")
  return load("folder", str(root), preprocessing=Preprocessing((7, 5), (0.5,) * 3, (0.5,) * 3, 0.8, "center"))


def same(one, other):
  return all(np.array_equal(one[name], other[name]) for name in one) and one.keys() == other.keys()


def generator(position, seed=3, step=2):
  return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(step, position)))


@pytest.mark.parametrize("height, width", [(14, 19), (9, 40), (60, 7), (1, 1), (3, 2)])
@pytest.mark.parametrize("least_area", [0.08, 0.5, 1.0])
def test_a_box_lies_in_the_picture_and_is_no_narrower_and_no_smaller_than_said(height, width, least_area):
  for seed in range(200):
    top, left, h, w = random_box(np.random.default_rng(seed), height, width, least_area)
    assert 0 <= top <= top + h <= height and 0 <= left <= left + w <= width and min(h, w) >= 1
    # The exact sides are up to half a pixel away.
    assert (w - 0.5) / (h + 0.5) <= 4 / 3 and (w + 0.5) / (h - 0.5) >= 3 / 4
    if height / 2 <= width <= 2 * height and min(height, width) > 3:  # what is drawn fits into it soon enough
      assert (h + 0.5) * (w + 0.5) >= least_area * height * width * (1 if least_area < 1 else 0.5)


def test_the_share_of_the_area_is_uniform_and_the_ratio_log_uniform():
  boxes = np.array([random_box(np.random.default_rng(seed), 3000, 3000, 0.1)[2:] for seed in range(4000)])
  shares, ratios = boxes.prod(1) / 3000**2, np.log(boxes[:, 1] / boxes[:, 0]) / np.log(4 / 3)
  small = shares < 0.7  # of these all ratios fit
  np.testing.assert_allclose(np.quantile(shares[small], [0.25, 0.5, 0.75]), [0.25, 0.4, 0.55], atol=0.02)
  np.testing.assert_allclose(np.quantile(ratios[small], [0, 0.25, 0.5, 0.75, 1]), [-1, -0.5, 0, 0.5, 1], atol=0.05)


def test_a_box_may_lie_anywhere():
  boxes = [random_box(np.random.default_rng(seed), 8, 8, 0.2) for seed in range(600)]
  assert {top for top, _, h, _ in boxes if h == 5} == {left for _, left, _, w in boxes if w == 5} == {0, 1, 2, 3}
  assert len({box for box in boxes if box[2:] == (5, 5)}) == 16


def test_of_a_long_picture_the_middle_remains():
  for height, width, expected in ((10, 400, (0, 193, 10, 13)), (400, 10, (193, 0, 13, 10))):
    assert random_box(np.random.default_rng(0), height, width, 0.5) == expected


@pytest.mark.parametrize("least_area", [0, -0.1, 1.1, float("nan")])
def test_an_area_out_of_range_is_refused(least_area):
  with pytest.raises(ValueError, match="must be above 0 and at most 1, got"):
    random_box(np.random.default_rng(0), 5, 5, least_area)


def test_the_default_is_nothing_and_says_so():
  assert HostAugmentation().is_identity
  assert not HostAugmentation(resized_crop_area=0.9).is_identity
  assert not HostAugmentation(randaugment_layers=1).is_identity
  assert same(augmented_batch(dataset(), HostAugmentation(), **PLACE), train_batch(dataset().train, **PLACE))


@pytest.mark.parametrize("channels", [1, 3])
def test_labels_order_and_shape_are_those_of_the_plain_batch(channels):
  plain, changed = train_batch(dataset(channels).train, **PLACE), augmented_batch(dataset(channels), BOTH, **PLACE)
  np.testing.assert_array_equal(plain["label"], changed["label"])
  assert changed["image"].shape == plain["image"].shape and changed["image"].dtype == np.uint8
  assert not np.array_equal(changed["image"], plain["image"])


@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_cropped_then_changed_with_its_own_draws(channels):
  data = dataset(channels)
  plain, changed = train_batch(data.train, **PLACE), augmented_batch(data, BOTH, **PLACE)
  for position in range(PLACE["batch_size"]):
    rng = generator(position)
    top, left, h, w = random_box(rng, *SHAPE, 0.3)
    cropped = data.preprocessing.pixels(plain["image"][position][top : top + h, left : left + w])
    expected = rand_augment(rng, cropped, layers=2, magnitude=6)
    np.testing.assert_array_equal(changed["image"][position], expected)


def test_crops_are_taken_from_the_whole_picture_not_from_its_centre(pictures):
  plain = train_batch(pictures.train, **PLACE)
  changed = augmented_batch(pictures, HostAugmentation(resized_crop_area=0.2), **PLACE)
  np.testing.assert_array_equal(plain["label"], changed["label"])
  files = {pictures.train[index]["image"].tobytes(): file for index, file in enumerate(pictures.train.files)}
  squash = dataclasses.replace(pictures.preprocessing, crop_fraction=1.0, crop_mode="squash")
  for position in range(PLACE["batch_size"]):
    with Image.open(files[plain["image"][position].tobytes()]) as picture:
      pixels = np.asarray(picture)
    top, left, h, w = random_box(generator(position), *pixels.shape[:2], 0.2)
    np.testing.assert_array_equal(changed["image"][position], squash.pixels(pixels[top : top + h, left : left + w]))


def test_without_a_crop_each_image_is_the_one_that_evaluation_sees(pictures):
  layers_only = HostAugmentation(randaugment_layers=1, randaugment_magnitude=4)
  plain, changed = train_batch(pictures.train, **PLACE), augmented_batch(pictures, layers_only, **PLACE)
  for position in range(PLACE["batch_size"]):
    expected = rand_augment(generator(position), plain["image"][position], layers=1, magnitude=4)
    np.testing.assert_array_equal(changed["image"][position], expected)


@pytest.mark.parametrize("change", [{"seed": 4}, {"step": 3}])
def test_draws_depend_on_seed_step_and_position(change):
  source = ArraySource(np.broadcast_to(dataset().train.images[:1], (2, *SHAPE, 3)), np.zeros(2, int))
  alike = dataclasses.replace(dataset(), train=source)
  batch = augmented_batch(alike, BOTH, **PLACE)
  assert same(batch, augmented_batch(alike, BOTH, **PLACE))
  other = augmented_batch(alike, BOTH, **{**PLACE, **change})
  images = [*batch["image"], *other["image"]]
  assert len({image.tobytes() for image in images}) == len(images)


def test_the_number_of_threads_changes_nothing(monkeypatch, pictures):
  def batches(cores):
    monkeypatch.setattr(picture_source, "num_cores", lambda: cores)
    return [augmented_batch(data, BOTH, **PLACE) for data in (dataset(1), pictures)] + [
      train_batch(pictures.train, **PLACE)
    ]

  used = set()
  box = random_box

  def watched(*arguments):
    used.add(threading.get_ident())
    return box(*arguments)

  monkeypatch.setattr(host_augmentation, "random_box", watched)
  alone = batches(1)
  assert used == {threading.get_ident()}
  for cores in (2, 5, 64):
    assert all(map(same, alone, batches(cores)))
  assert len(used) > 1


def test_the_first_error_of_a_batch_is_raised_with_any_number_of_threads(monkeypatch):
  def fail(item):
    if item > 2:
      raise ValueError(f"item {item}")
    return item

  for cores in (1, 3):
    monkeypatch.setattr(picture_source, "num_cores", lambda cores=cores: cores)
    with pytest.raises(ValueError, match="item 3"):
      picture_source.in_threads(fail, range(9))
    assert picture_source.in_threads(fail, range(3)) == [0, 1, 2]
    assert picture_source.in_threads(fail, []) == []


def test_the_cores_are_those_that_the_process_may_use():
  assert 1 <= picture_source.num_cores() <= os.cpu_count()


def test_images_of_other_channels_are_refused_in_one_line():
  for augmentation in (BOTH, HostAugmentation(resized_crop_area=0.5), HostAugmentation(randaugment_layers=1)):
    with pytest.raises(ValueError, match="1 or 3 channels, got 2; set augmentation.resized_crop_area to 1 and"):
      augmented_batch(dataset(2), augmentation, **PLACE)
