"""Evaluation numbers as a user reads them."""

import json

import numpy as np
import pytest

from convattn.analysis import Outcomes, classify
from convattn.commands.scores import as_json, report


def made(labels, predicted, classes):
  labels, predicted = np.array(labels), np.array(predicted)
  rank = (labels != predicted).astype(int)
  return classify(Outcomes(labels, predicted, rank, np.full(len(labels), 0.5), np.full(len(labels), 0.25)), classes)


def test_few_classes_have_a_matrix_and_a_row_each():
  text = report(made([0, 0, 1, 1], [0, 1, 1, 1], 3), ["cat", "small dog", "bird"])
  assert text.splitlines() == [
    "  images             4",
    "  accuracy           75.00%",
    "  top-3              100.00%",
    "  loss               0.2500",
    "  calibration error  25.00%",
    "",
    "  true, predicted:  cat  small dog  bird",
    "  cat                 1          1     .",
    "  small dog           .          2     .",
    "  bird                .          .     .",
    "",
    "  class      images  precision   recall      F1",
    "  cat             2    100.00%   50.00%  66.67%",
    "  small dog       2     66.67%  100.00%  80.00%",
    "  bird            0          -        -       -",
  ]


def test_many_classes_have_their_commonest_mistakes():
  labels, predicted = [0] * 4 + [1] * 3 + [2, 29], [7] * 3 + [0] + [2] * 3 + [2, 29]
  lines = report(made(labels, predicted, 30), [f"c{i}" for i in range(30)]).splitlines()
  assert lines[6:10] == [
    "the 2 commonest mistakes",
    "  true  predicted  images",
    "  c0    c7              3",
    "  c1    c2              3",
  ]
  assert sum(line.startswith("  c2 ") for line in lines) == 1
  assert len(lines) == 6 + 4 + 1 + 1 + 30
  assert "no image is taken for another class" in report(made([3], [3], 30), [f"c{i}" for i in range(30)])


def test_of_very_many_classes_the_worst_are_shown():
  labels = np.repeat(np.arange(150), 2)
  predicted = labels.copy()
  predicted[2 * 120], predicted[2 * 30] = 5, 150
  text = report(made(labels, predicted, 151), [f"c{i}" for i in range(151)])
  assert "the 100 of 151 classes with the lowest F1 (--out=FILE.json writes all)" in text
  rows = text.split("F1\n")[1].splitlines()
  assert [row.split()[0] for row in rows[:3]] == ["c30", "c120", "c5"]
  assert len(rows) == 100
  assert "c150 " not in text.split("F1\n")[1]  # has no images, and an F1 of 0


def test_json_holds_every_number():
  scores = made([0, 0, 1, 1], [0, 1, 1, 1], 3)
  found = json.loads(json.dumps(as_json(scores, "abc"), allow_nan=False))
  assert (found["images"], found["accuracy"], found["top"], found["top_accuracy"]) == (4, 0.75, 3, 1.0)
  assert found["loss"] == 0.25 and found["calibration_error"] == pytest.approx(0.25)
  assert found["confusion"] == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
  assert found["classes"][0] == {"name": "a", "images": 2, "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)}
  assert found["classes"][2] == {"name": "c", "images": 0, "precision": None, "recall": None, "f1": None}
