"""How convolutional a head is: anchors of the peak, the consistency and the coverage, and what must not score."""

import numpy as np
import pytest

from convattn.analysis import convolution_peak, shift_consistency, shift_profile, tap_residuals
from convattn.analysis.attention_map import Grid
from tests.analysis.maps_by_hand import (
  NINE,
  content,
  fixed_key,
  grid,
  hard,
  layer,
  middle,
  quadratic,
  softmax,
  square,
  uniform,
  windowed,
)


def peak_of(found):
  peak, at = convolution_peak(shift_profile(found))
  return peak.tolist(), at.tolist()


# shift_profile, convolution_peak


@pytest.mark.parametrize("shift", [(0, 0), (0, 2), (-1, 1), (2, -3)])
def test_a_hard_head_has_all_its_weight_at_its_shift(shift):
  found = layer([hard(shift, middle(11, 3), square(11))], middle(11, 3), square(11))
  assert peak_of(found) == ([1], [list(shift)])
  profile = shift_profile(found)
  assert profile.mass.sum() == profile.mass[0, profile.radius[0] + shift[0], profile.radius[1] + shift[1]] == 1


def test_at_a_border_the_peak_stays_and_the_rest_looks_elsewhere():
  profile = shift_profile(layer([hard((0, 1), grid(3, 4))], grid(3, 4)))
  assert profile.radius == (2, 3)
  assert profile.mean[0, 2, 4] == 1 and profile.mean[0, 2, 3] == 0.25
  assert profile.mass[0, 2, 4] == 0.75


def test_the_profile_is_a_mean_over_the_queries_that_have_the_shift():
  weights = np.random.default_rng(0).random((2, 3, 20, 20))
  weights /= weights.sum(-1, keepdims=True)
  profile = shift_profile(layer(weights, grid(4, 5)))
  for shift in [(0, 0), (3, -4), (-1, 2)]:
    pairs = [
      (i * 5 + j, (i + shift[0]) * 5 + j + shift[1])
      for i in range(4) for j in range(5) if 0 <= i + shift[0] < 4 and 0 <= j + shift[1] < 5
    ]  # fmt: skip
    place = (shift[0] + 3, shift[1] + 4)
    wanted = np.mean([weights[:, :, q, k] for q, k in pairs], (0, 1))
    np.testing.assert_allclose(profile.mean[:, *place], wanted, rtol=1e-6)
    np.testing.assert_allclose(profile.mass[:, *place], wanted * len(pairs) / 20, rtol=1e-6)
    assert profile.support[place] == len(pairs) / 20
  np.testing.assert_allclose(profile.mass.sum((1, 2)), 1, rtol=1e-12)


def test_the_peaks_of_soft_heads():
  peak, at = peak_of(layer([quadratic(1, (0, -1), square(14)), uniform(square(14))], square(14)))
  # 1 / theta^2 of the infinite grid; a little more, since at borders less mass is elsewhere.
  assert 1 < peak[0] * sum(np.exp(-(n**2)) for n in range(-9, 10)) ** 2 < 1.1
  assert peak[1] == pytest.approx(1 / 196, rel=1e-6)
  assert at == [[0, -1], [0, 0]]


@pytest.mark.parametrize("key", [0, 5, 27, 63])
def test_a_fixed_key_is_no_convolution(key):
  found = layer([fixed_key(key, square(8))], square(8))
  if key in (0, 63):
    assert np.nanmax(shift_profile(found).mean) == 1  # at a shift that one query has
  assert peak_of(found)[0][0] <= 2 / 64
  assert shift_consistency(found)[0] <= 0.1


def test_a_peak_through_pooled_keys_and_strided_queries():
  queries, keys = square(8, 2.0), square(4, 4.0)
  assert peak_of(layer([hard((0, 0), queries, keys)], queries, keys)) == ([1], [[0, 0]])
  # Queries of every second row and column, each with the key above and left of its middle, and the one below.
  queries, keys = square(4, 2.0), square(8)
  heads = [hard((-0.5, -0.5), queries, keys), hard((0.5, -0.5), queries, keys)]
  assert peak_of(layer(heads, queries, keys)) == ([1, 1], [[-1, -1], [0, -1]])


def test_where_no_shift_is_common_there_is_no_peak():
  """Four queries far apart, each with one key of its own, at another shift."""
  cells = np.array([[0], [2], [5], [7]])
  peak, at = convolution_peak(shift_profile(layer(np.ones((1, 4, 1)), Grid(1, 4), Grid(1, 9), key_cells=cells)))
  assert np.isnan(peak).all() and np.isnan(at).all()


