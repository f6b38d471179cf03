"""A set whose class no small window tells, whatever is counted of all windows."""

import numpy as np
import pytest

from convattn.data import distant_marks
from convattn.data.distant_marks import COLUMNS, CROSS, DISTANCES, MARGIN, RING, ROWS, SIDE, drawn, make, parts, places

HEIGHT, WIDTH = SIDE * ROWS, SIDE * COLUMNS
FAR = DISTANCES[-1]


def windows(pictures, size, step=1):
  """All windows of so many columns, whole columns high, of each picture as sorted bytes; what is outside is black.

  A window of fewer rows is a part of one of these.
  """
  around = np.pad(pictures, ((0, 0), (0, 0), (size - 1, size - 1)))
  cut = np.lib.stride_tricks.sliding_window_view(around, size, axis=2)[:, :, (size - 1) % step :: step]
  cut = np.ascontiguousarray(np.moveaxis(cut, 2, 1).astype(np.uint8))
  return [sorted(window.tobytes() for window in each) for each in cut]


def both_classes(distance, count=40):
  """Pictures without noise at the same places: the cross on the left, and the ring on the left at exchanged rows."""
  rows, columns = places(count, distance, np.random.default_rng(3))
  cross_left = drawn(rows, columns, np.zeros(count, int))
  return cross_left, drawn(rows[:, ::-1], columns, np.ones(count, int))


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_windows_of_both_classes_are_the_same_up_to_the_distance(distance):
  """Not only in their frequencies: each picture has one of the other class with the very same windows."""
  largest = min(distance - SIDE + 1, SIDE * MARGIN + 1)
  cross_left, ring_left = both_classes(distance)
  for size in (1, SIDE, largest):
    assert windows(cross_left, size) == windows(ring_left, size)
  beyond = distance - SIDE + 2 if distance < FAR else SIDE * MARGIN + 2
  assert all(a != b for a, b in zip(windows(cross_left, beyond), windows(ring_left, beyond), strict=True))


def test_rows_of_the_marks_are_alike_in_law():
  """Exchanging them, as above, is no other draw: they are independent and uniform."""
  rows, columns = places(4000, FAR, np.random.default_rng(0))
  assert set(np.unique(rows)) == set(range(0, HEIGHT, SIDE))
  counts = np.histogram2d(*rows.T, bins=ROWS)[0]
  assert abs(counts - 250).max() < 5 * 250**0.5
  assert (columns[:, 1] - columns[:, 0] == FAR).all()


@pytest.mark.parametrize("distance", DISTANCES)
def test_marks_keep_their_distance_and_the_margins(distance):
  _, columns = places(2000, distance, np.random.default_rng(1))
  assert (columns % SIDE == 0).all()
  assert (np.diff(columns, axis=1) == distance).all()
  assert columns.min() == SIDE * MARGIN
  assert columns.max() == WIDTH - SIDE * MARGIN - SIDE  # the last place is taken too


def test_the_marks_differ_in_shape_alone():
  assert CROSS.sum() == RING.sum() == 8 and (CROSS != RING).all()


@pytest.mark.parametrize("distance", DISTANCES)
def test_labels_are_decoded_from_the_noisy_pictures(distance):
  """By matched filters over whole places: which of the two best is farther left."""
  images, labels = make(301, distance, np.random.default_rng(5))
  lattice = (images[..., 0] - 64.0).reshape(-1, ROWS, SIDE, COLUMNS, SIDE)
  scores = np.einsum("nrycx,yx->nrc", lattice, CROSS - RING).sum(1)
  found = (scores.argmax(1) > scores.argmin(1)).astype(int)
  np.testing.assert_array_equal(found, labels)
  assert np.bincount(labels).tolist() == [151, 150]


def test_a_grey_level_histogram_and_the_mean_of_all_places_say_nothing():
  images, labels = make(4000, FAR, np.random.default_rng(6))
  mean = images.reshape(len(images), -1).mean(1)
  assert abs(mean[labels == 0].mean() - mean[labels == 1].mean()) < 5 * mean.std() / 1000**0.5
  patches = images[..., 0].reshape(-1, ROWS, SIDE, COLUMNS, SIDE).mean((1, 3))  # [n, SIDE, SIDE]
  difference = patches[labels == 0].mean(0) - patches[labels == 1].mean(0)
  assert abs(difference).max() < 5 * patches.std(0).max() / 1000**0.5


def test_a_set_is_the_same_each_time_and_no_two_parts_are_alike(monkeypatch):
  monkeypatch.setattr(distant_marks, "SIZES", {"train": 6, "validation": 6, "test": 5})
  first, again, other = parts(FAR), parts(FAR), parts(8)
  for split, (images, labels) in first.items():
    assert images.dtype == np.uint8 and images.shape == (len(labels), HEIGHT, WIDTH, 1)
    np.testing.assert_array_equal(images, again[split][0])
    np.testing.assert_array_equal(labels, again[split][1])
    assert not (images == other[split][0]).all()
  assert not (first["train"][0] == first["validation"][0]).all()
