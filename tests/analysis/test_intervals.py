"""The interval of a mean against what is known of it."""

import math

import numpy as np
import pytest

from convattn.analysis import intervals, mean_interval


def test_of_many_values_it_is_the_normal_one():
  values = np.random.default_rng(0).normal(3, 2, size=400)
  found = mean_interval(values)
  half = 1.96 * values.std() / 20
  assert found.mean == pytest.approx(values.mean())
  assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=0.05 * half)


def test_of_two_values_it_ends_at_them():
  found = mean_interval(np.array([1.0, 5.0]))
  assert (found.low, found.mean, found.high) == (1, 3, 5)


def test_equal_values_leave_no_doubt_and_a_single_one_says_nothing_of_it():
  found = mean_interval(np.full(5, 0.25))
  assert (found.low, found.mean, found.high) == (0.25, 0.25, 0.25)
  alone = mean_interval(np.array([0.25]))
  assert alone.mean == 0.25 and math.isnan(alone.low) and math.isnan(alone.high)


def test_memory_is_bounded_and_the_draws_go_on(monkeypatch):
  values = np.random.default_rng(0).normal(size=50)
  whole = mean_interval(values)
  monkeypatch.setattr(intervals, "_NUMBERS_AT_A_TIME", 50 * 700)
  assert mean_interval(values) == whole


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], 1.0])
def test_what_is_no_list_of_values_is_refused(values):
  with pytest.raises(ValueError, match=r"values must be \[n\]"):
    mean_interval(values)
