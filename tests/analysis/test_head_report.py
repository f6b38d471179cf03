"""The report of all metrics, and its tables."""

import dataclasses

import numpy as np
import pytest

from convattn import analysis
from convattn.analysis import head_report, head_table, layer_table
from convattn.analysis.attention_map import Grid
from tests.analysis.maps_by_hand import (
  NINE,
  content,
  fixed_key,
  grid,
  hard,
  layer,
  quadratic,
  square,
  uniform,
  windowed,
)


def kinds(side=8):
  """A layer with a hard, a uniform, a fixed-key, a quadratic and a content head, of three images."""
  queries = square(side, 4.0)
  fixed = [hard((0, 1), queries), uniform(queries), fixed_key(5, queries), quadratic(0.5, (1, 0), queries)]
  weights = np.concatenate([np.stack([fixed] * 3), content(queries, 3)], 1)
  return layer(weights, queries)


@pytest.fixture(scope="module")
def report():
  (found,) = head_report([kinds()])
  return found


def test_each_number_is_that_of_its_metric(report):
  found = kinds()
  assert (report.layer, report.num_heads, report.num_images) == ("block/attention", 5, 3)
  np.testing.assert_array_equal(report.distance, analysis.attention_distance(found))
  np.testing.assert_array_equal(report.entropy, analysis.attention_entropy(found))
  np.testing.assert_array_equal(report.consistency, analysis.shift_consistency(found))
  np.testing.assert_array_equal(report.local_mass, analysis.local_mass(found))
  np.testing.assert_array_equal(report.content_dependence, analysis.content_dependence(found))
  np.testing.assert_array_equal(report.divergence, analysis.head_divergence(found))
  np.testing.assert_array_equal(report.prefix_mass, np.zeros(5))
  np.testing.assert_array_equal(report.tap_residual, analysis.tap_residuals(found))
  np.testing.assert_array_equal(report.centre, analysis.shift_moments(found)[0])
  np.testing.assert_array_equal(report.peak, analysis.convolution_peak(analysis.shift_profile(found))[0])
  for field in dataclasses.fields(report):
    value = getattr(report, field.name)
    if isinstance(value, np.ndarray):
      assert value.dtype == np.float64 and np.isfinite(value).all(), field.name
      assert field.name == "tap_residual" or len(value) == 5


def test_what_follows_from_them(report):
  np.testing.assert_array_equal(report.centre_pixels, 4 * report.centre)
  np.testing.assert_array_equal(report.covariance_pixels, 16 * report.covariance)
  assert report.nonlocality == report.distance.mean()
  assert report.diversity == pytest.approx(report.divergence.sum() / 20)
  (alike,) = head_report([layer([uniform(square(4))] * 3, square(4))])
  assert alike.diversity == 0
  (single,) = head_report([layer([uniform(square(4))], square(4))])
  assert np.isnan(single.diversity) and np.isnan(single.content_dependence).all()


def test_strides_of_two_axes_belong_to_their_axes():
  tall = grid(12, 12, (8.0, 2.0))
  (found,) = head_report([layer([quadratic(0.5, (1, -1), tall)], tall)])
  np.testing.assert_allclose(found.centre_pixels[0], (8, -2), rtol=0.05)
  np.testing.assert_allclose(found.covariance_pixels[0], np.diag([64, 4]), rtol=0.1, atol=0.5)


def test_heads_told_apart_by_their_numbers(report):
  """What each head is, from the report alone."""
  convolution, spread, one_key, window = range(4)
  assert np.argsort(report.peak)[-2:].tolist() == [window, convolution]
  assert report.peak_shift[[convolution, window]].tolist() == [[0, 1], [1, 0]]
  assert (report.consistency > 0.9).tolist() == [True, False, False, True, False]
  assert report.entropy.argmax() == spread and report.entropy[[convolution, one_key]].max() < 1e-6
  assert (report.content_dependence > 0).tolist() == [False, False, False, False, True]


