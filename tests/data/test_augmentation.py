import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from convattn.data import (
  color_jitter,
  cutmix,
  mixup,
  mixup_or_cutmix,
  normalize,
  random_crop,
  random_erasing,
  random_flip,
)

HEIGHT, WIDTH, CHANNELS, CLASSES = 5, 7, 3, 4


def distinct_images(batch, dtype=np.float32):
  """No two pixels of an image are equal, so that an image tells by how much it was moved."""
  pixels = np.random.default_rng(0).permuted(np.tile(np.arange(1, 106), (batch, 1)), axis=1)
  return jnp.asarray(pixels.reshape(batch, HEIGHT, WIDTH, CHANNELS), dtype)


def one_hot(batch, dtype=jnp.float32):
  return jax.nn.one_hot(jnp.arange(batch) % CLASSES, CLASSES, dtype=dtype)


def crops_by_offset(image, padding):
  """Every crop that there is, by NumPy: (row offset, column offset) -> image."""
  padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
  return {
    (row, column): padded[row : row + HEIGHT, column : column + WIDTH]
    for row, column in itertools.product(range(2 * padding + 1), repeat=2)
  }


def offsets_of(images, cropped, padding):
  """The offset of each image, found by comparison with all crops; fails unless exactly one fits."""
  offsets = []
  for image, result in zip(np.asarray(images), np.asarray(cropped), strict=True):
    fitting = [offset for offset, crop in crops_by_offset(image, padding).items() if np.array_equal(crop, result)]
    assert len(fitting) == 1
    offsets += fitting
  return np.array(offsets)


def test_normalize_is_the_formula():
  images = np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, CHANNELS), np.uint8)
  mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 1.5)
  normalized = normalize(images, mean, std)
  assert normalized.dtype == jnp.float32
  np.testing.assert_allclose(normalized, (images / 255 - mean) / std, rtol=2e-6, atol=2e-6)
  np.testing.assert_array_equal(normalize(images, np.array(mean), jnp.array(std)), normalized)


@pytest.mark.parametrize("padding", [1, 2])
def test_each_crop_is_one_of_the_reference_and_every_offset_occurs(padding):
  images = distinct_images(300)
  cropped = jax.jit(random_crop, static_argnums=2)(jax.random.key(0), images, padding)
  offsets = offsets_of(images, cropped, padding)
  assert set(map(tuple, offsets)) == set(crops_by_offset(np.asarray(images[0]), padding))


def test_rows_and_columns_of_all_images_move_independently():
  images = distinct_images(300)
  row, column = offsets_of(images, random_crop(jax.random.key(1), images, 2), 2).T - 2
  pairs = {"row, column": (row, column), "next row": (row[1:], row[:-1]), "next column": (column[1:], column[:-1])}
  for name, (one, other) in pairs.items():
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.2, name  # 3.5 standard deviations; 1 if they were one draw
  assert abs(row.mean()) < 0.3 and abs(column.mean()) < 0.3


def test_padding_zero_is_identity_and_costs_nothing():
  images = distinct_images(3)
  assert random_crop(jax.random.key(0), images, 0) is images


def test_flipping_twice_with_one_key_is_identity():
  images = distinct_images(40)
  once = random_flip(jax.random.key(2), images)
  np.testing.assert_array_equal(random_flip(jax.random.key(2), once), images)
  assert not np.array_equal(once, images)


def test_half_of_the_images_are_mirrored_each_by_its_own_draw():
  images = distinct_images(300)
  out = np.asarray(random_flip(jax.random.key(3), images))
  flipped = np.array([not np.array_equal(one, other) for one, other in zip(out, np.asarray(images), strict=True)])
  np.testing.assert_array_equal(out[flipped], np.asarray(images)[flipped][:, :, ::-1])
  assert abs(flipped.mean() - 0.5) < 0.1
  assert abs(np.corrcoef(flipped[1:], flipped[:-1])[0, 1]) < 0.2


@pytest.mark.parametrize("move", [functools.partial(random_crop, padding=2), random_flip])
def test_an_image_moves_whatever_the_others_hold(move):
  images = distinct_images(6)
  others = images.at[1:].set(0)
  np.testing.assert_array_equal(move(jax.random.key(4), images)[0], move(jax.random.key(4), others)[0])


