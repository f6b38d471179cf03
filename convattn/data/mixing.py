"""Two images of a batch made one, and their targets too: on the device, inside jit, without a scatter."""

import chex
import jax
import jax.numpy as jnp

from convattn.data.augmentation import assert_images, assert_key


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
