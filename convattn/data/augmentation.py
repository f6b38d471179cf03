"""Random changes to a batch of images, on the device and inside jit. Every function is pure in its typed PRNG key.

None of them lowers to a scatter (only the gradient of a crop with respect to its images would), and the draws depend
neither on the images' dtype nor on how the batch is sharded.
"""

from collections.abc import Sequence
from typing import TypeAlias

import chex
import jax
import jax.numpy as jnp
import numpy as np

PerChannel: TypeAlias = Sequence[float] | jax.Array | np.ndarray


def assert_key(key: jax.Array) -> None:
  """Raises ValueError unless `key` is one typed PRNG key."""
  if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ()):
    raise ValueError(f"key must be one typed PRNG key, such as jax.random.key(0), got {key!r}.")


def assert_images(images: jax.Array) -> None:
  """Raises AssertionError unless `images` has rank 4."""
  chex.assert_rank(images, 4, custom_message="images must be [b, h, w, c]")


def normalize(images: jax.Array, mean: PerChannel, std: PerChannel) -> jax.Array:
  """(images / 255 - mean) / std per channel.

  Args:
    images: uint8 [b, h, w, c].
    mean, std: [c], in units of [0, 1]; std positive.

  Returns:
    float32 [b, h, w, c].

  Raises:
    AssertionError: a wrong rank, dtype or number of channels, naming the argument.
  """
  assert_images(images)
  chex.assert_type(images, jnp.uint8, custom_message="images must be uint8, as they come from a batch")
  shift, scale = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
  channels = images.shape[-1]
  chex.assert_shape(shift, (channels,), custom_message="mean must have one number per channel of the images")
  chex.assert_shape(scale, (channels,), custom_message="std must have one number per channel of the images")
  return (images.astype(jnp.float32) / 255 - shift[None, None, None]) / scale[None, None, None]


def random_crop(key: jax.Array, images: jax.Array, padding: int) -> jax.Array:
  """Each image shifted by its own whole-pixel offset, uniform over [-padding, padding] for rows and for columns alike.

  That is a random crop back to the old size out of the image with `padding` pixels of zeros on each side. On
  normalised images the border has the colour of the mean.

  Args:
    key: one typed PRNG key.
    images: any dtype, [b, h, w, c].
    padding: at least 0; with 0 the images are returned as they are.

  Returns:
    dtype and shape of `images`.

  Raises:
    AssertionError, ValueError: a wrong rank, key or padding, naming the argument.
  """
  assert_key(key)
  assert_images(images)
  if padding < 0:
    raise ValueError(f"padding must be at least 0 pixels, got {padding}.")
  if padding == 0:
    return images
  b, h, w, _ = images.shape
  offsets = jax.random.randint(key, (b, 2), 0, 2 * padding + 1, dtype=jnp.int32)
  padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
  rows = offsets[:, 0, None] + jnp.arange(h, dtype=jnp.int32)[None]
  columns = offsets[:, 1, None] + jnp.arange(w, dtype=jnp.int32)[None]
  cropped = jnp.take_along_axis(padded, rows[:, :, None, None], axis=1, mode="promise_in_bounds")
  return jnp.take_along_axis(cropped, columns[:, None, :, None], axis=2, mode="promise_in_bounds")


def random_flip(key: jax.Array, images: jax.Array) -> jax.Array:
  """Each image mirrored left to right with probability 1/2, independently of the others.

  Args:
    key: one typed PRNG key.
    images: any dtype, [b, h, w, c].

  Returns:
    dtype and shape of `images`.

  Raises:
    AssertionError, ValueError: a wrong rank or key, naming the argument.
  """
  assert_key(key)
  assert_images(images)
  flipped = jax.random.bernoulli(key, shape=(images.shape[0], 1, 1, 1))
  return jnp.where(flipped, images[:, :, ::-1], images)


