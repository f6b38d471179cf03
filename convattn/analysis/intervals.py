"""Intervals of means, by drawing again what was measured."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

DRAWS = 10_000
"""Times that what was measured is drawn again."""

SHARE = 0.95
"""Of the draws that lie in the interval."""

SEED = 0
"""Of the draws, so that the same scores give the same interval."""

_NUMBERS_AT_A_TIME = 2**20


@dataclasses.dataclass(frozen=True)
class Interval:
  """A mean, or a difference of two, and the ends of its interval."""

  mean: float
  low: float
  high: float


def mean_interval(values: np.ndarray) -> Interval:
  """The mean of values [n], with the percentile interval of a bootstrap over them.

  Each draw takes n of them with replacement; the interval holds the middle SHARE of the means of DRAWS draws. Of paired
  measurements give the differences. A single value has no interval: its ends are nan.

  Raises:
    ValueError: no values, or another rank.
  """
  values = np.asarray(values, np.float64)
  if values.ndim != 1 or not values.size:
    raise ValueError(f"values must be [n] with n at least 1, got {list(values.shape)}.")
  mean = math.fsum(values) / len(values)
  if len(values) == 1:
    return Interval(mean, math.nan, math.nan)
  draws = np.random.default_rng(SEED)
  at_a_time = max(1, _NUMBERS_AT_A_TIME // len(values))
  means = [
    values[draws.integers(len(values), size=(min(at_a_time, DRAWS - done), len(values)))].mean(1)
    for done in range(0, DRAWS, at_a_time)
  ]
  low, high = np.quantile(np.concatenate(means), [(1 - SHARE) / 2, (1 + SHARE) / 2])
  return Interval(mean, float(low), float(high))
