"""Distance, entropy, centre, spread: the anchors of each, and what must not pass for them."""

import numpy as np
import pytest

from convattn.analysis import attention_distance, attention_entropy, degenerate, local_mass, prefix_mass, shift_moments
from convattn.analysis.attention_map import Grid
from tests.analysis.maps_by_hand import (
  content,
  fixed_key,
  grid,
  hard,
  layer,
  middle,
  quadratic,
  square,
  uniform,
  window_cells,
  windowed,
)

# attention_distance


def test_who_looks_at_itself_looks_no_distance():
  assert attention_distance(layer([np.eye(20)], grid(4, 5, 16.0))).tolist() == [0]


@pytest.mark.parametrize("shift", [(0, 2), (-1, 1), (3, -2)])
def test_a_hard_head_looks_as_far_as_its_shift(shift):
  queries, keys = middle(11, 3), square(11)
  found = attention_distance(layer([hard(shift, queries, keys)], queries, keys))
  np.testing.assert_allclose(found, np.hypot(*shift), rtol=1e-12)


def test_at_a_border_a_hard_head_looks_less_far():
  # Of four columns the last has nothing to its right.
  assert attention_distance(layer([hard((0, 1), grid(3, 4))], grid(3, 4))).tolist() == [0.75]


@pytest.mark.parametrize("length", [1, 2, 7, 12])
def test_a_uniform_head_in_a_row(length):
  found = attention_distance(layer([uniform(Grid(1, length))], Grid(1, length)))
  np.testing.assert_allclose(found, (length**2 - 1) / (3 * length), rtol=1e-6)


def test_a_uniform_head_in_a_square():
  assert attention_distance(layer([uniform(square(10))], square(10)))[0] == pytest.approx(5.187, abs=5e-4)


def test_distances_are_pixels_through_strides():
  tall = grid(3, 4, (8.0, 2.0))
  assert attention_distance(layer([hard((1, 0), tall)], tall))[0] == pytest.approx(8 * 2 / 3)
  # Keys pooled 2 by 2: every query is half a key cell off on both axes.
  queries, keys = square(6, 2.0), square(3, 4.0)
  assert attention_distance(layer([hard((0, 0), queries, keys)], queries, keys))[0] == pytest.approx(2**0.5)


def test_in_windows_nobody_looks_out():
  """Uniform in windows of 1x5: as in a row of five, however wide the image is."""
  found = attention_distance(windowed(lambda delta: 0.0 * delta[None, ..., 0], 3, 15, (1, 5)))
  np.testing.assert_allclose(found, (25 - 1) / 15, rtol=1e-6)


# attention_entropy


def test_one_key_has_no_entropy_and_all_have_all():
  queries = grid(3, 5)
  found = attention_entropy(layer([hard((1, 0), queries), uniform(queries), fixed_key(7, queries)], queries, images=2))
  np.testing.assert_allclose(found, [0, 1, 0], atol=1e-7)


