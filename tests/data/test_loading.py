"""What `load` changes about a data set: its images' size, and its preprocessing."""

import dataclasses

import numpy as np
import pytest

from convattn.data import ArraySource, Dataset, adapt, load
from convattn.pretrained import Preprocessing


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="module")
def digits(directory):
  return load("digits", directory)


RGB = Preprocessing((9, 9), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), crop_fraction=0.9, crop_mode="center")


def test_digits_keep_their_own_preprocessing(digits):
  assert digits.preprocessing == Preprocessing((8, 8), digits.mean, digits.std)
  own = digits.preprocessing
  np.testing.assert_array_equal(own.pixels(digits.test.images[3]), digits.test.images[3])


def test_an_image_size_resizes_as_the_preprocessing_says(directory, digits):
  wide = load("digits", directory, image_size=11, classes="5-9", images_per_class=3)
  assert wide.image_shape == (11, 11, 1) and wide.num_classes == 5 and len(wide.train) == 15
  assert wide.preprocessing == Preprocessing((11, 11), digits.mean, digits.std)
  small = load("digits", directory, classes="5-9", images_per_class=3)
  for split in ("train", "test"):
    before, after = getattr(small, split), getattr(wide, split)
    np.testing.assert_array_equal(before.labels, after.labels)
    assert after.images.dtype == np.uint8 and after.images.shape[1:] == (11, 11, 1)
    # An image that is given to a model later goes the same way.
    np.testing.assert_array_equal(after.images[4], wide.preprocessing.pixels(before.images[4]))


def test_the_size_that_it_has_changes_nothing(digits):
  assert adapt(digits, image_size=8) is digits
  assert adapt(digits, image_size=7) is not digits


def test_mean_and_std_of_a_pretrained_model_take_the_place_of_its_own(digits):
  grey = Preprocessing((5, 6), (0.1,), (0.7,), crop_fraction=0.5)
  adapted = adapt(digits, preprocessing=grey)
  assert adapted.preprocessing == Preprocessing((8, 8), (0.1,), (0.7,))  # nothing is cropped from images in memory
  assert adapted.train is digits.train


def test_a_model_that_sees_colours_gets_three_equal_channels(directory, digits):
  adapted = load("digits", directory, image_size=10, preprocessing=RGB, classes="0,1", images_per_class=2)
  assert adapted.preprocessing == Preprocessing((10, 10), RGB.mean, RGB.std)
  assert adapted.test.images.shape[1:] == adapted.image_shape == (10, 10, 3)
  grey = load("digits", directory, image_size=10, classes="0,1", images_per_class=2)
  np.testing.assert_array_equal(adapted.train.images, np.repeat(grey.train.images, 3, axis=-1))


def test_a_negative_image_size_is_refused(directory):
  with pytest.raises(ValueError, match="image_size must be at least 0 .*, got -3"):
    load("digits", directory, image_size=-3)


def test_images_in_memory_need_not_be_grey_or_rgb():
  images = np.random.default_rng(0).integers(0, 255, (4, 5, 6, 2), np.uint8)
  source = ArraySource(images, np.arange(4))
  dataset = Dataset(source, source, source, tuple("abcd"), (5, 6, 2), (0.5, 0.5), (0.5, 0.5))
  larger = adapt(dataset, image_size=9)
  single = dataclasses.replace(larger.preprocessing, mean=(0.5,), std=(0.5,))
  for channel in range(2):
    np.testing.assert_array_equal(larger.test.images[1, ..., channel], single.pixels(images[1, ..., channel])[..., 0])