@pytest.mark.parametrize("move", [functools.partial(random_crop, padding=2), random_flip])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.uint8])
def test_moves_do_not_depend_on_the_dtype(move, dtype):
  images = distinct_images(20)  # whole numbers below 256: exact in every dtype
  moved = move(jax.random.key(5), images.astype(dtype))
  assert moved.dtype == dtype
  np.testing.assert_array_equal(moved.astype(jnp.float32), move(jax.random.key(5), images))


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_mixup_mixes_images_and_targets_with_one_weight(batch, alpha):
  images, targets = distinct_images(batch), one_hot(batch)
  mixed_images, mixed_targets = mixup(jax.random.key(6), images, targets, alpha)
  own = np.arange(batch)
  partner = own - 1
  weight = float(mixed_targets[-1, (batch - 1) % CLASSES])
  assert (weight == 1) if batch == 1 else (0 < weight < 1)  # alone in the batch, an image is its own partner
  mix = lambda array: weight * np.asarray(array)[own] + (1 - weight) * np.asarray(array)[partner]  # noqa: E731
  np.testing.assert_allclose(mixed_targets, mix(targets), atol=1e-6)
  np.testing.assert_allclose(mixed_images, mix(images), rtol=1e-5)
  np.testing.assert_allclose(mixed_targets.sum(axis=-1), 1, atol=1e-6)


def weights(alpha):
  draw = jax.vmap(lambda key: mixup(key, jnp.zeros((2, 1, 1, 1)), one_hot(2), alpha)[1][0, 0])
  return np.asarray(draw(jax.random.split(jax.random.key(7), 400)))


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 8.0])
def test_the_weights_have_the_moments_of_the_beta_distribution(alpha):
  drawn = weights(alpha)
  assert np.isfinite(drawn).all() and (drawn >= 0).all() and (drawn <= 1).all()
  variance = 1 / (4 * (2 * alpha + 1))
  assert abs(drawn.mean() - 0.5) < 4 * np.sqrt(variance / len(drawn))
  assert abs(drawn.var() / variance - 1) < 0.2


def test_mixup_without_alpha_changes_nothing():
  images, targets = distinct_images(3), one_hot(3)
  mixed = mixup(jax.random.key(8), images, targets, 0.0)
  np.testing.assert_array_equal(mixed[0], images)
  np.testing.assert_array_equal(mixed[1], targets)


def test_mixup_computes_in_float32_and_gives_the_dtype_back():
  images, targets = distinct_images(5), one_hot(5)
  wide = mixup(jax.random.key(9), images, targets, 0.4)
  narrow = mixup(jax.random.key(9), images.astype(jnp.bfloat16), targets, 0.4)
  assert narrow[0].dtype == jnp.bfloat16 and narrow[1].dtype == jnp.float32
  np.testing.assert_array_equal(narrow[0], wide[0].astype(jnp.bfloat16))  # rounded once, at the end
  np.testing.assert_array_equal(narrow[1], wide[1])
  with jax.enable_x64(True):
    double = mixup(jax.random.key(9), images.astype(jnp.float64), targets, 0.4)
    assert double[0].dtype == jnp.float64
    np.testing.assert_allclose(double[0], wide[0], rtol=1e-6)


def everything(key, images, targets):
  """All of augmentation, as a training step calls it."""
  crop, flip, mix, color, erasing = jax.random.split(key, 5)
  images = random_erasing(erasing, color_jitter(color, images, 0.4), 0.7)
  images = normalize(images, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
  return mixup_or_cutmix(mix, random_flip(flip, random_crop(crop, images, 2)), targets, 0.2, 1.0)


def scatters(function, *arguments, platform):
  text = jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
  return [name for name in ("scatter", "select_and_scatter") if f"stablehlo.{name}" in text]


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_no_augmentation_lowers_to_a_scatter(platform):
  images = distinct_images(5, np.uint8)
  assert scatters(everything, jax.random.key(0), images, one_hot(5), platform=platform) == []
  assert scatters(lambda x: x.at[jnp.array([0, 2])].add(1), images, platform=platform) == ["scatter"]


def test_four_devices_equal_one():
  images, targets = distinct_images(8, np.uint8), one_hot(8)
  mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
  by_batch, replicated = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())

  def moves(key, images):
    crop, flip = jax.random.split(key)
    return random_flip(flip, random_crop(crop, images, 2))

  for function, arguments, tolerance in ((moves, (images,), 0), (everything, (images, targets), 1e-6)):
    one = jax.jit(function)(jax.random.key(10), *arguments)
    spread_arguments = jax.device_put((jax.random.key(10), *arguments), (replicated, *[by_batch] * len(arguments)))
    spread = jax.jit(function, out_shardings=by_batch)(*spread_arguments)
    for alone, shards in zip(jax.tree.leaves(one), jax.tree.leaves(spread), strict=True):
      assert shards.sharding == by_batch
      np.testing.assert_allclose(shards, alone, rtol=tolerance, atol=tolerance)