def test_layers_come_in_their_order_from_a_generator():
  sides = [4, 3, 5]
  found = head_report(kinds(side) for side in sides)
  assert [each.query_grid.height for each in found] == sides


def test_every_kind_of_map_has_a_report():
  prefixed = np.random.default_rng(0).dirichlet(np.ones(13), (2, 3, 13))
  maps = [
    layer(prefixed, grid(3, 4, 16.0), prefix_tokens=1),
    windowed(lambda delta: -(delta**2).sum(-1)[None] / 2, 6, 8, (3, 4), images=2),
    layer(content(Grid(1, 11), 2, heads=2), Grid(1, 11)),
    layer([uniform(square(6, 2.0), square(3, 4.0))], square(6, 2.0), square(3, 4.0)),
    layer([uniform(grid(3, 5, 2.0), grid(6, 10))], grid(3, 5, 2.0), grid(6, 10)),
    layer(np.ones((2, 4, 1, 1)), grid(1, 1, 32.0)),
  ]
  reports = head_report(maps)
  for found in reports:
    for name in ("distance", "entropy", "peak", "local_mass", "prefix_mass"):
      assert np.isfinite(getattr(found, name)).all(), name
  assert (reports[0].prefix_mass > 0).all() and not reports[1].prefix_mass.any()
  lines = head_table(reports).splitlines()
  assert len(lines) == 1 + sum(found.num_heads for found in reports)
  assert len(layer_table(reports).splitlines()) == 1 + len(maps)


def test_words_that_look_at_pixels_have_no_shifts():
  words, pixels = Grid(1, 3), grid(3, 4)
  (found,) = head_report([layer(content(pixels, 2, heads=2)[:, :, :3], words, pixels)])
  assert np.isfinite(found.entropy).all() and (found.content_dependence > 0).all() and found.diversity > 0
  for name in ("distance", "centre", "covariance", "profile", "peak", "peak_shift", "consistency", "tap_residual"):
    assert np.isnan(getattr(found, name)).all(), name
  (other,) = head_report([layer(content(pixels, 2, heads=2), pixels)])
  for name in (field.name for field in dataclasses.fields(found)):
    one, usual = getattr(found, name), getattr(other, name)
    assert np.ndim(one) == np.ndim(usual), name
    assert np.ndim(one) != 1 or len(one) == len(usual), name
  assert head_table([found]).splitlines()[1].split()[2] == "-"
  assert layer_table([found]).splitlines()[1].split()[4:9] == ["-", "0", "of", "0", "-"]


def test_maps_without_anything_in_them_are_refused():
  with pytest.raises(ValueError, match=r"block/attention has weights \[0, 2, 9, 9\]"):
    head_report([layer(np.zeros((0, 2, 9, 9)), square(3))])


def test_the_tables():
  queries = grid(12, 12, 16.0)
  heads = [*(hard(each, queries) for each in NINE), quadratic(0.5, (0, 1), queries)]
  reports = head_report([layer(heads, queries), layer([uniform(Grid(1, 6))], Grid(1, 6))])
  lines = [" ".join(line.split()) for line in head_table(reports).splitlines()]
  assert lines[0] == "layer head distance entropy centre spread peak at R² 3×3 content"
  assert lines[6] == "block/attention 5 14.7 px 0.00 +0.0,+1.0 0.0 1.00 +0,+1 1.00 1.00 -"
  assert lines[5] == "block/attention 4 0.0 px 0.00 +0.0,+0.0 0.0 1.00 +0,+0 0.00 1.00 -"
  assert "+0.0,+1.0 1.4 0." in lines[10]
  assert lines[11].startswith("block/attention 0 1.9 1.00 ")  # cells: there is no image
  first, second = (line.split() for line in layer_table(reports).splitlines()[1:])
  assert first[1:4] == ["10", "12×12", "12×12"] and first[6:10] == ["9", "of", "9", "0.00"]
  assert second[1:4] == ["1", "1×6", "1×6"] and second[5:8] == ["0", "of", "3"] and second[-2] == "-"


