import itertools

import numpy as np
import pytest

from convattn.data import ArraySource, evaluation_batches, train_batch, train_indexes
from convattn.data.batches import _epoch_order


def numbered(size):
  """Image i is filled with i and has label i % 3."""
  images = np.broadcast_to(np.arange(size, dtype=np.uint8)[:, None, None, None], (size, 2, 3, 1))
  return ArraySource(images, np.arange(size) % 3)


class OneByOne:
  """A source of another make, with labels as NumPy scalars like TFDS gives them."""

  def __init__(self, images):
    self.images = images

  def __len__(self):
    return len(self.images)

  def __getitem__(self, index):
    return {"image": self.images[index], "label": np.int64(index)}


def stream(size, batch_size, steps, seed=0):
  return np.concatenate([train_indexes(size, batch_size=batch_size, seed=seed, step=step) for step in range(steps)])


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10, 20])
def test_each_epoch_has_every_example_once_across_borders(batch_size):
  size = 7
  epochs = stream(size, batch_size, steps=size).reshape(batch_size, size)  # 7 batches are a whole number of epochs
  np.testing.assert_array_equal(np.sort(epochs, axis=1), np.broadcast_to(np.arange(size), epochs.shape))


def test_the_stream_does_not_depend_on_the_batch_size():
  np.testing.assert_array_equal(stream(7, 3, steps=20), stream(7, 20, steps=3))


def test_a_batch_depends_on_nothing_but_seed_and_step():
  steps = [5, 0, 3, 0, 5]
  first = [train_batch(numbered(7), batch_size=3, seed=4, step=step)["image"] for step in steps]
  _epoch_order.cache_clear()
  second = [train_batch(numbered(7), batch_size=3, seed=4, step=step)["image"] for step in steps]
  np.testing.assert_array_equal(first, second)
  np.testing.assert_array_equal(first[0], first[4])
  assert not np.array_equal(first[0], first[1])


def test_orders_differ_between_epochs_and_seeds_and_from_the_plain_order():
  size = 50
  orders = [stream(size, size, steps=3, seed=seed).reshape(3, size) for seed in range(3)]
  different = [np.arange(size), *np.concatenate(orders)]
  for one, other in itertools.combinations(different, 2):
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("kind", [numbered, lambda size: OneByOne(numbered(size).images)])
def test_train_batch_keeps_image_and_label_together(kind):
  source = kind(5)
  batch = train_batch(source, batch_size=12, seed=1, step=2)
  assert batch["image"].shape == (12, 2, 3, 1) and batch["image"].dtype == np.uint8
  assert batch["label"].shape == (12,) and batch["label"].dtype == np.int32
  indexes = train_indexes(5, batch_size=12, seed=1, step=2)
  np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], indexes)
  np.testing.assert_array_equal(batch["label"], [source[int(index)]["label"] for index in indexes])


def test_a_step_far_away_is_exact():
  step = np.int32(2**31 - 1)  # position 2**31 * 1000 and beyond do not fit its type
  last = train_indexes(3, batch_size=1000, seed=0, step=step)
  assert np.bincount(last, minlength=3).sum() == 1000 and np.ptp(np.bincount(last, minlength=3)) <= 2


@pytest.mark.parametrize("size, batch_size", [(7, 3), (6, 3), (2, 5), (5, 1), (0, 4)])
def test_masked_sums_equal_the_sums_over_the_split(size, batch_size):
  source = numbered(size)
  batches = list(evaluation_batches(source, batch_size))
  assert len(batches) == -(-size // batch_size)
  for batch in batches:
    assert {name: (array.shape[0], array.dtype.name) for name, array in batch.items()} == {
      "image": (batch_size, "uint8"),
      "label": (batch_size, "int32"),
      "mask": (batch_size, "float32"),
    }
    assert not batch["image"][batch["mask"] == 0].any() and not batch["label"][batch["mask"] == 0].any()
  seen = [image for batch in batches for image, mask in zip(batch["image"], batch["mask"], strict=True) if mask]
  np.testing.assert_array_equal(np.reshape(seen, source.images.shape), source.images)
  assert sum(batch["mask"].sum() for batch in batches) == size
  assert sum((batch["mask"] * (batch["label"] + 1)).sum() for batch in batches) == (source.labels + 1).sum()
  unmasked = sum((batch["label"] + 1).sum() for batch in batches)
  assert (unmasked == (source.labels + 1).sum()) == (size % batch_size == 0)  # the mask is what makes it right


@pytest.mark.parametrize("size, batch_size", [(7, 3), (2, 5), (9, 4)])
def test_rows_of_evaluation_batches_are_those_of_the_whole_ones_and_no_other_is_read(size, batch_size):
  class Read(ArraySource):
    def __getitem__(self, index):
      read.add(index)
      return super().__getitem__(index)

  whole = list(evaluation_batches(numbered(size), batch_size))
  for start in range(batch_size):
    rows, read = slice(start, start + 2), set()
    parts = list(evaluation_batches(Read(numbered(size).images, numbered(size).labels), batch_size, rows))
    for part, batch in zip(parts, whole, strict=True):
      for name, array in batch.items():
        np.testing.assert_array_equal(part[name], array[rows])
        assert part[name].dtype == array.dtype
    wanted = {index for index in range(size) if start <= index % batch_size < start + 2}
    assert wanted <= read <= wanted | {index for index in range(size) if index % batch_size == 0}


@pytest.mark.parametrize(
  "change, message",
  [
    ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ({"seed": -1}, "seed must be at least 0, got -1"),
    ({"step": -2}, "step must be at least 0, got -2"),
  ],
)
def test_train_batch_names_the_number_out_of_range(change, message):
  with pytest.raises(ValueError, match=message):
    train_batch(numbered(3), **{"batch_size": 2, "seed": 0, "step": 0, **change})


def test_an_empty_source_cannot_be_trained_on():
  with pytest.raises(ValueError, match="no images to train on"):
    train_batch(numbered(0), batch_size=2, seed=0, step=0)


def test_evaluation_batches_refuses_its_batch_size_at_the_call():
  with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
    evaluation_batches(numbered(3), 0)


@pytest.mark.parametrize(
  "images, found",
  [
    ([np.zeros((2, 3), np.uint8)], r"uint8 \[2, 3\]"),
    ([np.zeros((2, 3, 1), np.float32)], r"float32 \[2, 3, 1\]"),
    ([np.zeros((2, 3, 1), np.uint8), np.zeros((4, 3, 1), np.uint8)], r"uint8 \[2, 3, 1\] and uint8 \[4, 3, 1\]"),
  ],
)
def test_images_of_a_wrong_kind_are_named(images, found):
  with pytest.raises(ValueError, match=found):
    train_batch(OneByOne(images), batch_size=2, seed=0, step=0)
  with pytest.raises(ValueError, match=found):
    list(evaluation_batches(OneByOne(images), 2))