def color_jitter(key: jax.Array, images: jax.Array, strength: float) -> jax.Array:
  """Each image with another brightness, contrast and saturation, in this order.

  Three factors f, uniform in [1 - strength, 1 + strength], are drawn for each image. With x in levels of 0 to 255:

  - brightness: f x
  - contrast: m + f (x - m), m the mean over the image of its grey levels
  - saturation: g + f (x - g), g the grey level of the pixel (a grey image keeps its own)

  each cut to 0..255; grey is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601). Rounded once, at the end. Custom since
  Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks", NeurIPS 2012,
  and Howard, "Some improvements on deep convolutional neural network based image classification", 2013, whose blends
  these are; their order is random there.

  Args:
    key: one typed PRNG key.
    images: uint8 [b, h, w, c], c 1 (grey) or 3 (RGB).
    strength: from 0 to 1; with 0 the images are returned as they are.

  Returns:
    uint8 [b, h, w, c].

  Raises:
    AssertionError, ValueError: a wrong rank, dtype, number of channels, key or strength, naming the argument.
  """
  assert_key(key)
  assert_images(images)
  chex.assert_type(images, jnp.uint8, custom_message="images must be uint8, as they come from a batch")
  if not 0 <= strength <= 1:
    raise ValueError(f"strength must be from 0 to 1, got {strength}.")
  if strength == 0:
    return images
  channels = images.shape[-1]
  if channels not in (1, 3):
    raise ValueError(f"color jitter takes grey or RGB images, 1 or 3 channels, got {channels}; set its strength to 0.")
  shares = jnp.array([1.0] if channels == 1 else [0.299, 0.587, 0.114], jnp.float32)
  factors = jax.random.uniform(key, (3, len(images), 1, 1, 1), jnp.float32, 1 - strength, 1 + strength)

  def grey(pixels: jax.Array) -> jax.Array:
    return (pixels * shares[None, None, None]).sum(-1, keepdims=True)

  pixels = jnp.clip(factors[0] * images.astype(jnp.float32), 0, 255)
  mean = grey(pixels).mean((1, 2), keepdims=True)
  pixels = jnp.clip(mean + factors[1] * (pixels - mean), 0, 255)
  if channels == 3:
    own = grey(pixels)
    pixels = jnp.clip(own + factors[2] * (pixels - own), 0, 255)
  return jnp.round(pixels).astype(jnp.uint8)


ERASED_AREA, ERASED_ASPECT = (0.02, 0.4), (0.3, 1 / 0.3)
"""Share of the image's area, and height over width, of an erased rectangle: those of the paper."""


def random_erasing(key: jax.Array, images: jax.Array, probability: float) -> jax.Array:
  """A rectangle of each image, with `probability`, becomes noise: each of its values is uniform in 0..255.

  Its area is the image's times s ~ uniform(0.02, 0.4), height over width r ~ uniform(0.3, 1/0.3): with rounded sides
  sqrt(s r h w) and sqrt(s h w / r), its place is uniform among those inside. Source: Zhong et al., "Random Erasing
  Data Augmentation", AAAI 2020, algorithm 1 with random values; there a rectangle that does not fit is drawn anew, here
  a side that is longer than the image's is cut to that.

  Args:
    key: one typed PRNG key.
    images: uint8 [b, h, w, c].
    probability: from 0 to 1; with 0 the images are returned as they are.

  Returns:
    uint8 [b, h, w, c].

  Raises:
    AssertionError, ValueError: a wrong rank, dtype, key or probability, naming the argument.
  """
  assert_key(key)
  assert_images(images)
  chex.assert_type(images, jnp.uint8, custom_message="images must be uint8, as they come from a batch")
  if not 0 <= probability <= 1:
    raise ValueError(f"probability must be from 0 to 1, got {probability}.")
  if probability == 0:
    return images
  b, h, w, _ = images.shape
  chosen_key, area_key, aspect_key, noise_key, *place_keys = jax.random.split(key, 6)
  area = h * w * jax.random.uniform(area_key, (b,), jnp.float32, *ERASED_AREA)
  aspect = jax.random.uniform(aspect_key, (b,), jnp.float32, *ERASED_ASPECT)
  erased = jax.random.bernoulli(chosen_key, probability, (b, 1, 1, 1))
  for axis, (size, side) in enumerate(((h, jnp.sqrt(area * aspect)), (w, jnp.sqrt(area / aspect)))):
    length = jnp.clip(jnp.round(side), 1, size)
    first = jnp.floor(jax.random.uniform(place_keys[axis], (b,), jnp.float32) * (size - length + 1))
    pixels = jnp.arange(size, dtype=jnp.float32)[None]
    inside = (pixels >= first[:, None]) & (pixels < (first + length)[:, None])
    erased &= inside[:, :, None, None] if axis == 0 else inside[:, None, :, None]
  return jnp.where(erased, jax.random.randint(noise_key, images.shape, 0, 256, jnp.int32).astype(jnp.uint8), images)


