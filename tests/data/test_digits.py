import numpy as np
import pytest

from convattn.data import load, normalize
from convattn.data.digits import MEAN, STD, split_indexes, to_levels, to_uint8


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
  return load("digits", str(tmp_path_factory.mktemp("tfds")))


@pytest.fixture(scope="module")
def scans():
  from sklearn.datasets import load_digits

  return load_digits()


def test_the_split_is_the_one_scikit_learn_draws(scans):
  from sklearn.model_selection import train_test_split

  labels = scans.target
  rest, test = train_test_split(range(1797), test_size=360, stratify=labels, random_state=0)
  rest = sorted(rest)
  train, validation = train_test_split(rest, test_size=144, stratify=labels[rest], random_state=0)
  drawn = {"train": train, "validation": validation, "test": test}
  assert {name: list(indexes) for name, indexes in split_indexes().items()} == {
    name: sorted(indexes) for name, indexes in drawn.items()
  }


def test_the_splits_are_disjoint_and_complete():
  splits = split_indexes()
  assert {name: len(indexes) for name, indexes in splits.items()} == {"train": 1293, "validation": 144, "test": 360}
  assert sorted(index for indexes in splits.values() for index in indexes) == list(range(1797))


def test_grey_levels_survive_the_round_trip():
  levels = np.arange(17)
  np.testing.assert_array_equal(to_levels(to_uint8(levels)), levels)
  assert to_uint8(levels).dtype == np.uint8 and len(set(to_uint8(levels).tolist())) == 17
  np.testing.assert_array_equal(np.diff(to_uint8(levels).astype(int)), 15)  # proportional


@pytest.mark.parametrize("level", [-1, 17, 0.5, np.nan])
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_other_grey_levels_are_refused(level):
  with pytest.raises(ValueError, match="integers from 0 to 16"):
    to_uint8(np.array([0, level]))


def test_each_split_holds_the_scans_of_its_index_list(digits, scans):
  for name, indexes in split_indexes().items():
    source, indexes = getattr(digits, name), list(indexes)
    assert source.images.dtype == np.uint8 and source.images.shape == (len(indexes), 8, 8, 1)
    np.testing.assert_array_equal(to_levels(source.images)[..., 0], scans.images[indexes])
    np.testing.assert_array_equal(source.labels, scans.target[indexes])
  assert digits.image_shape == (8, 8, 1) and digits.num_classes == 10
  assert digits.class_names == tuple(map(str, scans.target_names))


def test_mean_and_std_are_those_of_the_train_split(digits):
  pixels = digits.train.images / 255
  assert digits.mean == MEAN and digits.std == STD
  np.testing.assert_allclose(MEAN, pixels.mean((0, 1, 2)), atol=6e-7)
  np.testing.assert_allclose(STD, pixels.std((0, 1, 2)), atol=6e-7)
  everything = np.concatenate([digits.train.images, digits.validation.images, digits.test.images]) / 255
  assert abs(everything.mean() - MEAN[0]) > 6e-7  # the held-out images are not in it


def test_normalized_train_pixels_have_mean_zero_and_variance_one(digits):
  normalized = np.asarray(normalize(digits.train.images, digits.mean, digits.std), np.float64)
  np.testing.assert_allclose([normalized.mean(), normalized.std()], [0, 1], atol=1e-5)
