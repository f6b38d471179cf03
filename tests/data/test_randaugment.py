import collections
import pathlib

import numpy as np
import pytest
from PIL import Image

from convattn.data import rand_augment
from convattn.data.randaugment import OPERATIONS

HEIGHT, WIDTH = 18, 23  # equalize wants more than 255 pixels
ENHANCING = ("contrast", "brightness", "sharpness", "color")
MOVING = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


def image(channels, seed=0, low=20, high=230):
  return np.random.default_rng(seed).integers(low, high, (HEIGHT, WIDTH, channels), np.uint8)


def applied(name, pixels, magnitude, sign=1):
  picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
  return np.asarray(OPERATIONS[name](picture, magnitude / 10, sign)).reshape(pixels.shape)


GOLDEN = pathlib.Path(__file__).parent / "golden"
"""A picture and what each operation made of it at magnitude 9, turned to the positive side; looked at, then kept."""


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_makes_its_golden_picture(name):
  with Image.open(GOLDEN / "picture.png") as picture, Image.open(GOLDEN / f"{name}.png") as expected:
    made = np.asarray(OPERATIONS[name](picture, 0.9, 1))
    np.testing.assert_array_equal(made, np.asarray(expected))
    assert (name == "identity") == np.array_equal(made, np.asarray(picture))


def test_there_is_a_golden_picture_for_each_operation_and_no_two_are_alike():
  pictures = {path.stem: path for path in GOLDEN.glob("*.png")}
  assert set(pictures) == {"picture", *OPERATIONS}
  contents = {np.asarray(Image.open(pictures[name])).tobytes() for name in OPERATIONS}
  assert len(contents) == len(OPERATIONS)


def test_the_operations_are_those_of_the_paper():
  pixelwise = {"identity", "auto_contrast", "equalize", "solarize", "posterize"}
  assert set(OPERATIONS) == {*pixelwise, *ENHANCING, *MOVING}
  assert len(OPERATIONS) == 14


@pytest.mark.parametrize(
  "name, channels",
  [(name, channels) for name in OPERATIONS for channels in (1, 3) if (name, channels) != ("color", 1)],
)
def test_every_operation_changes_pixels_but_neither_shape_nor_type(name, channels):
  pixels = image(channels)
  changed = applied(name, pixels, 7)
  assert changed.shape == pixels.shape and changed.dtype == np.uint8
  assert np.array_equal(changed, pixels) == (name == "identity")


@pytest.mark.parametrize("name", ENHANCING)
def test_a_factor_of_one_changes_nothing_and_its_distance_from_one_counts(name):
  pixels = image(3, low=100, high=140)
  np.testing.assert_array_equal(applied(name, pixels, 5), pixels)  # 1.8 * 0.5 + 0.1 = 1
  changes = [np.abs(applied(name, pixels, magnitude).astype(int) - pixels).mean() for magnitude in (6, 8, 10)]
  assert 0 < changes[0] < changes[1] < changes[2]


def test_brightness_multiplies_by_its_factor():
  pixels = image(3, high=80)
  np.testing.assert_allclose(applied("brightness", pixels, 10), 1.9 * pixels, atol=1)
  np.testing.assert_allclose(applied("brightness", pixels, 15), np.minimum(2.8 * pixels, 255), atol=1)


def test_no_colour_makes_equal_channels():
  grey = applied("color", image(3), 0).astype(int)  # a tenth of the colour is left
  assert np.ptp(grey, axis=-1).max() <= 0.1 * 210 + 2
  assert np.ptp(image(3).astype(int), axis=-1).max() > 100


def test_contrast_goes_away_from_the_mean():
  pixels = image(1, low=110, high=150)
  changed = applied("contrast", pixels, 10)
  mean = int(pixels.mean() + 0.5)
  np.testing.assert_allclose(changed, mean + 1.9 * (pixels.astype(float) - mean), atol=1)


@pytest.mark.parametrize("magnitude, threshold", [(0, 0), (3, 76), (9.9, 253), (10, 256), (30, 768)])
def test_solarize_inverts_from_its_threshold_up(magnitude, threshold):
  pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
  expected = np.where(pixels < threshold, pixels, 255 - pixels)
  np.testing.assert_array_equal(applied("solarize", pixels, magnitude), expected)


@pytest.mark.parametrize("magnitude, bits", [(0, 1), (5, 2), (10, 4), (15, 6), (20, 8), (30, 8)])
def test_posterize_keeps_the_high_bits(magnitude, bits):
  pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
  np.testing.assert_array_equal(applied("posterize", pixels, magnitude), pixels >> (8 - bits) << (8 - bits))


def test_auto_contrast_and_equalize_reach_both_ends():
  for name in ("auto_contrast", "equalize"):
    changed = applied(name, image(3, low=60, high=90), 0)
    assert (changed.min((0, 1)) == 0).all() and (changed.max((0, 1)) == 255).all()