def _assert_mixable(key: jax.Array, images: jax.Array, targets: jax.Array, alpha: float) -> None:
  assert_key(key)
  assert_images(images)
  chex.assert_shape(targets, (images.shape[0], None), custom_message="targets must be [b, classes], b as in images")
  for name, array in (("images", images), ("targets", targets)):
    if not jnp.issubdtype(array.dtype, jnp.floating):
      raise ValueError(f"{name} must be floating point to be mixed, got {array.dtype}; normalise or one-hot them.")
  if not alpha >= 0:
    raise ValueError(f"alpha must be at least 0, got {alpha}.")


def _blend(weight: jax.Array, array: jax.Array) -> jax.Array:
  """weight * x + (1 - weight) * the one before x, in float32 at least."""
  wide = array.astype(jnp.promote_types(array.dtype, jnp.float32))
  own = weight.astype(wide.dtype)
  return (own * wide + (1 - own) * jnp.roll(wide, 1, axis=0)).astype(array.dtype)


def mixup(key: jax.Array, images: jax.Array, targets: jax.Array, alpha: float) -> tuple[jax.Array, jax.Array]:
  """weight * x + (1 - weight) * partner for images and targets alike, with one weight ~ Beta(alpha, alpha) per batch.

  The partner of an example is the one before it in the batch (of the first, the last). Sums are formed in
  promote_types(dtype, float32) and given back in the dtype that came in. Source: Zhang et al., "mixup: Beyond Empirical
  Risk Minimization", ICLR 2018.

  Args:
    key: one typed PRNG key.
    images: float [b, h, w, c].
    targets: float [b, classes], such as one-hot labels; rows that sum to one still do.
    alpha: at least 0. Towards 0 the weight tends to 0 or 1; with 0 nothing is mixed.

  Returns:
    images and targets, each of the dtype and shape that came in.

  Raises:
    AssertionError, ValueError: a wrong rank, batch size, dtype, key or alpha, naming the argument.
  """
  _assert_mixable(key, images, targets, alpha)
  if alpha == 0:
    return images, targets
  weight = jax.random.beta(key, alpha, alpha, dtype=jnp.float32)

  return _blend(weight, images), _blend(weight, targets)


def cutmix(key: jax.Array, images: jax.Array, targets: jax.Array, alpha: float) -> tuple[jax.Array, jax.Array]:
  """A rectangle of each image is its partner's, and the targets are mixed by the share of pixels that remain.

  With l ~ Beta(alpha, alpha), drawn once per batch, the rectangle has the sides sqrt(1 - l) h and sqrt(1 - l) w, its
  centre uniform over the image; what lies outside is cut off. The weight of the own target is the share of pixels that
  are left. The partner of an example is the one before it in the batch (of the first, the last). Source: Yun et al.,
  "CutMix: Regularization strategy to train strong classifiers with localizable features", ICCV 2019.

  Args, returns, raises: as `mixup`.
  """
  _assert_mixable(key, images, targets, alpha)
  if alpha == 0:
    return images, targets
  share_key, *center_keys = jax.random.split(key, 3)
  side = jnp.sqrt(1 - jax.random.beta(share_key, alpha, alpha, dtype=jnp.float32))
  inside = []
  for center_key, size in zip(center_keys, images.shape[1:3], strict=True):
    center = jax.random.uniform(center_key, (), jnp.float32, 0, size)
    pixels = jnp.arange(size, dtype=jnp.float32) + 0.5
    inside.append(jnp.abs(pixels - center) < side * size / 2)
  box = inside[0][:, None] & inside[1][None]
  weight = 1 - box.mean(dtype=jnp.float32)
  return jnp.where(box[None, :, :, None], jnp.roll(images, 1, axis=0), images), _blend(weight, targets)


def mixup_or_cutmix(
  key: jax.Array, images: jax.Array, targets: jax.Array, mixup_alpha: float, cutmix_alpha: float
) -> tuple[jax.Array, jax.Array]:
  """`mixup` or `cutmix` of the whole batch: the one whose alpha is above 0; if both are, each with probability 1/2.

  Args, returns, raises: as `mixup`.
  """
  _assert_mixable(key, images, targets, min(mixup_alpha, cutmix_alpha))
  if cutmix_alpha == 0:
    return mixup(key, images, targets, mixup_alpha)
  if mixup_alpha == 0:
    return cutmix(key, images, targets, cutmix_alpha)
  choice, mixup_key, cutmix_key = jax.random.split(key, 3)
  chosen = jax.random.bernoulli(choice)
  mixed = mixup(mixup_key, images, targets, mixup_alpha), cutmix(cutmix_key, images, targets, cutmix_alpha)
  return jax.tree.map(lambda one, other: jnp.where(chosen, one, other), *mixed)
