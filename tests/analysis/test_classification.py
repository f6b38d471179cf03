"""Evaluation numbers: a case by hand, and the laws that hold for any logits."""

import dataclasses
import math

import numpy as np
import pytest

from convattn.analysis import Outcomes, classify, join_outcomes, most_confused, outcomes


def draw(size=53, classes=7, scale=2.0, dtype=np.float32):
  generator = np.random.default_rng(size * classes)
  return (generator.normal(size=(size, classes)) * scale).astype(dtype), generator.integers(0, classes, size)


def numbers(scores):
  return {name: np.asarray(value).tolist() for name, value in dataclasses.asdict(scores).items()}


def test_a_case_by_hand():
  probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.25, 0.5, 0.25], [0.05, 0.9, 0.05]])
  scores = classify(outcomes(np.log(probabilities), np.array([0, 1, 1, 0])), 3, top=2)
  assert (scores.count, scores.accuracy, scores.top, scores.top_accuracy) == (4, 0.5, 2, 1.0)
  assert scores.loss == pytest.approx(-(math.log(0.7) + math.log(0.3) + math.log(0.5) + math.log(0.05)) / 4, rel=1e-14)
  # Each image is alone in its bin.
  assert scores.calibration_error == pytest.approx((0.3 + 0.6 + 0.5 + 0.9) / 4, rel=1e-14)
  assert scores.confusion.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]
  np.testing.assert_array_equal(scores.precision, [1, 0.5, 0])
  np.testing.assert_array_equal(scores.recall, [0.5, 0.5, np.nan])
  np.testing.assert_allclose(scores.f1, [2 / 3, 0.5, 0], rtol=1e-15)


def test_images_of_one_bin_are_taken_together():
  # Both top probabilities are in (9/15, 10/15]: one hit, one miss; apart they would give (0.38 + 0.64) / 2.
  probabilities = np.array([[0.62, 0.38], [0.64, 0.36]])
  scores = classify(outcomes(np.log(probabilities), np.array([0, 1])), 2)
  assert scores.calibration_error == pytest.approx(abs(1 - 1.26) / 2, rel=1e-13)


def test_an_edge_belongs_to_the_bin_below():
  hit, miss = np.array([0, 3]), np.array([0.2, 0.21])  # ranks and confidences
  found = Outcomes(np.zeros(2, int), hit, hit, miss, np.ones(2))
  # In one bin they would give |1 - 0.41| / 2.
  assert classify(found, 5).calibration_error == pytest.approx((0.8 + 0.21) / 2, rel=1e-14)


@pytest.mark.parametrize("classes", [1, 3, 11])
def test_a_perfect_predictor(classes):
  labels = np.arange(2 * classes) % classes
  scores = classify(outcomes(800 * np.eye(classes)[labels], labels), classes)
  assert (scores.accuracy, scores.top_accuracy, scores.loss, scores.calibration_error) == (1, 1, 0, 0)
  assert scores.confusion.tolist() == (2 * np.eye(classes)).tolist()
  for values in (scores.precision, scores.recall, scores.f1):
    assert values.tolist() == [1] * classes


@pytest.mark.parametrize("classes", [2, 9])
def test_a_uniform_predictor(classes):
  labels = np.arange(3 * classes) % classes
  scores = classify(outcomes(np.full((3 * classes, classes), -3.5, np.float32), labels), classes)
  assert scores.loss == pytest.approx(math.log(classes), rel=1e-14)
  assert scores.accuracy == 1 / classes
  assert scores.top_accuracy == min(5, classes) / classes
  assert scores.calibration_error < 1e-14
  assert scores.confusion[:, 1:].sum() == 0


def test_the_order_of_the_images_changes_no_bit():
  logits, labels = draw(2003)
  wanted = numbers(classify(outcomes(logits, labels), 7))
  for seed in range(8):
    order = np.random.default_rng(seed).permutation(len(labels))
    assert numbers(classify(outcomes(logits[order], labels[order]), 7)) == wanted


@pytest.mark.parametrize("sizes", [[1, 2002], [700, 700, 603], [53] * 37 + [42]])
def test_the_division_into_batches_changes_no_bit(sizes):
  logits, labels = draw(2003)
  ends = np.cumsum(sizes)[:-1]
  pieces = [outcomes(*pair) for pair in zip(np.split(logits, ends), np.split(labels, ends), strict=True)]
  assert numbers(classify(join_outcomes(pieces), 7)) == numbers(classify(outcomes(logits, labels), 7))


