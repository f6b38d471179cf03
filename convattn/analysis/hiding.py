"""Images with some of their pixels hidden, and what a model makes of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

BLUR = 1 / 8
"""Standard deviation of the blur, in heights and widths of the image: what is left is where it is bright."""


def mean_fill(images: np.ndarray, draws: np.random.Generator) -> np.ndarray:
  """Every pixel is the mean of its image, channel by channel."""
  del draws
  return np.broadcast_to(images.mean((1, 2), keepdims=True), images.shape)


def blur_fill(images: np.ndarray, draws: np.random.Generator) -> np.ndarray:
  """The image, blurred with a Gaussian of BLUR; beyond its border is nothing, and the weights inside sum to one."""
  del draws
  rows, columns = (_blurring(size) for size in images.shape[1:3])
  return np.einsum("ih,jw,bhwc->bijc", rows, columns, images, optimize=True).astype(images.dtype)


def noise_fill(images: np.ndarray, draws: np.random.Generator) -> np.ndarray:
  """Normal noise with the mean and deviation of each image, channel by channel."""
  mean, deviation = (getattr(images, name)((1, 2), keepdims=True) for name in ("mean", "std"))
  return (mean + deviation * draws.standard_normal(images.shape)).astype(images.dtype)


def _blurring(size: int) -> np.ndarray:
  shifts = np.arange(size)[:, None] - np.arange(size)
  weights = np.exp(-(shifts**2) / (2 * (BLUR * size) ** 2))
  return weights / weights.sum(1, keepdims=True)


FILLS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
  "mean": mean_fill,
  "blur": blur_fill,
  "noise": noise_fill,
}
"""What hidden pixels become: images [b, h, w, c] -> images of the same shape to take them from."""
