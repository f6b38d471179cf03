"""The line and the warnings at the start of a run."""

import dataclasses

import numpy as np
import pytest

from convattn.data import ArraySource, Dataset
from convattn.data.overview import overview
from convattn.data.records import RecordSource


def dataset(labels, names, remarks=()):
  def source(labels):
    return ArraySource(np.zeros((len(labels), 5, 7, 1), np.uint8), np.array(labels, np.int32))

  sources = source(labels), source(labels[:2]), source(labels[:1])
  return Dataset(*sources, tuple(names), (5, 7, 1), (0.5,), (0.5,), remarks=remarks)


def test_one_line_says_how_much_there_is_and_what_was_remarked():
  found = dataset([0, 1] * 600, "ab", ("passed over: 3 .txt", "and more"))
  assert overview(found) == [
    "data: 2 classes, images: train 1,200, validation 2, test 1; passed over: 3 .txt; and more"
  ]
  assert overview(found, "a\nb") == [overview(found)[0].replace("classes,", "classes in a\\nb,")]


def test_a_single_class_is_warned_of():
  line, warning = overview(dataset([0, 0], ["a\nb"]))
  assert line == "data: 1 class, images: train 2, validation 2, test 1"
  assert warning == "warning: there is a single class, a\\nb, and nothing to tell apart"


@pytest.mark.parametrize(
  "labels, warning",
  [
    ([0, 0, 1, 2, 2, 3, 3], "warning: 1 class has at most one image to train on: b"),
    ([0, 0, 1, 2, 2], "warning: 2 classes have at most one image to train on: b, d"),
    ([0, 1, 2, 3], "warning: 4 classes have at most one image to train on: a, b, c and 1 more"),
  ],
)
def test_a_class_of_one_image_or_none_is_warned_of(labels, warning):
  assert overview(dataset(labels, "abcd"))[1:] == [warning]


def test_nothing_is_warned_of_where_nothing_can_be_trained_on_or_labels_would_be_read():
  found = dataset([0, 1], "ab")
  empty = dataclasses.replace(found, train=found.train.take(np.arange(0), np.arange(0)))
  records = dataclasses.replace(found, train=RecordSource("/nowhere", "train", np.arange(2)))
  for each in (empty, records, dataset([0, 0, 1, 1], "ab")):
    assert len(overview(each)) == 1
