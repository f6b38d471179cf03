import dataclasses

import numpy as np
import pytest

from convattn.data import ArraySource, Dataset, select
from convattn.data.selection import parse_classes

NAMES = ("ant", "bee", "cat", "dog")


def source(size, seed):
  """Image i is filled with i; labels in no order."""
  labels = np.random.default_rng(seed).integers(0, len(NAMES), size)
  images = np.broadcast_to(np.arange(size, dtype=np.uint8)[:, None, None, None], (size, 2, 3, 1))
  return ArraySource(images, labels)


@pytest.fixture(scope="module")
def dataset():
  return Dataset(source(50, 0), source(17, 1), source(23, 2), NAMES, (2, 3, 1), (0.3,), (0.2,))


def pixels(source):
  return source.images[:, 0, 0, 0].tolist()


def names_by_image(dataset, split):
  part = getattr(dataset, split)
  return {image: dataset.class_names[label] for image, label in zip(pixels(part), part.labels, strict=True)}


@pytest.mark.parametrize(
  "text, labels",
  [("", ()), (" ", ()), ("3", (3,)), ("0-4", (0, 1, 2, 3, 4)), ("2-2", (2,)), ("7, 0 ,3-5", (7, 0, 3, 4, 5))],
)
def test_a_text_of_classes_names_its_labels(text, labels):
  assert parse_classes(text) == labels


@pytest.mark.parametrize("text", ["a", "1,", ",", "-1", "1-", "1-2-3", "1.0", "0:4", "1 2", "--", "\u0663"])
def test_another_text_is_refused_in_one_line(text):
  with pytest.raises(ValueError, match=r"must be labels such as '0-4' or '0,3,7', got") as caught:
    parse_classes(text)
  assert repr(text) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
  "text, message", [("4-0", "must rise, got '4-0' in '4-0'; write 0-4."), ("0-3,2", "with 2 more than once")]
)
def test_ranges_rise_and_labels_occur_once(text, message):
  with pytest.raises(ValueError, match=message):
    parse_classes(text)


def test_without_a_wish_the_data_set_is_what_it_was(dataset):
  assert select(dataset) is dataset
  assert select(dataset, seed=5) is dataset


@pytest.mark.parametrize("classes, chosen", [("1-2", (1, 2)), ("3,0", (3, 0)), ("0-3", (0, 1, 2, 3)), ("2", (2,))])
def test_classes_keep_their_images_order_and_names_in_every_split(dataset, classes, chosen):
  part = select(dataset, classes=classes)
  assert part.class_names == tuple(NAMES[label] for label in chosen)
  for split in ("train", "validation", "test"):
    whole, kept = getattr(dataset, split), getattr(part, split)
    mask = np.isin(whole.labels, chosen)
    assert pixels(kept) == np.array(pixels(whole))[mask].tolist()
    np.testing.assert_array_equal(np.array(chosen)[kept.labels], whole.labels[mask])
    assert names_by_image(part, split).items() <= names_by_image(dataset, split).items()
  assert (part.mean, part.std, part.image_shape) == (dataset.mean, dataset.std, dataset.image_shape)


def test_each_class_has_so_many_training_images_and_the_others_stay(dataset):
  part = select(dataset, images_per_class=5)
  np.testing.assert_array_equal(np.bincount(part.train.labels), [5] * len(NAMES))
  assert pixels(part.train) == sorted(pixels(part.train))  # the data set's order, which is that of the pixels here
  assert names_by_image(part, "train").items() <= names_by_image(dataset, "train").items()
  assert pixels(part.validation) == pixels(dataset.validation) and pixels(part.test) == pixels(dataset.test)


def test_the_draw_is_the_documented_one(dataset):
  label, count, seed = 2, 3, 7
  rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(label,)))
  expected = sorted(rng.permutation(np.flatnonzero(dataset.train.labels == label))[:count].tolist())
  assert pixels(select(dataset, classes=str(label), images_per_class=count, seed=seed).train) == expected


def test_another_seed_is_another_draw_and_the_same_seed_the_same(dataset):
  draws = [tuple(pixels(select(dataset, images_per_class=4, seed=seed).train)) for seed in (0, 1, 2, 0)]
  assert draws[0] == draws[3]
  assert len(set(draws)) == 3


def test_fewer_images_are_some_of_the_more(dataset):
  few, more = (set(pixels(select(dataset, images_per_class=count, seed=1).train)) for count in (2, 5))
  assert few < more


def test_a_class_does_not_depend_on_which_others_are_chosen(dataset):
  alone = names_by_image(select(dataset, classes="2", images_per_class=3), "train")
  among = names_by_image(select(dataset, classes="3,2,0", images_per_class=3), "train")
  assert alone == {image: name for image, name in among.items() if name == "cat"}


@pytest.mark.parametrize(
  "wishes, message",
  [
    ({"classes": "0-4"}, r"classes must be labels of the data set, 0 to 3, got 4 in '0-4'\."),
    ({"classes": "9"}, r"0 to 3, got 9 in '9'\."),
    ({"images_per_class": 40}, r"at most \d+, the training images of class 0 \(ant\), got 40; take fewer"),
    ({"images_per_class": -1}, "images_per_class must be at least 0, got -1"),
    ({"seed": -2}, "subset_seed must be at least 0, got -2"),
  ],
)
def test_a_wish_that_cannot_be_met_is_one_line(dataset, wishes, message):
  with pytest.raises(ValueError, match=message) as caught:
    select(dataset, **wishes)
  assert "\n" not in str(caught.value)


def test_too_few_images_are_counted_in_the_class_that_has_them(dataset):
  counts = np.bincount(dataset.train.labels)
  rarest = int(counts.argmin())
  select(dataset, images_per_class=int(counts.min()))  # as many as there are is not too many
  with pytest.raises(ValueError, match=rf"at most {counts.min()}, .* class {rarest} \({NAMES[rarest]}\)"):
    select(dataset, classes=str(rarest), images_per_class=int(counts.min()) + 1)


def test_a_source_without_labels_says_what_helps(dataset):
  class Bare:
    def __len__(self):
      return 1

    def __getitem__(self, index):
      return dataset.test[index]

  with pytest.raises(ValueError, match=r"validation must be a source with labels, got Bare; use in_memory\(source\)"):
    select(dataclasses.replace(dataset, validation=Bare()), classes="0")