def test_a_peak_in_windows():
  """Four of five columns of a window have something to their right; two fifths have the shift 3, which is too few."""

  def at(centre):
    return lambda delta: -60.0 * ((delta - centre) ** 2).sum(-1)[None]

  assert peak_of(windowed(at((0, 1)), 6, 10, (3, 5))) == ([pytest.approx(1)], [[0, 1]])
  peak, _ = peak_of(windowed(at((0, 3)), 6, 10, (3, 5)))
  assert peak[0] < 0.8


# shift_consistency


def test_functions_of_the_shift_have_one():
  queries = grid(12, 14)
  heads = [
    hard((0, 1), queries),
    hard((-2, 3), queries),
    quadratic(2, (0, 0), queries),
    quadratic(0.5, (1, -1), queries),
  ]
  np.testing.assert_allclose(shift_consistency(layer(heads, queries, images=2)), 1, atol=1e-3)


def test_hard_heads_have_exactly_one_where_every_query_is_interior():
  found = layer([hard((0, 1), middle(11, 3), square(11))], middle(11, 3), square(11))
  assert shift_consistency(found)[0] == pytest.approx(1, abs=1e-12)


def test_what_has_nothing_to_account_for_has_none():
  queries = square(10)
  found = layer([uniform(queries), np.eye(100), 0.5 * np.eye(100) + 0.005], queries)
  assert shift_consistency(found).tolist() == [0, 0, 0]


@pytest.mark.parametrize("scale", [1, 4, 16])
def test_content_has_none_whatever_its_diagonal(scale):
  """softmax(X X^T) looks mostly at itself; with the diagonal in it would score."""
  x = np.random.default_rng(1).normal(size=(4, 2, 100, 16))
  found = layer(softmax(scale * x @ x.swapaxes(-1, -2) / 16), square(10))
  assert (shift_consistency(found) < 0.05).all()
  if scale == 4:
    weights = found.probabilities.astype(np.float64)
    diagonal = weights[..., np.arange(100), np.arange(100)].mean() * np.eye(100)
    rest = (weights.sum((0, 1, 2, 3)) - 800 * diagonal[0, 0]) / (800 * 99)
    explained = np.where(np.eye(100) > 0, diagonal, rest)
    assert 1 - ((weights - explained) ** 2).sum() / ((weights - 0.01) ** 2).sum() > 0.5


def test_noise_has_none_however_few_pairs_there_are():
  generator = np.random.default_rng(2)
  found = [shift_consistency(layer(generator.dirichlet(np.ones(36), (1, 8, 36)), square(6))) for _ in range(20)]
  assert np.mean(found) < 0.03  # what is below 0 is 0


def test_the_same_image_again_changes_nothing():
  """Also of weights without order, which agree with themselves from image to image."""
  weights = np.random.default_rng(5).dirichlet(np.ones(64), (1, 3, 64))
  once = shift_consistency(layer(weights, square(8)))
  np.testing.assert_allclose(shift_consistency(layer(np.repeat(weights, 6, 0), square(8))), once, atol=1e-12)
  assert once.max() < 0.1


def test_shifts_that_few_queries_have_do_not_count():
  """Of 4x4 cells 2x2 are interior: twelve of the shifts have one query each, and nothing to differ from."""
  weights = np.zeros((1, 1, 16, 16))
  weights[0, 0, [5, 6, 9, 10], [15, 12, 3, 0]] = 1  # each interior query looks at the far corner
  assert shift_consistency(layer(weights, square(4)))[0] == 0


def test_a_mixture_lies_between():
  queries = square(12)
  relative, other = quadratic(1, (0, 1), queries), content(queries, 1, width=4)[0, 0]
  found = layer([share * relative + (1 - share) * other for share in (1, 0.6, 0.3, 0)], queries)
  scores = shift_consistency(found)
  assert scores[0] > 0.99 and scores[-1] < 0.05 and (np.diff(scores) < -0.01).all()


def test_consistency_of_windows():
  """Within windows each query of a shift agrees; softmax renormalises at their borders, which are not interior."""
  generator = np.random.default_rng(3)
  tables = generator.normal(size=(2, 15, 15))

  def relative(delta):
    return tables[:, delta[..., 0] + 7, delta[..., 1] + 7]

  def absolute(delta):
    return generator.normal(size=(2, *delta.shape[:2]))

  assert (shift_consistency(windowed(relative, 16, 16, (8, 8))) > 0.7).all()
  assert (shift_consistency(windowed(absolute, 16, 16, (8, 8))) < 0.05).all()


def test_one_query_is_not_consistent_with_anything():
  assert np.isnan(shift_consistency(layer([uniform(square(3))], square(3)))).all()
  assert np.isnan(shift_consistency(layer([[[1.0]]], Grid(1, 1)))).all()


