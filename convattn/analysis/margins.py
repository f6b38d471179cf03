"""How clearly a classifier is right about each example, and which examples are worth a look."""

from __future__ import annotations

import chex
import numpy as np


def margins(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """float64 [n]: logit of the true class less the largest of the others; below 0 the model is wrong.

  Of a single class it is infinite.

  Args:
    logits: [n, classes].
    labels: integers [n], from 0.

  Raises:
    AssertionError: a wrong rank or length, naming the argument.
  """
  chex.assert_rank(logits, 2, custom_message="logits must be [n, classes]")
  chex.assert_shape(labels, (len(logits),), custom_message="labels must be [n], one for each row of logits")
  wide, rows = np.array(logits, np.float64), np.arange(len(logits))
  true = wide[rows, labels]
  wide[rows, labels] = -np.inf
  return true - wide.max(-1)


def worth_a_look(margin: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
  """int64 [at most count]: the example with the lowest margin first, then the lowest of each other class, then the
  second of each, and so on; of equals the earlier.

  Args:
    margin: [n], see `margins`.
    labels: integers [n].
    count: how many are wanted.
  """
  order = np.lexsort((margin, labels))
  classes = np.asarray(labels)[order]
  rank = np.arange(len(order)) - np.searchsorted(classes, classes)  # within its class
  return order[np.lexsort((margin[order], rank))][:count]
