"""What variables a model would have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def variable_shapes(model: nn.Module, image_size: int | tuple[int, int], channels: int = 3) -> dict:
  """`model.init`'s variables for images of a size, as shapes and dtypes; nothing is computed.

  Raises:
    ValueError: an image size that is neither a positive integer nor two.
  """
  size = tuple(image_size) if isinstance(image_size, Sequence) else (image_size, image_size)
  if len(size) != 2 or not all(isinstance(pixels, (int, np.integer)) and pixels > 0 for pixels in size):
    raise ValueError(f"image_size is {image_size!r}, but must be a number of pixels or (height, width).")
  images = jax.ShapeDtypeStruct((1, *(int(pixels) for pixels in size), channels), jnp.float32)
  return jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)


def image_channels(variables: Mapping) -> int:
  """The channels of the images that a model's variables are for. Raises ValueError where there is no stem to tell."""
  found: Mapping = variables
  for part in ("params", "stem", "conv_1", "kernel"):
    if part not in found:
      raise ValueError(
        "the variables have no 'params/stem/conv_1/kernel'; they are not those of a model of convattn.list_models()."
      )
    found = found[part]
  return found.shape[2]  # type: ignore[attr-defined]  # the last part is an array