def test_renaming_the_classes_permutes_the_numbers_of_each_class():
  logits, labels = draw()
  order = np.random.default_rng(2).permutation(7)
  renamed = np.argsort(order)[labels]
  first, second = classify(outcomes(logits, labels), 7), classify(outcomes(logits[:, order], renamed), 7)
  np.testing.assert_array_equal(second.confusion, first.confusion[order][:, order])
  np.testing.assert_array_equal(second.f1, first.f1[order])
  assert second.top_accuracy == first.top_accuracy
  assert second.loss == pytest.approx(first.loss, rel=1e-14)


def test_a_constant_on_all_logits_of_an_image_changes_nothing():
  logits, labels = draw(dtype=np.float64)
  logits = np.round(logits, 3)
  shifted = logits + 512.0 * np.arange(len(labels))[:, None]
  first, second = classify(outcomes(logits, labels), 7), classify(outcomes(shifted, labels), 7)
  assert second.loss == pytest.approx(first.loss, rel=1e-11)
  assert second.confusion.tolist() == first.confusion.tolist()


def test_top_k_grows_with_k_to_all():
  logits, labels = draw()
  found = outcomes(logits, labels)
  shares = [classify(found, 7, top).top_accuracy for top in range(1, 9)]
  assert shares == sorted(shares)
  assert shares[0] == classify(found, 7).accuracy < shares[1] and shares[6] == shares[7] == 1
  assert classify(found, 7, 8).top == 7


def test_sums_agree_with_the_confusion():
  logits, labels = draw()
  logits = logits + np.eye(7, dtype=np.float32)[labels]  # so that every class is hit
  scores = classify(outcomes(logits, labels), 7)
  assert scores.confusion.sum() == scores.count == 53
  assert np.trace(scores.confusion) / 53 == scores.accuracy
  assert scores.confusion.sum(1).tolist() == np.bincount(labels, minlength=7).tolist()
  np.testing.assert_allclose(scores.f1, 2 / (1 / scores.precision + 1 / scores.recall), rtol=1e-14)


def test_logits_of_any_dtype_are_scored_in_float64():
  logits, labels = draw(dtype=np.float16, scale=30.0)
  half, double = (classify(outcomes(logits.astype(kind), labels), 7) for kind in (np.float16, np.float64))
  assert numbers(half) == numbers(double)


def test_the_commonest_mistakes_come_first():
  confusion = np.array([[9, 0, 2], [4, 1, 0], [2, 4, 7]])
  assert most_confused(confusion, 3) == [(1, 0, 4), (2, 1, 4), (0, 2, 2)]
  assert most_confused(np.eye(3, dtype=int), 3) == []


@pytest.mark.parametrize(
  ("logits", "labels", "message"),
  [
    (np.ones((2, 3)), np.array([0, 3]), "labels must be at least 0 and below 3, the number of logits, got 3"),
    (np.ones((2, 3)), np.array([-1, 0]), "got -1"),
    (np.ones((2, 3)), np.array([0.0, 1.0]), "labels must be integers, got float64"),
    (np.array([[1.0, np.nan], [0, 0]]), np.array([0, 1]), "those of 1 of 2 images are not"),
    (np.array([[1.0, np.inf], [0, np.nan]]), np.array([0, 1]), "those of 2 of 2 images are not"),
    (np.ones((2, 0)), np.array([0, 0]), "at least one class"),
  ],
)
def test_what_cannot_be_scored_is_refused(logits, labels, message):
  with pytest.raises(ValueError, match=message):
    outcomes(logits, labels)


def test_shapes_that_do_not_fit_are_refused():
  with pytest.raises(AssertionError, match=r"logits must be \[n, classes\]"):
    outcomes(np.ones(3), np.zeros(3, int))
  with pytest.raises(AssertionError, match=r"labels must be \[n\]"):
    outcomes(np.ones((2, 3)), np.zeros(3, int))


def test_numbers_that_do_not_fit_are_refused():
  found = outcomes(*draw())
  for arguments, message in (((6,), "num_classes must be above 6"), ((7, 0), "top must be at least 1")):
    with pytest.raises(ValueError, match=message):
      classify(found, *arguments)
  with pytest.raises(ValueError, match="no images"):
    classify(outcomes(np.ones((0, 3)), np.zeros(0, int)), 3)
  with pytest.raises(ValueError, match="nothing to join"):
    join_outcomes([])