IMAGES, TARGETS, PIXELS = jnp.ones((3, 5, 7, 2)), jnp.ones((3, 4)), jnp.ones((3, 5, 7, 2), jnp.uint8)
RANK = r"has rank 3 but expected 4.*images must be \[b, h, w, c\]|has rank 3.*images must be \[b, h, w, c\]"


@pytest.mark.parametrize(
  "function, arguments, message",
  [
    (normalize, (PIXELS[0], (0, 0), (1, 1)), RANK),
    (normalize, (IMAGES, (0, 0), (1, 1)), "float32.*images must be uint8"),
    (normalize, (PIXELS, (0, 0, 0), (1, 1)), r"\(3,\) but expected \(2\).*mean must have one number per channel"),
    (normalize, (PIXELS, (0, 0), (1,)), r"\(1,\) but expected \(2\).*std must have one number per channel"),
    (normalize, (PIXELS, 0.5, (1, 1)), r"\(\) but expected \(2\).*mean must have one number per channel"),
    (random_crop, ("key", IMAGES[0], 1), RANK),
    (random_crop, ("keys", IMAGES, 1), "key must be one typed PRNG key"),
    (random_crop, ("key", IMAGES, -1), "padding must be at least 0 pixels, got -1"),
    (random_flip, ("key", IMAGES[0]), RANK),
    (random_flip, (np.zeros(2, np.uint32), IMAGES), "key must be one typed PRNG key"),
    (mixup, ("key", IMAGES[0], TARGETS, 1.0), RANK),
    (mixup, ("keys", IMAGES, TARGETS, 1.0), "key must be one typed PRNG key"),
    (mixup, ("key", IMAGES, TARGETS[0], 1.0), r"\(4,\).*targets must be \[b, classes\]"),
    (mixup, ("key", IMAGES, TARGETS[:2], 1.0), r"\(2, 4\) but expected \(3, .*targets must be \[b, classes\]"),
    (mixup, ("key", PIXELS, TARGETS, 1.0), "images must be floating point to be mixed, got uint8"),
    (mixup, ("key", IMAGES, TARGETS.astype(int), 1.0), "targets must be floating point to be mixed, got int32"),
    (mixup, ("key", IMAGES, TARGETS, -0.1), "alpha must be at least 0, got -0.1"),
    (cutmix, ("key", IMAGES, TARGETS, -0.1), "alpha must be at least 0, got -0.1"),
    (cutmix, ("key", PIXELS, TARGETS, 1.0), "images must be floating point to be mixed, got uint8"),
    (mixup_or_cutmix, ("key", IMAGES, TARGETS, 1.0, -0.1), "alpha must be at least 0, got -0.1"),
    (random_erasing, ("keys", PIXELS, 0.5), "key must be one typed PRNG key"),
    (random_erasing, ("key", PIXELS[0], 0.5), RANK),
    (random_erasing, ("key", IMAGES, 0.5), "images must be uint8"),
    (random_erasing, ("key", PIXELS, 1.5), "probability must be from 0 to 1, got 1.5"),
    (color_jitter, ("keys", PIXELS, 0.4), "key must be one typed PRNG key"),
    (color_jitter, ("key", PIXELS[0], 0.4), RANK),
    (color_jitter, ("key", IMAGES, 0.4), "images must be uint8"),
    (color_jitter, ("key", PIXELS[..., :2], 0.4), "1 or 3 channels, got 2; set its strength to 0"),
    (color_jitter, ("key", PIXELS, 1.5), "strength must be from 0 to 1, got 1.5"),
  ],
)
def test_a_wrong_argument_is_named_with_its_value(function, arguments, message):
  keys = {"key": lambda: jax.random.key(0), "keys": lambda: jax.random.split(jax.random.key(0), 3)}
  first, *rest = arguments
  with pytest.raises((AssertionError, ValueError), match=message):
    function(keys[first]() if isinstance(first, str) else first, *rest)
