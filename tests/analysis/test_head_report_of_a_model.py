"""What the report says of models whose heads are made to be known."""

import jax
import numpy as np
import pytest

from convattn import layers
from convattn.analysis import attention_maps, head_report
from convattn.equivalence import conv_to_attention
from convattn.models.coatnet import CoAtNet
from convattn.models.spec import Run, Spec, Stage
from tests.analysis.test_capture import drawn

CENTRES = np.array([(0, 1), (-1, 0), (1, -1)])
LAYER = "stage_2/block_0/attention"


def with_heads_of_position(variables, layer, scale):
  """Sets a layer's bias to -scale |delta - centre|^2 and its queries to nothing."""
  params = jax.tree.map(np.array, variables["params"])
  stage, block, _ = layer.split("/")
  attention = params[stage][block]["attention"]
  _, rows, columns = attention["bias_table"].shape
  delta = np.stack(np.meshgrid(np.arange(rows) - rows // 2, np.arange(columns) - columns // 2, indexing="ij"), -1)
  attention["bias_table"] = (-scale * ((delta - CENTRES[:, None, None]) ** 2).sum(-1)).astype(np.float32)
  attention["query"] = jax.tree.map(np.zeros_like, attention["query"])
  return {**variables, "params": params}


def test_heads_of_a_model_are_what_they_were_made():
  """40x32 pixels, attention at a stride of 4: 10x8 cells; the next stage has 5x4."""
  stages = (Stage((Run("C", 1, 6),)), Stage((Run("T", 1, 12),), 1), Stage((Run("T", 1, 12),)))
  model = CoAtNet(Spec(stages, (4,), head_size=4), num_classes=3)
  images = np.random.default_rng(0).standard_normal((3, 40, 32, 2)).astype(np.float32)
  variables = drawn(model, images, train=False)
  reports = {
    scale: head_report(attention_maps(model, with_heads_of_position(variables, LAYER, scale), images))
    for scale in (0.5, 60.0)
  }
  usual = head_report(attention_maps(model, variables, images))
  for found in (*reports.values(), usual):
    assert [each.layer for each in found] == [LAYER, "stage_3/block_0/attention"]
    assert (found[0].query_grid.height, found[0].query_grid.width, found[0].num_heads) == (10, 8, 3)
    assert (found[1].content_dependence > 0).all()
  soft, hard = reports[0.5][0], reports[60.0][0]
  for found in (soft, hard):
    assert found.content_dependence.tolist() == [0, 0, 0]
    assert found.peak_shift.tolist() == CENTRES.tolist()
    assert (found.consistency > 0.9).all()
  np.testing.assert_allclose(soft.centre_pixels, 4 * CENTRES, atol=1)
  np.testing.assert_allclose(hard.centre_pixels, 4 * CENTRES, atol=1e-5)
  np.testing.assert_allclose(hard.peak, 1, atol=1e-5)
  # Down and to the right are fewer queries with a neighbour: 9 of 10 rows, 7 of 8 columns.
  np.testing.assert_allclose(hard.distance, [4 * 7 / 8, 4 * 9 / 10, hard.distance[2]], rtol=1e-5)
  taps = np.ones((3, 3))
  taps[tuple((CENTRES + 1).T)] = 0
  np.testing.assert_allclose(hard.tap_residual, taps, atol=1e-6)
  # As drawn, the same layer's heads look for content.
  assert (usual[0].content_dependence > 0.01).all() and (usual[0].consistency < 0.5).all()


@pytest.mark.parametrize("mode, alpha", [("table", None), ("quadratic", 18.0)])
def test_a_convolution_made_attention_is_seen_to_be_one(mode, alpha):
  """Nine heads on images with a border of padding, whose cells are keys."""
  kernel = np.random.default_rng(1).standard_normal((3, 3, 2, 4)).astype(np.float32)
  images = np.random.default_rng(2).standard_normal((2, 7, 9, 2)).astype(np.float32)
  made, variables = conv_to_attention(kernel, None, padding="SAME", mode=mode, alpha=alpha)
  (found,) = attention_maps(made, variables, images)
  (report,) = head_report([found])
  assert [(each.height, each.width) for each in (report.query_grid, report.key_grid)] == [(7, 9), (9, 11)]
  assert report.peak_shift.tolist() == [[down, across] for down in (-1, 0, 1) for across in (-1, 0, 1)]
  np.testing.assert_allclose(report.distance, np.hypot(*report.peak_shift.T), atol=1e-5)
  np.testing.assert_allclose(report.peak, 1, atol=1e-6)
  np.testing.assert_allclose(report.tap_residual, 0, atol=1e-9)
  np.testing.assert_allclose(np.delete(report.consistency, 4), 1, atol=1e-9)
  assert report.content_dependence.tolist() == [0] * 9


@pytest.mark.parametrize(
  "attention, options",
  [
    (layers.WindowAttention(2, 4, shift=2), {}),
    (layers.LocalAttention(2, window=3), {}),
    (layers.SAGANAttention(pool=2), {}),
    (layers.GridAttention(2, "quadratic"), {}),
    (layers.RelativeAttention(2, relative="post"), {}),
  ],
  ids=lambda value: type(value).__name__,
)
def test_every_layer_that_attends_has_a_report(attention, options):
  """Of 7x10 pixels: windows that are cut off, neighbourhoods, pooled keys, weights below zero."""
  images = np.random.default_rng(3).standard_normal((2, 7, 10, 8)).astype(np.float32)
  (found,) = attention_maps(attention, drawn(attention, images, **options), images, **options)
  (report,) = head_report([found])
  height, width = report.query_grid.height, report.query_grid.width
  assert (height, width) == (7, 10)
  weights = found.dense().astype(np.float64)
  shares = np.abs(np.nan_to_num(weights)) / np.nansum(np.abs(weights), -1, keepdims=True)
  places = [grid.centres() for grid in (found.query_grid, found.key_grid)]
  far = np.linalg.norm(places[1][None] - places[0][:, None], axis=-1)
  np.testing.assert_allclose(report.distance, (shares * far).sum(-1).mean((0, 2)), rtol=1e-9)
  logs = np.log(np.where(shares > 0, shares, 1))
  keys = np.isfinite(weights[0, 0]).sum(-1)
  np.testing.assert_allclose(report.entropy, (-(shares * logs).sum(-1) / np.log(keys)).mean((0, 2)), rtol=1e-9)
  assert report.entropy.min() > 0 and report.entropy.max() < 1
  np.testing.assert_allclose(report.profile_mass.sum((1, 2)), 1, rtol=1e-12)
  for name in ("centre", "covariance", "peak", "consistency", "tap_residual"):
    assert np.isfinite(getattr(report, name)).all(), name
