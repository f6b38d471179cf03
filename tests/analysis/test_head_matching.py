"""Heads of several seeds: matched before they are averaged."""

import dataclasses

import numpy as np
import pytest

from convattn.analysis import head_matching, head_report, head_table, match_heads, mean_report
from convattn.analysis.head_matching import profile_divergence, reorder
from tests.analysis.maps_by_hand import layer, quadratic, square, uniform

CENTRES = [(0, 1), (-1, 0), (2, 2), (0, 0)]


def seed(number, order=(0, 1, 2, 3)):
  """Quadratic heads at CENTRES in another order, whose centres and sharpness are a little off."""
  generator = np.random.default_rng(number)
  heads = [
    quadratic(0.7 + 0.1 * generator.random(), np.add(each, 0.1 * generator.normal(size=2)), square(8))
    for each in CENTRES
  ]
  return head_report([layer([heads[head] for head in order], square(8))])


def test_divergence_of_profiles_by_hand():
  one, other = np.array([[1, 0.0], [0.5, 0.5]]), np.array([[0, 1.0], [1, 0]])
  wanted = -0.75 * np.log2(0.75) - 0.25 * np.log2(0.25) - 0.5
  np.testing.assert_allclose(profile_divergence(one, other), [[1, 0], [wanted, wanted]], atol=1e-15)


def test_permuted_heads_are_found():
  order = np.array([2, 0, 3, 1])
  first, permuted = seed(0), seed(0, order)
  (found,) = match_heads([first, permuted])
  assert found.order.tolist() == [[0, 1, 2, 3], np.argsort(order).tolist()]
  np.testing.assert_allclose(found.distance, 0, atol=1e-12)
  assert found.unmatched[1] > 0.2
  (together,) = mean_report([first, permuted])
  for field in dataclasses.fields(first[0]):
    if isinstance(getattr(first[0], field.name), np.ndarray):
      np.testing.assert_allclose(getattr(together.mean, field.name), getattr(first[0], field.name), atol=1e-12)
      np.testing.assert_allclose(np.nan_to_num(getattr(together.deviation, field.name)), 0, atol=1e-12)


def test_without_matching_the_mean_is_of_unlike_heads():
  """Control: what a mean over permuted heads would be."""
  first, permuted = seed(0)[0], seed(0, (2, 0, 3, 1))[0]
  assert np.abs((first.distance + permuted.distance) / 2 - first.distance).max() > 0.3


def test_mean_and_deviation_over_seeds():
  orders = [(0, 1, 2, 3), (3, 1, 0, 2), (1, 2, 3, 0)]
  seeds = [seed(number, order) for number, order in enumerate(orders)]
  aligned = [seed(number)[0] for number in range(3)]
  (found,) = mean_report(seeds)
  assert [np.asarray(order)[matched].tolist() for order, matched in zip(orders, found.matching.order, strict=True)] == [
    [0, 1, 2, 3]
  ] * 3
  np.testing.assert_allclose(found.mean.centre, np.mean([each.centre for each in aligned], 0), atol=1e-12)
  np.testing.assert_allclose(found.deviation.centre, np.std([each.centre for each in aligned], 0, ddof=1), atol=1e-12)
  np.testing.assert_allclose(found.mean.divergence, np.mean([each.divergence for each in aligned], 0), atol=1e-12)
  assert (found.deviation.distance > 0).all()
  assert (found.matching.distance[1:].max(1) < found.matching.unmatched[1:] / 2).all()
  assert len(head_table([found.mean]).splitlines()) == 5


def test_the_assignment_is_the_best_of_all_and_not_the_nearest_of_each():
  """Head 0 is nearest to both; the best sum gives it to the one that has no other."""
  first = head_report([layer([quadratic(1, (0, 0), square(8)), quadratic(1, (0, 1), square(8))], square(8))])
  other = head_report([layer([quadratic(1, (0, -0.6), square(8)), quadratic(1, (0, 0.4), square(8))], square(8))])
  cost = profile_divergence(first[0].profile_mass, other[0].profile_mass)
  assert cost.argmin(1).tolist() == [1, 1]
  assert match_heads([first, other])[0].order[1].tolist() == [0, 1]


def test_equal_heads_of_the_first_seed_stay_in_place(monkeypatch):
  monkeypatch.setattr(head_matching, "linear_sum_assignment", lambda cost: (None, np.arange(len(cost))[::-1]))
  same = head_report([layer([uniform(square(4))] * 5, square(4))])
  assert match_heads([same, same])[0].order.tolist() == [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]]


def test_a_reordered_report():
  (report,) = seed(0)
  order = np.array([2, 0, 1, 3])
  changed = reorder(report, order)
  np.testing.assert_array_equal(changed.distance, report.distance[order])
  np.testing.assert_array_equal(changed.divergence[1, 3], report.divergence[0, 3])
  np.testing.assert_array_equal(changed.tap_residual, report.tap_residual)
  assert changed.nonlocality == pytest.approx(report.nonlocality)


def test_seeds_that_cannot_be_matched_are_refused():
  one = seed(0)
  with pytest.raises(ValueError, match="2 or more, got 1"):
    match_heads([one])
  with pytest.raises(ValueError, match=r"seed 1 has block/attention: 3 heads, .* where seed 0 has .* 4 heads"):
    match_heads([one, seed(0, (0, 1, 2))])
  with pytest.raises(ValueError, match="seed 1 has 2 layers, seed 0 has 1"):
    match_heads([one, one * 2])
  with pytest.raises(ValueError, match="4 heads, 2 images, .* where seed 0 has .* 1 images"):
    match_heads([one, head_report([layer([uniform(square(8))] * 4, square(8), images=2)])])
