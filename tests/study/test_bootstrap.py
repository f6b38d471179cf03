"""The paired interval against answers that are known."""

import numpy as np
import pytest

from convattn.analysis.intervals import DRAWS, SHARE
from convattn.study import paired_interval


def answers(draws, chance, *shape):
  return draws.random(shape) < chance


def test_equal_sides_are_not_told_apart():
  side = answers(np.random.default_rng(0), 0.7, 3, 211)
  found = paired_interval(side, side)
  assert (found.mean, found.low, found.high) == (0, 0, 0)


def test_a_difference_on_every_image_has_no_width():
  found = paired_interval(np.ones((2, 5), bool), np.zeros((2, 5), bool))
  assert (found.mean, found.low, found.high) == (1, 1, 1)


def test_the_other_way_round_is_the_negative():
  draws = np.random.default_rng(1)
  ours, theirs = answers(draws, 0.8, 3, 301), answers(draws, 0.7, 3, 301)
  there, back = paired_interval(ours, theirs), paired_interval(theirs, ours)
  assert back.mean == -there.mean
  np.testing.assert_allclose([back.low, back.high], [-there.high, -there.low], atol=0.003)
  assert there == paired_interval(ours, theirs)  # the draws have a seed


def test_the_mean_is_that_of_the_differences():
  draws = np.random.default_rng(2)
  ours, theirs = answers(draws, 0.9, 2, 97), answers(draws, 0.6, 2, 97)
  assert paired_interval(ours, theirs).mean == pytest.approx(ours.mean() - theirs.mean(), abs=1e-15)


@pytest.mark.parametrize("ours_right, theirs_right", [(0.9, 0.85), (0.6, 0.5)])
def test_of_one_seed_it_is_the_normal_interval_of_the_mean(ours_right, theirs_right):
  draws = np.random.default_rng(3)
  ours, theirs = answers(draws, ours_right, 1, 4001), answers(draws, theirs_right, 1, 4001)
  found = paired_interval(ours, theirs)
  difference = ours.astype(float) - theirs
  half = 1.959964 * difference.std() / np.sqrt(difference.size)
  np.testing.assert_allclose([found.low, found.high], [found.mean - half, found.mean + half], atol=0.05 * half)


def test_pairing_uses_that_both_sides_know_the_same_images():
  draws = np.random.default_rng(4)
  ours = answers(draws, 0.7, 1, 2000)
  theirs = ours ^ answers(draws, 0.02, 1, 2000)  # right and wrong about nearly the same images
  paired, apart = paired_interval(ours, theirs), paired_interval(ours, draws.permuted(theirs, axis=1))
  assert (paired.high - paired.low) < 0.4 * (apart.high - apart.low)


def by_hand(ours, theirs, draws):
  """One image and one seed after another are drawn."""
  differences = ours.astype(float) - theirs
  seeds, images = differences.shape
  return [
    differences[draws.integers(seeds, size=seeds)][:, draws.integers(images, size=images)].mean() for _ in range(DRAWS)
  ]


def test_counting_patterns_is_drawing_images_and_seeds():
  draws = np.random.default_rng(5)
  quality = draws.random((1, 61))
  ours, theirs = draws.random((4, 61)) < quality, draws.random((4, 61)) < 0.8 * quality
  ours[0] = True  # a seed of its own kind, so that seeds matter
  found, drawn = paired_interval(ours, theirs), by_hand(ours, theirs, draws)
  low, high = np.quantile(drawn, [0.025, 0.975])
  np.testing.assert_allclose([found.low, found.high], [low, high], atol=0.012)
  alone = paired_interval(ours[:1], theirs[:1])
  assert abs((alone.high - alone.low) - (found.high - found.low)) > 0.02


@pytest.mark.slow
@pytest.mark.parametrize(
  "seeds, deviation, lowest, highest",
  [
    (1, 0.0, SHARE - 0.035, SHARE + 0.035),
    (3, 0.03, SHARE - 0.07, SHARE + 0.035),  # three seeds vary less in the draws than they do
    (3, 0.0, SHARE, 1.0),  # what varies from seed to seed and image to image alike is counted more than once
  ],
)
def test_it_covers_the_truth_as_often_as_it_says(seeds, deviation, lowest, highest):
  """300 studies whose images, and seeds by `deviation`, differ in how hard they are; the difference is 0.04."""
  draws, covered, studies = np.random.default_rng(6), 0, 300
  for _ in range(studies):
    images, luck = draws.uniform(-0.2, 0.2, (1, 500)), draws.normal(0, deviation, (2, seeds, 1))
    ours, theirs = (draws.random((seeds, 500)) < base + images + luck[i] for i, base in enumerate((0.74, 0.70)))
    found = paired_interval(ours, theirs)
    covered += found.low <= 0.04 <= found.high
  print(covered / studies)
  assert lowest <= covered / studies <= highest


@pytest.mark.parametrize("shapes", [((2, 3), (3, 2)), ((2, 3), (2, 4)), ((3,), (3,))])
def test_sides_of_other_shapes_are_refused(shapes):
  with pytest.raises(AssertionError, match="ours"):
    paired_interval(*(np.zeros(shape, bool) for shape in shapes))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_nothing_to_compare_is_refused(shape):
  with pytest.raises(ValueError, match="at least one seed and one image"):
    paired_interval(np.zeros(shape, bool), np.zeros(shape, bool))
