import numpy as np
import pytest

from convattn.analysis import margins, worth_a_look


def test_a_margin_is_negative_exactly_where_the_model_is_wrong():
  logits = np.random.default_rng(0).normal(size=(50, 7)).astype("float32")
  labels = np.arange(50) % 7
  found = margins(logits, labels)
  np.testing.assert_array_equal(found < 0, logits.argmax(-1) != labels)
  np.testing.assert_allclose(margins(logits + 5, labels), found, rtol=1e-5)  # whatever is added to all logits
  assert logits[0, 0] != -np.inf  # the caller's array is as it was


def test_margins_by_hand():
  logits = np.array([[1.0, 4.0, 2.0], [1.0, 4.0, 2.0], [0.5, 0.5, 0.0]])
  np.testing.assert_array_equal(margins(logits, np.array([1, 2, 0])), [2.0, -2.0, 0.0])
  assert margins(np.ones((2, 1)), np.zeros(2, int)).tolist() == [np.inf, np.inf]
  with pytest.raises(AssertionError, match="labels must be"):
    margins(logits, np.array([1, 2]))


def test_the_worst_comes_first_and_then_each_class_in_turn():
  margin = np.array([3.0, -1.0, 0.5, -2.0, 4.0, 0.5, -1.5])
  labels = np.array([0, 0, 1, 2, 2, 1, 2])
  assert worth_a_look(margin, labels, 7).tolist() == [3, 1, 2, 6, 5, 0, 4]
  assert worth_a_look(margin, labels, 3).tolist() == [3, 1, 2]
  assert worth_a_look(margin[:0], labels[:0], 3).tolist() == []
