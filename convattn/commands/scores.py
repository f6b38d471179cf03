"""Evaluation numbers as text and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from convattn.analysis import Classification, columns, most_confused
from convattn.analysis.names import labels

_MATRIX = 20
"""Up to so many classes the confusion is shown as a matrix."""

_PAIRS = 20
"""Beyond that, so many of the commonest mistakes."""

_ROWS = 100
"""Up to so many classes each has its row; beyond that the worst have."""


def report(scores: Classification, class_names: Sequence[str]) -> str:
  """All numbers in lines: the totals, what is taken for what, and a row for each class."""
  totals = {
    "images": f"{scores.count:,}",
    "accuracy": f"{scores.accuracy:.2%}",
    f"top-{scores.top}": f"{scores.top_accuracy:.2%}",
    "loss": f"{scores.loss:.4f}",
    "calibration error": f"{scores.calibration_error:.2%}",
  }
  lines = columns(list(totals.items()), left=2)
  class_names = labels(class_names)
  confused = _matrix if len(class_names) <= _MATRIX else _pairs
  return "\n".join([*lines, "", *confused(scores, class_names), "", *_classes(scores, class_names)])


def _matrix(scores: Classification, class_names: Sequence[str]) -> list[str]:
  counts = [[str(count) if count else "." for count in row] for row in scores.confusion.tolist()]
  header = ["true, predicted:", *class_names]
  return columns([header, *([name, *row] for name, row in zip(class_names, counts, strict=True))])


def _pairs(scores: Classification, class_names: Sequence[str]) -> list[str]:
  pairs = most_confused(scores.confusion, _PAIRS)
  if not pairs:
    return ["no image is taken for another class"]
  rows = [[class_names[true], class_names[predicted], str(count)] for true, predicted, count in pairs]
  return [f"the {len(rows)} commonest mistakes", *columns([["true", "predicted", "images"], *rows], left=2)]


def _classes(scores: Classification, class_names: Sequence[str]) -> list[str]:
  given = scores.confusion.sum(1)
  number = len(class_names)
  shown = list(range(number))
  title = []
  if number > _ROWS:
    # Stable: of equals the lower index comes first. A class without images has nothing to be judged by.
    order = np.argsort(np.where(given > 0, scores.f1, np.inf), kind="stable")
    shown = [int(i) for i in order[:_ROWS]]
    title = [f"the {_ROWS} of {number} classes with the lowest F1 (--out=FILE.json writes all)"]
  rows = [
    [class_names[i], f"{given[i]:,}", *(_share(values[i]) for values in (scores.precision, scores.recall, scores.f1))]
    for i in shown
  ]
  return [*title, *columns([["class", "images", "precision", "recall", "F1"], *rows])]


def _share(value: float) -> str:
  return "-" if math.isnan(value) else f"{value:.2%}"


def as_json(scores: Classification, class_names: Sequence[str]) -> dict[str, Any]:
  """Every number; None where one is 0 / 0."""
  given = scores.confusion.sum(1).tolist()
  columns = [
    [None if math.isnan(value) else value for value in values.tolist()]
    for values in (scores.precision, scores.recall, scores.f1)
  ]
  classes = [
    {"name": name, "images": images, "precision": precision, "recall": recall, "f1": f1}
    for name, images, precision, recall, f1 in zip(class_names, given, *columns, strict=True)
  ]
  return {
    "images": scores.count,
    "accuracy": scores.accuracy,
    "top": scores.top,
    "top_accuracy": scores.top_accuracy,
    "loss": scores.loss,
    "calibration_error": scores.calibration_error,
    "classes": classes,
    "confusion": scores.confusion.tolist(),
  }
