"""What a page of a trained model is put together from: pictures, and what the scores of an overlay say."""

import numpy as np
import pytest

from convattn.analysis import FILLS, Faithfulness, maps_of_arrays
from convattn.viz.exploring import shown
from convattn.viz.overlays import comparison, rolled_out, scores_of


def test_pictures_of_other_than_one_or_three_channels_are_shown_as_their_mean():
  pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
  assert shown(pixels) is pixels
  np.testing.assert_array_equal(shown(pixels[..., :1]), pixels[..., :1])
  two = shown(pixels[..., :2])
  assert (two.shape, two.dtype) == ((2, 5, 7, 1), np.uint8)
  np.testing.assert_allclose(two[..., 0], pixels[..., :2].astype(float).mean(-1), atol=0.5)


@pytest.fixture
def faithful():
  """Curves that are level: of images 0 and 1, under each fill, insertion and deletion of the map and of two others."""
  level = np.array([[[0.8, 0.5, 0.9], [0.1, 0.3, 0.05]], [[0.6, 0.5, 0.3], [0.3, 0.3, 0.15]]])  # [image, measure, map]
  curves = np.broadcast_to(level.transpose(1, 2, 0)[:, None, :, :, None], (2, len(FILLS), 3, 2, 5))
  return Faithfulness("some", np.array([3, 1]), np.linspace(0, 1, 5), curves.astype(np.float32))


def test_an_overlays_scores_stand_beside_those_of_maps_that_know_no_model(faithful):
  found = scores_of(faithful, 0)
  assert found == pytest.approx(
    {
      "insertion": 0.8,
      "insertion of random maps": 0.5,
      "insertion of the middle": 0.9,
      "deletion": 0.1,
      "deletion of random maps": 0.3,
      "deletion of the middle": 0.05,
    },
    abs=1e-6,
  )
  assert scores_of(faithful, 1)["insertion"] == pytest.approx(0.6, abs=1e-6)


def test_how_much_better_it_is_comes_with_an_interval_under_each_fill(faithful):
  text = comparison(faithful)
  assert text.startswith("Over 2 images it is better than random maps by insertion +0.20 [+0.10, +0.30] (mean), ")
  assert "deletion +0.10 [+0.00, +0.20] (mean)" in text  # less is better
  assert "than a Gaussian of the middle by insertion +0.10 [-0.10, +0.30] (mean)" in text
  assert all(text.count(f"({fill})") == 4 for fill in FILLS)


def test_weights_below_zero_have_no_rollout_and_a_page_all_the_same():
  """A static part behind the softmax makes them."""
  weights = np.full((1, 2, 6, 6), 1 / 6)
  (rollout,) = rolled_out(maps_of_arrays([weights], (2, 3)))
  assert rollout.name == "rollout"
  weights[0, 0, 1, 2] -= 0.2
  assert rolled_out(maps_of_arrays([weights], (2, 3))) == []
