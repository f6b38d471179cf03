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


def _assert_key(key: jax.Array) -> None:
  if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ()):
    raise ValueError(f"key must be one typed PRNG key, such as jax.random.key(0), got {key!r}.")


def _assert_images(images: jax.Array) -> None:
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
  _assert_images(images)
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
  _assert_key(key)
  _assert_images(images)
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
  _assert_key(key)
  _assert_images(images)
  flipped = jax.random.bernoulli(key, shape=(images.shape[0], 1, 1, 1))
  return jnp.where(flipped, images[:, :, ::-1], images)


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
  _assert_key(key)
  _assert_images(images)
  chex.assert_shape(targets, (images.shape[0], None), custom_message="targets must be [b, classes], b as in images")
  for name, array in (("images", images), ("targets", targets)):
    if not jnp.issubdtype(array.dtype, jnp.floating):
      raise ValueError(f"{name} must be floating point to be mixed, got {array.dtype}; normalise or one-hot them.")
  if not alpha >= 0:
    raise ValueError(f"alpha must be at least 0, got {alpha}.")
  if alpha == 0:
    return images, targets
  weight = jax.random.beta(key, alpha, alpha, dtype=jnp.float32)

  def mix(array: jax.Array) -> jax.Array:
    wide = array.astype(jnp.promote_types(array.dtype, jnp.float32))
    own = weight.astype(wide.dtype)
    return (own * wide + (1 - own) * jnp.roll(wide, 1, axis=0)).astype(array.dtype)

  return mix(images), mix(targets)