# Laws that hold for any weights


def any_weights(height=7, width=9):
  """[2, 3, q, k] of two images on a rectangular grid, with some order in shift: a seeded draw."""
  queries = grid(height, width)
  ordered = [quadratic(0.4, (1, -1), queries), quadratic(0.2, (0, 2), queries), uniform(queries)]
  return 0.2 * content(queries, 2, heads=3) + 0.8 * np.stack(ordered)


def report_of(weights, queries, **fields):
  (found,) = head_report([layer(weights, queries, **fields)])
  return found


UNMOVED = (
  "distance", "entropy", "peak", "consistency", "local_mass", "content_dependence", "divergence", "prefix_mass",
)  # fmt: skip


def test_a_mirrored_image_has_mirrored_numbers():
  weights = any_weights()
  mirrored = weights.reshape(2, 3, 7, 9, 7, 9)[:, :, :, ::-1, :, ::-1].reshape(weights.shape)
  one, other = report_of(weights, grid(7, 9)), report_of(mirrored, grid(7, 9))
  for name in UNMOVED:
    np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=1e-5, atol=1e-9, err_msg=name)
  np.testing.assert_allclose(other.centre, one.centre * (1, -1), atol=1e-6)
  np.testing.assert_allclose(other.covariance, one.covariance * ((1, -1), (-1, 1)), atol=1e-5)
  np.testing.assert_allclose(other.profile, one.profile[..., ::-1], rtol=1e-5)
  np.testing.assert_allclose(other.tap_residual, one.tap_residual[:, ::-1], rtol=1e-5)
  np.testing.assert_array_equal(other.peak_shift[:2], one.peak_shift[:2] * (1, -1))
  assert one.peak_shift[0].tolist() == [1, -1]  # which a mirror moves


def test_a_transposed_image_has_transposed_numbers():
  weights = any_weights()
  across = weights.reshape(2, 3, 7, 9, 7, 9).transpose(0, 1, 3, 2, 5, 4).reshape(weights.shape)
  one, other = report_of(weights, grid(7, 9)), report_of(across, grid(9, 7))
  for name in UNMOVED:
    np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=1e-5, atol=1e-9, err_msg=name)
  np.testing.assert_allclose(other.centre, one.centre[:, ::-1], atol=1e-6)
  np.testing.assert_allclose(other.profile, one.profile.swapaxes(1, 2), rtol=1e-5)
  np.testing.assert_allclose(other.tap_residual, one.tap_residual.T, rtol=1e-5)


def test_larger_cells_change_pixels_alone():
  weights = any_weights()
  one, other = report_of(weights, grid(7, 9)), report_of(weights, grid(7, 9, 16.0))
  np.testing.assert_allclose(other.distance, 16 * one.distance, rtol=1e-12)
  np.testing.assert_allclose(other.centre_pixels, 16 * one.centre_pixels, rtol=1e-12)
  for name in (*UNMOVED[1:], "centre", "covariance", "profile", "peak_shift", "tap_residual"):
    np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=1e-12, atol=1e-12, err_msg=name)


def test_keys_in_another_order_are_the_same_keys():
  """A window as large as the image, its keys shuffled for each query, and one that is none."""
  weights, generator = any_weights(), np.random.default_rng(0)
  order = np.argsort(generator.random((63, 63)), -1)
  shuffled = np.take_along_axis(weights, np.broadcast_to(order, weights.shape), -1)
  shuffled = np.concatenate([shuffled, np.full((2, 3, 63, 1), 0.7)], -1)
  cells = np.concatenate([order, np.full((63, 1), -1)], -1)
  one, other = report_of(weights, grid(7, 9)), report_of(shuffled, grid(7, 9), key_cells=cells)
  for field in dataclasses.fields(one):
    if isinstance(getattr(one, field.name), np.ndarray):
      np.testing.assert_allclose(
        getattr(other, field.name), getattr(one, field.name), rtol=1e-6, atol=1e-9, err_msg=field.name
      )