@pytest.mark.parametrize("name, axis", [("translate_x", 1), ("translate_y", 0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_translations_move_by_whole_pixels_and_leave_grey(name, axis, sign):
  pixels = image(3)
  side = pixels.shape[axis]
  moved = applied(name, pixels, 15, sign)
  shift = round(15 / 10 * 100 / 224 * side)
  assert 0 < shift < side
  expected = np.full_like(pixels, 128)
  there, here = slice(shift, None), slice(None, side - shift)
  if sign < 0:
    there, here = here, there
  index = lambda part: (slice(None),) * axis + (part,)  # noqa: E731
  expected[index(here)] = pixels[index(there)]
  np.testing.assert_array_equal(moved, expected)


def test_a_translation_is_the_programs_100_pixels_at_224():
  wide = np.zeros((1, 224, 1), np.uint8)
  assert (applied("translate_x", wide, 10) == 128).sum() == 100


@pytest.mark.parametrize("name, axis", [("shear_x", 0), ("shear_y", 1)])
def test_shears_move_a_line_by_its_distance_from_the_corner(name, axis):
  pixels = image(1)
  sheared = applied(name, pixels, 10)
  for distance in (0, 7, 17):
    shift = round(0.3 * (distance + 0.5))
    line, original = np.take(sheared, distance, axis), np.take(pixels, distance, axis)
    np.testing.assert_array_equal(line[: len(line) - shift - 1], original[shift:-1])


def test_a_rotation_is_by_three_degrees_per_magnitude():
  square = np.random.default_rng(0).integers(0, 255, (41, 41, 3), np.uint8)
  np.testing.assert_array_equal(applied("rotate", square, 30), np.rot90(square))  # 90 degrees
  np.testing.assert_array_equal(applied("rotate", square, 30, sign=-1), np.rot90(square, -1))
  assert (applied("rotate", square, 15)[0, 0] == 128).all()  # 45 degrees leave the corners empty


def test_no_movement_at_magnitude_zero():
  for name in MOVING:
    np.testing.assert_array_equal(applied(name, image(3), 0), image(3))


@pytest.mark.parametrize("channels", [1, 3])
def test_each_layer_is_one_operation_drawn_evenly(channels):
  pixels, magnitude = image(channels), 7
  possible = {}
  for name in OPERATIONS:
    for sign in (1, -1):
      if name != "color" or channels == 3:
        possible.setdefault(applied(name, pixels, magnitude, sign).tobytes(), name)
  draws = 900
  counts = collections.Counter(
    possible[rand_augment(np.random.default_rng(seed), pixels, layers=1, magnitude=magnitude).tobytes()]
    for seed in range(draws)
  )
  expected = draws / (14 if channels == 3 else 13)
  assert len(counts) == (14 if channels == 3 else 13)
  assert all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())


def test_two_layers_are_two_single_ones_with_the_same_draws():
  pixels = image(3)
  for seed in range(20):
    rng = np.random.default_rng(seed)
    one_by_one = rand_augment(rng, rand_augment(rng, pixels, layers=1, magnitude=6), layers=1, magnitude=6)
    both = rand_augment(np.random.default_rng(seed), pixels, layers=2, magnitude=6)
    np.testing.assert_array_equal(both, one_by_one)


def test_both_directions_occur():
  pixels = image(1)
  seen = {rand_augment(np.random.default_rng(seed), pixels, layers=1, magnitude=9).tobytes() for seed in range(300)}
  for name in MOVING:
    assert {applied(name, pixels, 9, sign).tobytes() for sign in (1, -1)} <= seen


def test_no_layers_change_nothing():
  np.testing.assert_array_equal(rand_augment(np.random.default_rng(0), image(3), layers=0, magnitude=15), image(3))


@pytest.mark.parametrize(
  "changes, error, message",
  [
    ({"image": image(2)}, ValueError, "1 or 3 channels, got 2; set its layers to 0"),
    ({"image": image(3)[0]}, ValueError, r"image must be uint8 \[h, w, c\], got uint8 \[23, 3\]"),
    ({"image": image(3) / 255}, ValueError, r"image must be uint8 \[h, w, c\], got float64 \[18, 23, 3\]"),
    ({"layers": -1}, ValueError, "layers must be at least 0, got -1"),
    ({"magnitude": 31}, ValueError, "magnitude must be from 0 to 30, got 31"),
    ({"magnitude": float("nan")}, ValueError, "magnitude must be from 0 to 30, got nan"),
  ],
)
def test_what_it_cannot_augment_is_named(changes, error, message):
  arguments = {"image": image(3), "layers": 1, "magnitude": 5, **changes}
  with pytest.raises(error, match=message):
    rand_augment(np.random.default_rng(0), arguments.pop("image"), **arguments)
