"""What a page of a trained model is put together from: pictures, and what the scores of an overlay say."""

import dataclasses

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


def drawn(insertion, deletion, beside=0.5):
  """Curves that are level at these heights, [images, fills], beside `beside` of both other maps."""
  of_map = np.stack([insertion, deletion])[:, :, None]  # [measures, images, 1, fills]
  curves = np.full((2, len(FILLS), 3, of_map.shape[1], 5), beside)
  curves[:, :, 0] = of_map[:, :, 0].swapaxes(1, 2)[..., None]
  return Faithfulness("some", np.zeros(of_map.shape[1], int), np.linspace(0, 1, 5), curves.astype(np.float32))


def test_how_much_better_it_is_comes_in_words_and_with_an_interval_under_each_fill(faithful):
  text = comparison(faithful)
  # of the middle: (0.8 - 0.9 + 0.05 - 0.1) / 2 and (0.6 - 0.3 + 0.15 - 0.3) / 2
  assert text.startswith(
    "No clear difference from a Gaussian in the middle of the image, under all three fills; better than random maps, "
    "under all three fills. Gain, the mean of insertion's and deletion's, over 2 images, 95% intervals: over the "
    "Gaussian +0.00 [−0.0"
  )
  assert "over random maps +0.15 [+0.05, +0.25] (mean), +0.15 [+0.05, +0.25] (blur)" in text


def test_an_overlay_that_is_worse_is_said_to_be_worse():
  insertion, deletion = np.array([[0.3] * 3, [0.4] * 3]), np.array([[0.6] * 3, [0.7] * 3])
  text = comparison(drawn(insertion, deletion))
  assert text.startswith(
    "Worse than a Gaussian in the middle of the image, under all three fills; worse than random maps, under all three "
  )
  assert "better" not in text
  assert "−0.15 [−0.15, −0.15] (mean)" in text


def test_fills_that_disagree_are_named():
  # better, worse, and either
  insertion = np.array([[0.7, 0.3, 0.8], [0.7, 0.3, 0.2]])
  text = comparison(drawn(insertion, np.full((2, 3), 0.5)))
  assert text.startswith(
    "Better than a Gaussian in the middle of the image under the fill mean, worse under the fill blur, no clear "
    "difference under the fill noise; better than random maps under the fill mean, worse under"
  )


def test_of_one_image_the_sign_counts_and_is_said_to_say_little():
  text = comparison(drawn(np.full((1, 3), 0.3), np.full((1, 3), 0.5)))
  assert text.startswith("Worse than a Gaussian in the middle of the image, under all three fills; worse than random")
  assert "over one image, which says little: over the Gaussian −0.10 (mean)" in text


def test_several_fills_are_joined():
  insertion = np.array([[0.7, 0.7, 0.3], [0.7, 0.7, 0.3]])
  text = comparison(drawn(insertion, np.full((2, 3), 0.5)))
  assert "better than random maps under the fills mean and blur, worse under the fill noise." in text


def test_weights_below_zero_have_no_rollout_and_a_page_all_the_same():
  """A static part behind the softmax makes them."""
  weights = np.full((1, 2, 6, 6), 1 / 6)
  (rollout,) = rolled_out(maps_of_arrays([weights], (2, 3)))
  assert rollout.name == "rollout"
  (attention,) = maps_of_arrays([weights], (2, 3))
  weights[0, 0, 1, 2] -= 0.2
  assert rolled_out([dataclasses.replace(attention, probabilities=weights)]) == []
