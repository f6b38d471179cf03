"""The confusion matrix says what the file says."""

import json

import numpy as np
import pytest

from convattn.viz import confusion_figure, read_confusion

NAMES = ("cat", "dog", "owl")
COUNTS = np.array([[5, 0, 2], [1, 1234, 0], [0, 0, 0]])


def cells(axes):
  return {tuple(map(int, text.get_position()[::-1])): text for text in axes.texts}


def test_cells_hold_counts_and_colours_hold_shares_of_the_row():
  axes, bar = confusion_figure(COUNTS, NAMES).axes
  assert {place: text.get_text() for place, text in cells(axes).items()} == {
    place: f"{count:,}" for place, count in np.ndenumerate(COUNTS)
  }
  shares = np.asarray(axes.images[0].get_array())
  np.testing.assert_allclose(shares, [[5 / 7, 0, 2 / 7], [1 / 1235, 1234 / 1235, 0], [0, 0, 0]], rtol=1e-15)
  assert axes.images[0].get_clim() == (0, 1)
  assert bar.get_ylabel() == "share of the true class"


def test_rows_are_true_and_columns_predicted():
  axes = confusion_figure(COUNTS, NAMES).axes[0]
  assert (axes.get_ylabel(), axes.get_xlabel()) == ("true", "predicted")
  assert [label.get_text() for label in axes.get_xticklabels()] == list(NAMES)
  assert [label.get_text() for label in axes.get_yticklabels()] == list(NAMES)
  # "1" for one dog taken for a cat stands in the dog's row.
  assert cells(axes)[1, 0].get_text() == "1"
  assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_the_title_counts_the_right_ones():
  assert confusion_figure(COUNTS, NAMES).axes[0].get_title("left") == "1,239 of 1,242 right (99.76%)"
  assert confusion_figure(np.zeros((3, 3), int), NAMES).axes[0].get_title("left") == "0 of 0 right (0.00%)"


@pytest.mark.parametrize("right", range(0, 41, 3))
def test_every_number_stands_out_from_its_cell(right):
  axes = confusion_figure(np.array([[right, 40 - right], [40 - right, right]]), ("a", "b")).axes[0]
  picture = axes.images[0]
  for place, text in cells(axes).items():
    if text.get_text() != "0":
      background = picture.cmap(picture.norm(picture.get_array()[place]))[:3]
      foreground = np.array([1.0, 1.0, 1.0]) if text.get_color() == "white" else np.array([0.125, 0.188, 0.235])
      assert abs(np.dot(foreground - background, [0.299, 0.587, 0.114])) > 0.35


def test_many_classes_have_no_numbers_and_fewer_names():
  number = 101
  axes = confusion_figure(np.eye(number, dtype=int), [f"class {i}" for i in range(number)]).axes[0]
  assert not axes.texts
  labels = [label.get_text() for label in axes.get_xticklabels()]
  assert labels == [f"class {i}" for i in range(0, number, 4)]


def test_the_file_is_read_back(tmp_path):
  path = tmp_path / "confusion.json"
  path.write_text(json.dumps({"class_names": NAMES, "counts": COUNTS.tolist()}))
  counts, names = read_confusion(path)
  np.testing.assert_array_equal(counts, COUNTS)
  assert names == NAMES


def test_a_missing_file_is_one_line(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"confusion.json is missing; a run writes it when it has ended.$"):
    read_confusion(tmp_path / "confusion.json")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"class_names": ["a"], "counts": [[1], [2, 3]]}'])
def test_a_file_of_something_else_is_refused(tmp_path, content):
  path = tmp_path / "confusion.json"
  path.write_text(content)
  with pytest.raises(ValueError, match="does not hold counts and class_names"):
    read_confusion(path)


@pytest.mark.parametrize("shape", [(3, 2), (2, 3), (2, 2), (3,)])
def test_counts_that_do_not_fit_the_names_are_refused(shape):
  with pytest.raises(ValueError, match="one row and column for each of the 3 class names"):
    confusion_figure(np.zeros(shape, int), NAMES)
