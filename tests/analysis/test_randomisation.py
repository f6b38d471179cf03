"""The randomisation test of maps that know no model, and of one that shows nothing but its weights."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest
import scipy.stats

from convattn.analysis import Grid, Overlay, centre_map, grad_cam, randomisation, rank_correlations, shuffled_labels
from convattn.models import CoAtNet, Run, Spec, Stage

IMAGES = np.random.default_rng(1).normal(size=(3, 13, 9, 2)).astype(np.float32)
STAGES = (Stage((Run("C", 1, 8),), 1), Stage((Run("T", 1, 12),), 1))
MODEL = CoAtNet(Spec(STAGES, (4, 8), head_size=4, head="plain"), num_classes=3)
GRID = Grid(7, 5, (2.0, 2.0), image=(13, 9))
PARTS = ("classifier", "stage_2", "stage_1", "stem")


@pytest.fixture(scope="module")
def variables():
  """No array has the value of an initialisation, those of constants neither."""
  fresh = jax.jit(lambda images: MODEL.init(jax.random.key(1), images, train=False))(IMAGES)
  draws = np.random.default_rng(0)
  return jax.tree.map(
    lambda leaf: np.asarray(leaf) + np.abs(draws.normal(size=leaf.shape, scale=0.1)).astype("f"), fresh
  )


def overlay(values, grid=GRID):
  return Overlay("overlay", grid, np.asarray(values, np.float32), "", True)


def test_a_map_that_knows_no_model_never_changes(variables):
  found = randomisation(MODEL, variables, IMAGES, lambda model, variables, images: centre_map(GRID, 3))
  assert found.steps == PARTS and found.overlay == "centre"
  np.testing.assert_allclose(found.correlations, 1, rtol=1e-12)
  assert found.interval("stem").low == pytest.approx(1)


def test_parts_are_drawn_anew_from_the_top_down_and_stay_so(variables):
  seen = []

  def method(model, variables, images):
    seen.append(variables)
    return centre_map(GRID, 3)

  randomisation(MODEL, variables, IMAGES, method)
  same = jax.tree.map(np.array_equal, seen[0], variables)
  assert all(jax.tree.leaves(same))
  for number, now in enumerate(seen):
    for collection, parts in now.items():
      for part, values in parts.items():
        kept = jax.tree.leaves(jax.tree.map(np.array_equal, values, variables[collection][part]))
        assert not any(kept) if part in PARTS[:number] else all(kept)
    assert jax.tree.structure(now) == jax.tree.structure(variables)
  fresh = seen[-1]["batch_stats"]["stage_1"]["block_0"]["pre_norm"]
  np.testing.assert_array_equal(fresh["mean"], 0)


def test_a_map_of_the_weights_alone_is_lost_with_them(variables):
  def method(model, variables, images):
    kernel = np.asarray(variables["params"]["stage_2"]["block_0"]["feed_forward"]["expand"]["kernel"])
    return overlay(np.tile(kernel.ravel()[:35].reshape(1, 7, 5), (3, 1, 1)))

  found = randomisation(MODEL, variables, IMAGES, method)
  np.testing.assert_allclose(found.correlations[0], 1, rtol=1e-12)
  assert np.abs(found.correlations[1:]).max() < 0.5


def test_grad_cam_is_about_the_same_classes_in_every_step(variables):
  chosen = []

  def method(model, variables, images, classes=None):
    chosen.append(classes)
    return grad_cam(model, variables, images, classes)

  found = randomisation(MODEL, variables, IMAGES, method)
  predicted = np.asarray(MODEL.apply(variables, IMAGES, train=False)).argmax(-1)
  assert len(chosen) == 5
  for classes in chosen:
    np.testing.assert_array_equal(classes, predicted)
  assert np.nanmean(found.correlations[-1]) < 0.7
  fixed = functools.partial(method, classes=2)
  randomisation(MODEL, variables, IMAGES, fixed)
  assert chosen[5:] == [2] * 5


def test_another_seed_draws_other_weights(variables):
  runs = [randomisation(MODEL, variables, IMAGES, grad_cam, seed=seed).correlations for seed in (0, 1)]
  assert np.nanmax(np.abs(runs[0] - runs[1])) > 0.01


def test_labels_that_were_shuffled(variables):
  other = jax.tree.map(lambda leaf: leaf[::-1], variables)
  same = shuffled_labels(MODEL, variables, variables, IMAGES, grad_cam)
  assert same.steps == ("shuffled labels",)
  np.testing.assert_allclose(same.correlations, 1, rtol=1e-12)
  assert np.nanmean(shuffled_labels(MODEL, variables, other, IMAGES, grad_cam).correlations) < 0.9
  with pytest.raises(ValueError, match="of the same model"):
    shuffled_labels(MODEL, variables, {"params": variables["params"]}, IMAGES, grad_cam)


def test_ranks_are_spearmans():
  draws = np.random.default_rng(0)
  ours, theirs = (overlay(draws.integers(0, 9, size=(4, 7, 5))) for _ in range(2))  # many ties
  expected = [
    scipy.stats.spearmanr(*map(np.ravel, pair)).statistic for pair in zip(ours.values, theirs.values, strict=True)
  ]
  np.testing.assert_allclose(rank_correlations(ours, theirs), expected, rtol=1e-6)
  np.testing.assert_allclose(rank_correlations(ours, overlay(np.exp(ours.values))), 1, rtol=1e-12)
  np.testing.assert_allclose(rank_correlations(ours, overlay(-ours.values)), -1, rtol=1e-12)


def test_a_flat_map_has_no_ranks():
  flat = overlay(np.zeros((3, 7, 5)))
  drawn = overlay(np.random.default_rng(0).normal(size=(3, 7, 5)))
  assert np.isnan(rank_correlations(flat, drawn)).all()
  with pytest.raises(ValueError, match="of the same images and cells"):
    rank_correlations(flat, overlay(np.zeros((2, 7, 5))))


def test_an_interval_is_of_the_images_that_have_one(variables):
  found = randomisation(MODEL, variables, IMAGES, lambda *_: overlay(np.ones((3, 7, 5))))
  assert np.isnan(found.correlations).all() and found.interval("stem") is None
  with pytest.raises(ValueError, match="'head' is none of the steps classifier, stage_2"):
    found.interval("head")


def test_a_model_without_parts_is_refused():
  layer = nn.Conv(2, (3, 3))
  variables = layer.init(jax.random.key(0), IMAGES)
  with pytest.raises(ValueError, match="Conv has no parts at its top level"):
    randomisation(layer, variables, IMAGES, lambda *_: centre_map(GRID, 3))
