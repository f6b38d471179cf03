"""MNIST-1D made anew: its templates, its noise, its levels, its shuffled form."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from convattn.data import mnist1d
from convattn.data.mnist1d import (
  LENGTH,
  PADDING,
  RANGE,
  SCALE,
  SHEAR,
  TRANSLATIONS,
  curves,
  parts,
  shuffled_positions,
  signals,
  smooth,
  to_pixels,
  to_values,
)

POINTS = 12 + PADDING[1]


def draws(seed=0):
  return np.random.default_rng(seed)


def test_curves_begin_and_end_at_nothing_and_are_of_one_size():
  made = curves()
  assert made.shape == (10, 12)
  np.testing.assert_allclose(made[:, [0, -1]], 0, atol=1e-12)
  np.testing.assert_allclose(made.std(1), 1 / 6)
  assert abs(made[:, None] - made[None]).max(-1)[np.triu_indices(10, 1)].min() > 0.1  # no two alike


def test_smooth_noise_is_scipys():
  noise = draws().normal(size=(3, 31))
  np.testing.assert_allclose(smooth(noise), gaussian_filter1d(noise, mnist1d.SMOOTHING), atol=1e-12)


@pytest.mark.parametrize("label", range(10))
def test_without_noise_an_example_is_its_curve_stretched_scaled_moved_and_tilted(label):
  """Found by trying all paddings and translations, with scale and tilt by least squares, nothing of it is left over."""
  (value,) = signals(np.array([label]), draws(label + 1), noise=0)
  slope = np.interp(np.linspace(0, 1, LENGTH), np.linspace(0, 1, POINTS), np.linspace(-0.5, 0.5, POINTS))
  best = min(
    (np.linalg.norm(rest), scale, tilt)
    for zeros in range(PADDING[0], PADDING[1] + 1)
    for shift in range(TRANSLATIONS)
    for rest, scale, tilt in [_fitted(value, np.roll(_stretched(label, zeros), shift), slope)]
  )
  assert best[0] < 1e-9
  assert abs(best[1] - 1) <= SCALE / 2 and abs(best[2]) <= SHEAR / 2


def _stretched(label, zeros):
  padded = np.concatenate([curves()[label], np.zeros(zeros)])
  return np.interp(np.linspace(0, 1, POINTS), np.linspace(0, 1, len(padded)), padded)


def _fitted(value, curve, slope):
  columns = np.stack([np.interp(np.linspace(0, 1, LENGTH), np.linspace(0, 1, POINTS), curve), slope], 1)
  (scale, tilt), *_ = np.linalg.lstsq(columns, value, rcond=None)
  return value - columns @ [scale, tilt], scale, tilt


def test_labels_are_decoded_from_the_signal_without_noise():
  """By the nearest of many made signals of each digit, the tilt taken out: far from the chance of a tenth."""
  labels = np.arange(300) % 10
  many = np.arange(6000) % 10
  flat = np.linspace(-0.5, 0.5, LENGTH)
  flat /= np.linalg.norm(flat)

  def level(values):
    return values - (values @ flat)[:, None] * flat

  known, asked = level(signals(many, draws(1), noise=0)), level(signals(labels, draws(2), noise=0))
  distances = (asked**2).sum(1)[:, None] + (known**2).sum(1)[None] - 2 * asked @ known.T
  assert (many[distances.argmin(1)] == labels).mean() > 0.9
  assert (many[distances.argmax(1)] == labels).mean() < 0.5


def test_noise_is_as_large_as_it_says(monkeypatch):
  """Of the same draws with a noise and without: what is left is that noise at 40 points between 72."""
  labels = np.zeros(2000, int)
  without = signals(labels, draws(3), noise=0)
  monkeypatch.setattr(mnist1d, "SMOOTH_NOISE", 0)
  rest = signals(labels, draws(3)) - without
  assert abs(rest.std() / (mnist1d.NOISE * (2 / 3) ** 0.5) - 1) < 0.05  # weights u and 1 - u of independent neighbours
  monkeypatch.undo()
  monkeypatch.setattr(mnist1d, "NOISE", 0)
  rest = signals(labels, draws(3)) - without
  around = rest[rest != 0]
  assert 0.75 < around.size / rest.size < 0.9  # not on the curve, which is stretched to 12 to 18 of 72 points
  assert 0.9 < around.std() / (0.25 / (2 * np.pi**0.5 * mnist1d.SMOOTHING) ** 0.5) < 1.05


def test_levels_lose_less_than_half_a_level_and_little_is_cut_off():
  values = signals(np.arange(2000) % 10, draws(4))
  level = RANGE / 127.5
  kept = abs(values) <= RANGE
  assert kept.mean() > 0.9999
  assert abs(to_values(to_pixels(values)) - values)[kept].max() <= level / 2 + 1e-12
  error = (to_values(to_pixels(values)) - values)[kept].std()
  assert error < 0.0018 < 0.1 * mnist1d.NOISE  # what the module says of it
  np.testing.assert_array_equal(to_pixels(to_values(np.arange(256, dtype=np.uint8))), np.arange(256))
  assert to_pixels(np.array([-9.0, 0.0, 9.0])).tolist() == [0, 128, 255]


@pytest.fixture(scope="module")
def small():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(mnist1d, "SIZES", {"train": 40, "validation": 40, "test": 30})
    yield parts(shuffled=False), parts(shuffled=True), parts(shuffled=False)


def test_the_shuffled_set_is_one_permutation_of_the_plain_one(small):
  plain, shuffled, _ = small
  order = shuffled_positions()
  assert sorted(order) == list(range(LENGTH)) and not (order == np.arange(LENGTH)).all()
  for split, (images, labels) in plain.items():
    np.testing.assert_array_equal(shuffled[split][0], images[:, :, order])
    np.testing.assert_array_equal(shuffled[split][1], labels)
    assert not (shuffled[split][0] == images).all()


def test_a_set_is_the_same_each_time_with_as_many_of_each_digit(small):
  plain, _, again = small
  for split, (images, labels) in plain.items():
    assert images.dtype == np.uint8 and images.shape == (len(labels), 1, LENGTH, 1)
    np.testing.assert_array_equal(images, again[split][0])
    np.testing.assert_array_equal(labels, again[split][1])
    assert set(np.bincount(labels)) == {len(labels) // 10}
  assert not (plain["train"][0] == plain["validation"][0]).all()