def test_entropy_is_relative_to_the_keys_of_a_query():
  in_windows = windowed(lambda delta: 0.0 * delta[None, ..., 0], 4, 6, (2, 3))
  assert attention_entropy(in_windows) == pytest.approx(1, abs=1e-7)
  # Of nine keys three are seen, equally: log 3 / log 9.
  rows = np.repeat(np.eye(3), 3, 1)[np.arange(9) // 3] / 3
  assert attention_entropy(layer([rows], square(3))) == pytest.approx(0.5, rel=1e-6)


def test_entropy_is_relative_to_the_keys_that_are_any():
  cells = window_cells(4, 6, (2, 3)).copy()
  cells[:, 4:] = -1
  weights = np.where(cells >= 0, 0.25, 0)[None]
  assert attention_entropy(layer(weights, grid(4, 6), key_cells=cells)) == pytest.approx(1, abs=1e-7)


def test_a_single_key_has_no_entropy():
  assert attention_entropy(layer([[[1.0]]], Grid(1, 1))).tolist() == [0]


# shift_moments, degenerate


@pytest.mark.parametrize("alpha", [0.3, 0.5])
@pytest.mark.parametrize("centre", [(0, 0), (1, -2), (0.5, 0.25)])
def test_a_quadratic_head_has_its_centre_and_spread(alpha, centre):
  queries = grid(24, 26, (2.0, 3.0))
  mean, covariance = shift_moments(layer([quadratic(alpha, centre, queries)], queries))
  np.testing.assert_allclose(mean[0], centre, atol=1e-3)
  np.testing.assert_allclose(covariance[0], np.eye(2) / (2 * alpha), atol=5e-3)


@pytest.mark.parametrize("alpha, variance", [(1, 0.499), (2, 0.215)])
def test_a_sharp_quadratic_head_is_narrower_than_its_formula(alpha, variance):
  """Cells are a sum and not an integral."""
  _, covariance = shift_moments(layer([quadratic(alpha, (0, 1), square(16))], square(16)))
  np.testing.assert_allclose(np.diag(covariance[0]), variance, atol=6e-4)


def test_a_hard_head_has_its_shift_and_no_spread():
  mean, covariance = shift_moments(layer([hard((-1, 2), square(9)), np.eye(81)], square(9)))
  np.testing.assert_allclose(mean, [(-1, 2), (0, 0)], atol=1e-12)
  np.testing.assert_allclose(covariance, 0, atol=1e-12)


def test_a_border_would_pull_the_centre_in():
  """Control: with all queries in it the centre of a hard head is not its shift."""
  assert np.abs(attention_distance(layer([hard((-1, 2), square(9))], square(9))) - 5**0.5) > 0.2


def test_centres_through_windows_and_strides():
  def near(delta):
    return -0.5 * ((delta - (0, 1)) ** 2).sum(-1)[None]

  mean, covariance = shift_moments(windowed(near, 24, 24, (24, 12)))
  np.testing.assert_allclose(mean[0], (0, 1), atol=0.02)
  np.testing.assert_allclose(covariance[0], np.eye(2), atol=0.05)
  queries, keys = square(24, 2.0), square(12, 4.0)
  mean, covariance = shift_moments(layer([quadratic(0.5, (1, 0), queries, keys)], queries, keys))
  np.testing.assert_allclose(mean[0], (1, 0), atol=0.02)
  np.testing.assert_allclose(covariance[0], np.eye(2), atol=0.05)


def test_a_fixed_key_is_spread_over_all_shifts():
  mean, covariance = shift_moments(layer([fixed_key(0, square(8))], square(8)))
  np.testing.assert_allclose(mean[0], (-3.5, -3.5), atol=1e-12)  # rows and columns 2 to 5 are interior
  np.testing.assert_allclose(covariance[0], np.eye(2) * (16 - 1) / 12, atol=1e-12)


def test_which_windows_are_none():
  at_row = (np.arange(144)[:, None] // 12 == np.arange(144) // 12) / 12
  heads = [hard((1, 1), square(12)), at_row, quadratic(0.1, (0, 0), square(12)), uniform(square(12))]
  _, covariance = shift_moments(layer(heads, square(12)))
  assert degenerate(covariance, square(12)).tolist() == [False, True, False, False]
  assert degenerate(np.array([np.eye(2) * 2e5, np.eye(2) * 9e4]), square(999)).tolist() == [True, False]
  # All of a sequence is one row.
  _, covariance = shift_moments(layer([uniform(Grid(1, 40))], Grid(1, 40)))
  assert degenerate(covariance, Grid(1, 40)).tolist() == [False]


# local_mass, prefix_mass


def test_the_mass_on_the_neighbours():
  queries = square(6)
  heads = [np.eye(36), hard((0, 1), queries), hard((2, 0), queries), uniform(queries)]
  # Of the third head the last two rows look at the last one. Uniform: 4 corners have 4 neighbours, 16 edges 6, 16 9.
  wanted = [1, 1, 2 / 6, (4 * 4 + 16 * 6 + 16 * 9) / 36 / 36]
  np.testing.assert_allclose(local_mass(layer(heads, queries)), wanted, rtol=1e-6)


def test_prefix_tokens_are_left_out():
  queries = grid(3, 4)
  inner = quadratic(0.4, (0, 1), queries)
  share = np.linspace(0.1, 0.9, 12)[:, None]
  rows = np.concatenate([share / 2, share / 2, (1 - share) * inner], 1)
  weights = np.concatenate([np.full((2, 14), 1 / 14), rows])
  without, with_them = layer([inner], queries), layer([weights], queries, prefix_tokens=2)
  for metric in (attention_distance, attention_entropy, local_mass):
    np.testing.assert_allclose(metric(with_them), metric(without), rtol=1e-5)
  np.testing.assert_allclose(prefix_mass(with_them), 0.5, rtol=1e-6)
  assert prefix_mass(without).tolist() == [0]


def test_weights_below_nothing_count_by_their_size():
  queries = Grid(1, 3)
  signed = np.array([[0.5, -0.5, 0], [0, 3, 0], [-1, 0, 0]])
  np.testing.assert_allclose(attention_distance(layer([signed], queries)), (0.5 + 0 + 2) / 3, rtol=1e-12)


def test_a_row_without_any_weight_is_not_counted():
  queries = Grid(1, 4)
  weights = hard((0, 1), queries)
  weights[3] = 0
  found = layer([weights, np.eye(4)], queries)
  assert attention_distance(found).tolist() == [1, 0]
  assert attention_entropy(found).tolist() == [0, 0]
  assert np.isnan(attention_distance(layer([0 * weights], queries))).all()


def test_images_are_taken_together():
  weights = content(grid(3, 4), 3, heads=2)
  apart = [attention_distance(layer(weights[i : i + 1], grid(3, 4))) for i in range(3)]
  np.testing.assert_allclose(attention_distance(layer(weights, grid(3, 4))), np.mean(apart, 0), rtol=1e-12)
