"""Cutmix, mixup beside it, and colour jitter, against their definitions in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.data import color_jitter, cutmix, mixup, mixup_or_cutmix

BATCH, HEIGHT, WIDTH, CLASSES = 4, 6, 9, 5
TARGETS = jnp.eye(CLASSES)[jnp.arange(BATCH)]
IMAGES = jnp.arange(1.0, 1 + BATCH * HEIGHT * WIDTH * 2).reshape(BATCH, HEIGHT, WIDTH, 2)


@jax.jit
def cut(key):
  return cutmix(key, IMAGES, TARGETS, 1.0)


def boxes(count):
  """[count, h, w]: which pixels are the partner's, in the first image; every image is checked to have the same."""
  found = []
  for seed in range(count):
    images, targets = map(np.asarray, cut(jax.random.key(seed)))
    own, partner = np.asarray(IMAGES), np.roll(IMAGES, 1, axis=0)
    foreign = (images != own).any((0, 3))
    np.testing.assert_array_equal(images, np.where(foreign[None, :, :, None], partner, own))
    share = 1 - foreign.mean()
    np.testing.assert_allclose(targets, share * TARGETS + (1 - share) * np.roll(TARGETS, 1, axis=0), atol=1e-6)
    found.append(foreign)
  return np.array(found)


def test_cutmix_pastes_one_rectangle_and_counts_its_pixels():
  for foreign in boxes(40):
    rows, columns = np.flatnonzero(foreign.any(1)), np.flatnonzero(foreign.any(0))
    assert foreign.sum() == len(rows) * len(columns)  # a product of two sets of lines ...
    for lines in (rows, columns):
      assert len(lines) == 0 or np.ptp(lines) + 1 == len(lines)  # ... of neighbours


def test_its_sides_keep_the_proportions_of_the_image_and_its_place_is_anywhere():
  found = boxes(200)
  whole = [box for box in found if box.any() and not (box[0] | box[-1]).any() and not (box[:, 0] | box[:, -1]).any()]
  assert len(whole) > 10
  for box in whole:  # nothing was cut off
    h, w = box.any(1).sum(), box.any(0).sum()
    assert abs(h / HEIGHT - w / WIDTH) <= 1 / HEIGHT + 1 / WIDTH
  covered = found.mean(0)
  assert covered.min() > 0.1 and covered.max() < 0.7
  assert found.any((1, 2)).mean() > 0.9


def test_cutmix_without_alpha_changes_nothing():
  images, targets = cutmix(jax.random.key(0), IMAGES, TARGETS, 0)
  assert images is IMAGES and targets is TARGETS


def test_cutmix_gives_the_dtype_back():
  images, targets = cutmix(jax.random.key(1), IMAGES.astype(jnp.bfloat16), TARGETS.astype(jnp.bfloat16), 1.0)
  assert images.dtype == targets.dtype == jnp.bfloat16
  np.testing.assert_array_equal(images, cut(jax.random.key(1))[0].astype(jnp.bfloat16))


def test_with_one_alpha_it_is_that_one_alone():
  key = lambda: jax.random.key(3)  # noqa: E731 - each draw wants its own
  for mine, theirs in (
    (mixup_or_cutmix(key(), IMAGES, TARGETS, 0.4, 0), mixup(key(), IMAGES, TARGETS, 0.4)),
    (mixup_or_cutmix(key(), IMAGES, TARGETS, 0, 0.7), cutmix(key(), IMAGES, TARGETS, 0.7)),
    (mixup_or_cutmix(key(), IMAGES, TARGETS, 0, 0), (IMAGES, TARGETS)),
  ):
    for one, other in zip(mine, theirs, strict=True):
      np.testing.assert_array_equal(one, other)


def test_with_both_each_batch_has_one_of_them_about_as_often():
  either = jax.jit(lambda key: mixup_or_cutmix(key, IMAGES, TARGETS, 1.0, 1.0))
  kinds = []
  for seed in range(100):
    images = np.asarray(either(jax.random.key(seed))[0])
    pasted = (images == np.asarray(IMAGES)) | (images == np.roll(IMAGES, 1, axis=0))
    kinds.append(pasted.all())
  assert 30 < sum(kinds) < 70


def test_the_new_keys_leave_the_old_ones_as_they_were():
  old, new = (jax.random.key_data(jax.random.split(jax.random.key(11), count)) for count in (3, 4))
  np.testing.assert_array_equal(new[:3], old)


def by_hand(factors, image):
  """`color_jitter` of one image [h, w, c] in float64, with its factors."""
  brightness, contrast, saturation = factors
  shares = np.array([1.0]) if image.shape[-1] == 1 else np.array([0.299, 0.587, 0.114])
  pixels = np.clip(brightness * image.astype(np.float64), 0, 255)
  mean = (pixels @ shares).mean()
  pixels = np.clip(mean + contrast * (pixels - mean), 0, 255)
  if image.shape[-1] == 3:
    grey = (pixels @ shares)[..., None]
    pixels = np.clip(grey + saturation * (pixels - grey), 0, 255)
  return pixels


@pytest.mark.parametrize("channels", [1, 3])
def test_color_jitter_equals_its_definition_for_each_image(channels):
  images = np.random.default_rng(0).integers(0, 256, (BATCH, 5, 7, channels), np.uint8)
  changed = color_jitter(jax.random.key(4), jnp.asarray(images), 0.4)
  factors = np.asarray(jax.random.uniform(jax.random.key(4), (3, BATCH, 1, 1, 1), minval=0.6, maxval=1.4))
  factors = factors[:, :, 0, 0, 0].T
  assert changed.dtype == jnp.uint8 and changed.shape == images.shape
  assert len({round(float(factor), 5) for factor in factors.ravel()}) == 3 * BATCH  # each image has its own
  assert factors.min() >= 0.6 and factors.max() <= 1.4 and np.ptp(factors) > 0.3
  for image, result, own in zip(images, np.asarray(changed), factors, strict=True):
    np.testing.assert_allclose(result, by_hand(own, image), atol=0.51)


def test_color_jitter_of_nothing_is_nothing_and_of_black_is_black():
  images = jnp.zeros((2, 3, 4, 3), jnp.uint8)
  assert color_jitter(jax.random.key(0), images, 0) is images
  assert not color_jitter(jax.random.key(0), images, 1.0).any()


def test_a_grey_picture_in_rgb_stays_grey():
  grey = np.random.default_rng(1).integers(0, 256, (3, 5, 7, 1), np.uint8)
  changed = np.asarray(color_jitter(jax.random.key(5), jnp.asarray(grey.repeat(3, -1)), 0.9))
  assert (np.ptp(changed.astype(int), axis=-1) <= 1).all() and changed.std() > 0