def test_signed_weights_of_a_static_kernel_have_one():
  queries = middle(11, 3)
  kernel = hard((0, 1), queries, square(11)) - 0.5 * hard((1, 1), queries, square(11))
  assert shift_consistency(layer([kernel], queries, square(11)))[0] == pytest.approx(1, abs=1e-12)


# tap_residuals


def test_nine_hard_heads_make_up_every_tap():
  found = tap_residuals(layer([hard(each, grid(7, 8)) for each in NINE], grid(7, 8), images=2))
  np.testing.assert_allclose(found, 0, atol=1e-12)


@pytest.mark.parametrize("missing", [0, 4, 5])
def test_eight_hard_heads_lack_one_tap(missing):
  heads = [hard(each, square(8)) for each in NINE if each != NINE[missing]]
  wanted = np.zeros(9)
  wanted[missing] = 1
  np.testing.assert_allclose(tap_residuals(layer(heads, square(8))).ravel(), wanted, atol=1e-12)


@pytest.mark.parametrize("alpha, worst", [(5, 9e-5), (2, 3.7e-2), (1, 0.278), (0.5, 0.63), (0.2, 0.83)])
def test_soft_heads_make_up_less(alpha, worst):
  """Nine quadratic heads: what their blur leaves of the worst tap."""
  found = tap_residuals(layer([quadratic(alpha, each, square(16)) for each in NINE], square(16)))
  assert found.max() == pytest.approx(worst, rel=0.02)


def test_residuals_are_those_of_a_fit_to_the_whole_matrices():
  """Two images, the interior of 6x7 cells (rows 1 to 4, columns 1 to 5), one coefficient for each of four heads."""
  weights = content(grid(6, 7), 2, heads=4) * (1 + hard((0, 1), grid(6, 7))) + 0.2 * hard((1, 0), grid(6, 7))
  inside = [i * 7 + j for i in range(1, 5) for j in range(1, 6)]
  heads = weights[:, :, inside].astype(np.float32).astype(np.float64).swapaxes(0, 1).reshape(4, -1).T
  found = tap_residuals(layer(weights, grid(6, 7)))
  for down, across in NINE:
    tap = np.zeros((42, 42))
    tap[inside, np.add(inside, 7 * down + across)] = 1
    target = np.concatenate([tap[inside].ravel()] * 2)
    left = target - heads @ np.linalg.lstsq(heads, target)[0]
    assert found[down + 1, across + 1] == pytest.approx((left**2).sum() / (2 * len(inside)), rel=1e-9)


def test_mixtures_of_hard_heads_make_up_every_tap_and_hard_attention_is_not_needed():
  heads = np.stack([hard(each, square(7)) for each in NINE])
  mixing = np.random.default_rng(4).dirichlet(np.ones(9), 9)
  np.testing.assert_allclose(tap_residuals(layer(np.einsum("gh,hqk->gqk", mixing, heads), square(7))), 0, atol=1e-6)


def test_equal_heads_and_heads_without_order_make_up_nothing():
  alike = layer([uniform(square(6))] * 9, square(6))
  np.testing.assert_allclose(tap_residuals(alike), 1 - 1 / 36, rtol=1e-5)
  assert (tap_residuals(layer(content(square(6), 3, heads=9), square(6)))[1, 1] > 0.1).all()
  assert (np.delete(tap_residuals(layer(content(square(6), 3, heads=9), square(6))).ravel(), 4) > 0.9).all()


def test_a_sequence_has_three_taps():
  queries = Grid(1, 9)
  found = tap_residuals(layer([hard((0, 1), queries), hard((0, 0), queries)], queries))
  np.testing.assert_allclose(found[1], [1, 0, 0], atol=1e-12)
  assert np.isnan(found[[0, 2]]).all()


def test_taps_through_windows_and_strides():
  tables = np.stack([np.full((9, 9), -60.0) for _ in NINE])
  for head, (down, across) in enumerate(NINE):
    tables[head, down + 4, across + 4] = 0
  in_windows = windowed(lambda delta: tables[:, delta[..., 0] + 4, delta[..., 1] + 4], 10, 15, (5, 5))
  np.testing.assert_allclose(tap_residuals(in_windows), 0, atol=1e-12)
  queries, keys = square(5, 2.0), square(10)
  heads = [hard((down + 0.5, across + 0.5), queries, keys) for down, across in NINE]
  # The cell that a strided query lies in is the later one: its own tap is half a cell behind the middle.
  np.testing.assert_allclose(tap_residuals(layer(heads, queries, keys)), 0, atol=1e-12)
