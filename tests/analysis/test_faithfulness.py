"""Insertion and deletion of a model whose probability is a sum over pixels: every area is known."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.analysis import FILLS, Grid, Overlay, calling, centre_map, faithfulness

IMAGES = np.random.default_rng(1).uniform(size=(4, 8, 6, 1)).astype(np.float32)
GRID = Grid(4, 3, (2.0, 2.0), image=(8, 6))
WEIGHTS = np.random.default_rng(2).normal(size=(8, 6)).astype(np.float32) / 200


class Sum(nn.Module):
  """Logits log p and log(1 - p), so that the probability of class 0 is p = 1/2 + sum of weights times pixels."""

  @nn.compact
  def __call__(self, images):
    p = 0.5 + (images[..., 0] * jnp.asarray(WEIGHTS)[None]).sum((1, 2))
    return jnp.log(jnp.stack([p, 1 - p], 1))


def overlay(values, grid=GRID, **fields):
  return Overlay("overlay", grid, np.asarray(values, np.float32), "", True, **fields)


def true_values(fill="mean"):
  """[b, 4, 3]: what each cell adds to the probability."""
  filling = FILLS[fill](IMAGES, np.random.default_rng(0))
  each = ((IMAGES - filling)[..., 0] * WEIGHTS).reshape(-1, 4, 2, 3, 2)
  return each.sum((2, 4))


def measured(values, **fields):
  return faithfulness(Sum(), {}, IMAGES, overlay(values), classes=0, **fields)


@pytest.fixture(scope="module")
def best():
  return measured(true_values(), num_random=40)


def ends(found, fill="mean"):
  """Probabilities of whole and of wholly hidden images."""
  deletion = found.curves[1, list(FILLS).index(fill), 0]
  return deletion[:, 0], deletion[:, -1]


def test_curves_begin_and_end_where_all_maps_do(best):
  whole = np.asarray(jax.nn.softmax(Sum().apply({}, IMAGES)))[:, 0]
  for number, fill in enumerate(FILLS.values()):
    for kind in range(3):
      insertion, deletion = best.curves[:, number, kind]
      np.testing.assert_allclose(deletion[:, 0], whole, rtol=1e-5)
      np.testing.assert_allclose(insertion[:, -1], whole, rtol=1e-5)
      np.testing.assert_allclose(insertion[:, 0], deletion[:, -1], rtol=1e-5)
      if number == 0:
        hidden = jax.nn.softmax(Sum().apply({}, fill(IMAGES, None)))[:, 0]
        np.testing.assert_allclose(deletion[:, -1], hidden, rtol=1e-5)
  np.testing.assert_allclose(best.shares, np.arange(13) / 12)
  assert (best.overlay, best.curves.shape) == ("overlay", (2, 3, 3, 4, 13))


def test_every_step_takes_the_largest_that_is_left(best):
  each = np.sort(true_values().reshape(4, 12))[:, ::-1]
  whole, _ = ends(best)
  np.testing.assert_allclose(best.curves[1, 0, 0, :, 1:], whole[:, None] - each.cumsum(1), rtol=1e-4)


def test_true_contributions_have_the_best_areas_and_drawn_orders_the_middle(best):
  whole, hidden = ends(best)
  middle = (whole + hidden) / 2
  worst = measured(-true_values())
  for measure, sign in (("insertion", 1), ("deletion", -1)):
    good, bad, drawn = (sign * each.areas(measure, "mean", name) for each, name in (
      (best, "overlay"), (worst, "overlay"), (best, "random")))  # fmt: skip
    assert (good > drawn).all() and (drawn > bad).all()
    # A curve and that of the reverse order have their ends as sum, step by step.
    np.testing.assert_allclose(good + bad, sign * 2 * middle, rtol=1e-5)
    np.testing.assert_allclose(drawn, sign * middle, atol=0.15 * (good - bad).min())
    assert best.gain(measure, "mean", "random").low > 0 > worst.gain(measure, "mean", "random").high
    assert best.score(measure, "mean").mean == pytest.approx(sign * good.mean())
  np.testing.assert_allclose(best.areas("insertion", "mean") + best.areas("deletion", "mean"), 2 * middle, rtol=1e-5)


def test_a_flat_overlay_is_a_drawn_order_and_no_order_of_rows():
  found = [measured(np.ones((4, 4, 3)), seed=seed).areas("deletion", "mean") for seed in range(2)]
  assert np.abs(found[0] - found[1]).min() > 0
  again = measured(np.ones((4, 4, 3)), seed=1).areas("deletion", "mean")
  np.testing.assert_array_equal(found[1], again)


def test_the_centre_is_measured_like_any_overlay(best):
  centre = measured(centre_map(GRID, 4).values)
  for measure in ("insertion", "deletion"):
    # No two cells of one side are alike but for ties, which are drawn.
    expected = best.areas(measure, "mean", "centre")
    np.testing.assert_allclose(centre.areas(measure, "mean"), expected, atol=0.05)
  values = centre_map(Grid(3, 5, (2.0, 2.0), image=(6, 10)), 2).values
  assert values.shape == (2, 3, 5) and np.unravel_index(values[1].argmax(), (3, 5)) == (1, 2)
  np.testing.assert_allclose(values, values[:, ::-1, ::-1], rtol=1e-6)
  # A quarter of a side away from the middle is one deviation.
  ring = centre_map(Grid(8, 8, image=(8, 8))).values[0]
  np.testing.assert_allclose(ring[3, 5] / ring[3, 3], np.exp(-((1.5 / 2) ** 2 - 0.25**2) / 2), rtol=1e-5)


def test_fewer_steps_take_several_cells_each(best):
  coarse = measured(true_values(), steps=3)
  np.testing.assert_allclose(coarse.shares, [0, 1 / 3, 2 / 3, 1])
  np.testing.assert_allclose(coarse.curves[:, 0, 0], best.curves[:, 0, 0][..., ::4], rtol=1e-5)


def test_pieces_change_nothing(best, monkeypatch):
  monkeypatch.setattr(calling, "PIXELS_AT_A_TIME", 48 * 7)
  np.testing.assert_allclose(measured(true_values(), num_random=40).curves, best.curves, rtol=1e-5)


def test_cells_that_the_border_cuts_off_are_taken_too():
  grid = Grid(3, 2, (3.0, 4.0), image=(8, 6))
  found = faithfulness(Sum(), {}, IMAGES, overlay(np.random.default_rng(0).normal(size=(4, 3, 2)), grid), classes=0)
  hidden = jax.nn.softmax(Sum().apply({}, FILLS["mean"](IMAGES, None)))[:, 0]
  np.testing.assert_allclose(found.curves[1, 0, 0, :, -1], hidden, rtol=1e-5)


def test_the_class_is_the_overlays_own():
  of_one = overlay(true_values(), classes=np.ones(4, np.int64))
  found = faithfulness(Sum(), {}, IMAGES, of_one)
  np.testing.assert_array_equal(found.classes, 1)
  predicted = faithfulness(Sum(), {}, IMAGES, dataclasses.replace(of_one, classes=None)).classes
  np.testing.assert_array_equal(predicted, np.asarray(Sum().apply({}, IMAGES)).argmax(-1))


def test_fills_are_what_they_are_called():
  images = np.random.default_rng(0).normal(2, 3, size=(2, 40, 30, 2)).astype(np.float32)
  draws = np.random.default_rng(1)
  mean, blur, noise = (fill(images, draws) for fill in FILLS.values())
  assert {each.shape for each in (mean, blur, noise)} == {images.shape}
  np.testing.assert_allclose(mean, np.broadcast_to(images.mean((1, 2), keepdims=True), images.shape))
  np.testing.assert_allclose(noise.mean((1, 2)), images.mean((1, 2)), atol=0.3)
  np.testing.assert_allclose(noise.std((1, 2)), images.std((1, 2)), rtol=0.1)
  assert np.abs(np.corrcoef(noise.ravel(), images.ravel())[0, 1]) < 0.1
  flat = FILLS["blur"](np.full((1, 7, 5, 1), 3, np.float32), draws)
  np.testing.assert_allclose(flat, 3, rtol=1e-6)
  point = np.zeros((1, 65, 49, 1), np.float32)
  point[0, 32, 24] = 1
  spot = FILLS["blur"](point, draws)[0, ..., 0]
  # Within four deviations of the border the weights are those of the whole Gaussian, nearly.
  assert spot[36, 24] / spot[32, 24] == pytest.approx(np.exp(-((4 / (65 / 8)) ** 2) / 2), rel=0.01)
  assert spot[32, 27] / spot[32, 24] == pytest.approx(np.exp(-((3 / (49 / 8)) ** 2) / 2), rel=0.01)


def test_overlays_of_other_images_are_refused():
  with pytest.raises(ValueError, match=r"these images, \(4, 8, 6\).*but is of \(3, 8, 6\)"):
    faithfulness(Sum(), {}, IMAGES, overlay(true_values()[:3]))
  with pytest.raises(ValueError, match=r"but is of \(4, 8, 8\)"):
    faithfulness(Sum(), {}, IMAGES, overlay(true_values(), Grid(4, 3, (2.0, 2.0), image=(8, 8))))
  with pytest.raises(ValueError, match="steps is 0"):
    measured(true_values(), steps=0)
  with pytest.raises(ValueError, match="'median' is none of mean, blur, noise"):
    measured(true_values()).areas("deletion", "median")


def test_overlays_fit_their_grid_and_spread_over_pixels():
  with pytest.raises(ValueError, match=r"values of overlay are \[4, 3\], but must be \[b, 4, 3\]"):
    overlay(np.zeros((4, 3)))
  shifted = Grid(2, 2, (3.0, 2.0), origin=(-1.0, 1.0), image=(6, 5))
  found = overlay(np.arange(4).reshape(1, 2, 2), shifted).pixels()[0]
  nan = np.nan
  rows = [[nan, 0, 0, 1, 1], [nan, 2, 2, 3, 3], [nan] * 5]
  np.testing.assert_array_equal(found, np.repeat(rows, [2, 3, 1], 0))
  with pytest.raises(ValueError, match="no image"):
    overlay(np.zeros((1, 1, 3)), Grid(1, 3)).pixels()
