import subprocess
import sys

import numpy as np
import pytest

from convattn.data import ArraySource, Dataset, in_memory, load

IMAGES = np.arange(5 * 2 * 3 * 1, dtype=np.uint8).reshape(5, 2, 3, 1)
LABELS = np.array([2, 0, 1, 1, 0], np.uint8)


def test_importing_the_package_is_light():
  heavy = ("tensorflow", "tensorflow_datasets", "sklearn", "torch", "matplotlib", "PIL")
  code = f"import sys, convattn.data; print([name for name in {heavy} if name in sys.modules])"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == "[]"


def test_array_source_gives_each_image_with_its_label():
  source = ArraySource(IMAGES, LABELS)
  assert len(source) == 5
  for index in range(5):
    item = source[index]
    np.testing.assert_array_equal(item["image"], IMAGES[index])
    assert item["label"] == LABELS[index] and type(item["label"]) is int
  with pytest.raises(IndexError):
    source[5]


@pytest.mark.parametrize(
  "images, labels, error, message",
  [
    (IMAGES[..., 0], LABELS, AssertionError, r"has rank 3.*images must be \[n, h, w, c\]"),
    (IMAGES, LABELS[:4], AssertionError, r"\(4,\) but expected \(5\).*labels must be \[n\]"),
    (IMAGES, LABELS[:, None], AssertionError, r"\(5, 1\) but expected \(5\).*labels must be \[n\]"),
    (IMAGES / 255, LABELS, ValueError, "images must be uint8, got float64"),
    (IMAGES, LABELS / 2, ValueError, "labels must be integers, got float64"),
    (IMAGES, LABELS.astype(int) - 1, ValueError, "labels must not be negative, got -1"),
  ],
)
def test_array_source_names_what_is_wrong(images, labels, error, message):
  with pytest.raises(error, match=message):
    ArraySource(images, labels)


def test_in_memory_reads_every_example_once_and_keeps_the_order():
  read = []

  class Slow:
    def __len__(self):
      return 5

    def __getitem__(self, index):
      read.append(index)
      return {"image": IMAGES[index], "label": np.int64(LABELS[index])}

  source = in_memory(Slow())
  assert read == [0, 1, 2, 3, 4]
  np.testing.assert_array_equal(source.images, IMAGES)
  np.testing.assert_array_equal(source.labels, LABELS)
  assert source[3]["label"] == 1 and len(read) == 5  # nothing is read again


def dataset(**changes):
  source = ArraySource(IMAGES, LABELS)
  fields = {"class_names": ("a", "b", "c"), "image_shape": (2, 3, 1), "mean": (0.5,), "std": (0.25,)}
  return Dataset(train=source, validation=source, test=source, **{**fields, **changes})


def test_num_classes_counts_the_names():
  assert dataset().num_classes == 3


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"image_shape": (2, 3)}, r"image_shape must be \(h, w, c\), got \(2, 3\)"),
    ({"mean": (0.5, 0.5)}, r"mean must have 1 numbers.*got \(0.5, 0.5\)"),
    ({"std": ()}, r"std must have 1 numbers.*got \(\)"),
    ({"std": (0.0,)}, r"std must be positive, got \(0.0,\)"),
    ({"class_names": ()}, "class_names must name at least one class"),
  ],
)
def test_dataset_refuses_fields_that_do_not_fit(changes, message):
  with pytest.raises(ValueError, match=message):
    dataset(**changes)


@pytest.mark.parametrize("name, hint", [("digit", "did you mean 'digits'"), ("zebra", "Known: digits")])
def test_an_unknown_name_gives_one_line_with_the_known_ones(name, hint, tmp_path):
  with pytest.raises(ValueError) as caught:
    load(name, str(tmp_path))
  message = str(caught.value)
  assert repr(name) in message and hint in message and "\n" not in message
  assert not list(tmp_path.iterdir())
