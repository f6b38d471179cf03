"""How good a classifier's logits are: exact numbers over any number of images, in float64."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import chex
import numpy as np

CALIBRATION_BINS = 15
"""Equal-width bins of the top probability; the number that Guo et al. use."""


@dataclasses.dataclass(frozen=True, eq=False)
class Outcomes:
  """What became of each image; of several batches, `join_outcomes` makes those of all.

  Attributes:
    label: int64 [n], the true class.
    predicted: int64 [n], the class with the largest logit, of equals the first.
    rank: int64 [n], how many classes come before the true one: 0 is a hit, below k is a top-k hit.
    confidence: float64 [n], the softmax probability of the predicted class.
    loss: float64 [n], -log softmax(logits)[label], in nats.
  """

  label: np.ndarray
  predicted: np.ndarray
  rank: np.ndarray
  confidence: np.ndarray
  loss: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Classification:
  """The numbers of a whole set of images.

  Attributes:
    count: number of images, n.
    accuracy: share whose true class comes first.
    top: k of `top_accuracy`; the number of classes where there are fewer than asked for.
    top_accuracy: share whose true class is among the first k.
    loss: mean cross-entropy, in nats.
    calibration_error: see `classify`.
    confusion: int64 [true class, predicted class].
    precision, recall, f1: float64 [classes]; nan where it is 0 / 0.
  """

  count: int
  accuracy: float
  top: int
  top_accuracy: float
  loss: float
  calibration_error: float
  confusion: np.ndarray
  precision: np.ndarray
  recall: np.ndarray
  f1: np.ndarray


def outcomes(logits: np.ndarray, labels: np.ndarray) -> Outcomes:
  """Predicted class, rank of the true class, top probability and cross-entropy of each image.

  Of equal logits the class with the lower index comes first, as in argmax.

  Args:
    logits: [n, classes], any real dtype; computed with in float64.
    labels: integers [n], from 0.

  Raises:
    AssertionError: a wrong rank or length, naming the argument.
    ValueError: logits that are not finite, labels that are no class, or no class at all.
  """
  chex.assert_rank(logits, 2, custom_message="logits must be [n, classes]")
  chex.assert_shape(labels, (len(logits),), custom_message="labels must be [n], one for each row of logits")
  wide, classes = np.ascontiguousarray(logits, np.float64), np.asarray(logits).shape[1]
  label = _checked_labels(labels, classes)
  if not np.isfinite(wide).all():
    broken = int((~np.isfinite(wide)).any(1).sum())
    raise ValueError(f"logits must be finite, but those of {broken} of {len(wide)} images are not; the model diverged.")
  true = np.take_along_axis(wide, label[:, None], 1)
  earlier = np.arange(classes)[None] < label[:, None]
  shifted = wide - wide.max(1, keepdims=True)
  partition = np.exp(shifted).sum(1)
  return Outcomes(
    label=label,
    predicted=wide.argmax(1).astype(np.int64),
    rank=((wide > true) | ((wide == true) & earlier)).sum(1, dtype=np.int64),
    confidence=1 / partition,
    loss=np.log(partition) - np.take_along_axis(shifted, label[:, None], 1)[:, 0],
  )


def _checked_labels(labels: np.ndarray, classes: int) -> np.ndarray:
  labels = np.asarray(labels)
  if not classes:
    raise ValueError("logits must have at least one class, got [n, 0].")
  if not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(f"labels must be integers, got {labels.dtype}; pass class indexes from 0.")
  if labels.size and (labels.min() < 0 or labels.max() >= classes):
    wrong = labels.min() if labels.min() < 0 else labels.max()
    raise ValueError(f"labels must be at least 0 and below {classes}, the number of logits, got {wrong}.")
  return labels.astype(np.int64)


def join_outcomes(pieces: Sequence[Outcomes]) -> Outcomes:
  """The outcomes of all pieces, in their order.

  Raises:
    ValueError: no pieces.
  """
  if not pieces:
    raise ValueError("there is nothing to join; give the outcomes of at least one batch.")
  names = [field.name for field in dataclasses.fields(Outcomes)]
  return Outcomes(**{name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in names})


def classify(found: Outcomes, num_classes: int, top: int = 5) -> Classification:
  """Accuracy, top-k accuracy, cross-entropy, calibration error, confusion counts and numbers of each class.

  Sums of floating-point numbers are rounded once (math.fsum), so that the order of the images and their division into
  batches change no bit.

  The expected calibration error is, over M = 15 bins, B_m holding the images whose top probability is in
  ((m - 1) / M, m / M],

      sum_m |B_m| / n * |accuracy(B_m) - mean top probability(B_m)|.

  Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equations 2 and 3.

  With tp the diagonal of the confusion counts: precision = tp / (column sum), recall = tp / (row sum),
  f1 = 2 tp / (row sum + column sum).

  Args:
    found: of the images, all with logits [n, num_classes].
    num_classes: number of classes.
    top: k of the top-k accuracy, at least 1.

  Raises:
    ValueError: no images, more classes than `num_classes`, or `top` below 1.
  """
  count = len(found.label)
  if not count:
    raise ValueError("there are no images to score; give at least one.")
  if top < 1:
    raise ValueError(f"top must be at least 1, got {top}.")
  if max(found.label.max(), found.predicted.max()) >= num_classes:
    highest = int(max(found.label.max(), found.predicted.max()))
    raise ValueError(f"num_classes must be above {highest}, the highest class among the images, got {num_classes}.")
  pairs = np.bincount(found.label * num_classes + found.predicted, minlength=num_classes**2)
  confusion = pairs.reshape(num_classes, num_classes).astype(np.int64)
  right, given, taken = np.diag(confusion), confusion.sum(1), confusion.sum(0)
  top = min(top, num_classes)
  return Classification(
    count=count,
    accuracy=int((found.rank == 0).sum()) / count,
    top=top,
    top_accuracy=int((found.rank < top).sum()) / count,
    loss=math.fsum(found.loss) / count,
    calibration_error=_calibration_error(found),
    confusion=confusion,
    precision=_ratio(right, taken),
    recall=_ratio(right, given),
    f1=_ratio(2 * right, given + taken),
  )


def _calibration_error(found: Outcomes) -> float:
  edges = np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS
  bins, hits = np.searchsorted(edges, found.confidence, side="left"), found.rank == 0
  # |B| (accuracy - confidence) is the difference of two sums.
  gaps = [abs(int(hits[bins == m].sum()) - math.fsum(found.confidence[bins == m])) for m in range(CALIBRATION_BINS)]
  return math.fsum(gaps) / len(hits)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
  return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)


def most_confused(confusion: np.ndarray, number: int) -> list[tuple[int, int, int]]:
  """(true class, predicted class, count) of the commonest mistakes; of equals the lower indexes come first.

  Args:
    confusion: integers [true class, predicted class].
    number: how many at most.
  """
  counts = np.asarray(confusion)
  chex.assert_shape(counts, (len(counts), len(counts)), custom_message="confusion must be [classes, classes]")
  mistakes = [(int(row), int(column)) for row, column in np.argwhere(counts) if row != column]
  ordered = sorted(mistakes, key=lambda pair: (-counts[pair], pair))
  return [(row, column, int(counts[row, column])) for row, column in ordered[:number]]
