"""How much a logit falls when a window of the image is hidden."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn.analysis.attention_map import Grid
from convattn.analysis.calling import checked_images, chosen_classes, compiled, in_pieces, infer, pixels_of
from convattn.analysis.overlay import Overlay


def occlusion(
  model: nn.Module,
  variables: Any,
  images: Any,
  *,
  window: int,
  stride: int | None = None,
  fill: Any = 0.0,
  classes: Any = None,
) -> Overlay:
  """The class's logit of the whole image minus that of the image with a window hidden, for windows all over it.

      drop[i, j] = logit(x) - logit(x with the window around cell (i, j) = fill)

  Cells are stride x stride pixels, ceil(size / stride) along each axis; the window of window x window pixels lies
  around its cell, from (window - stride) // 2 pixels before it, and is cut off at the border. The model is called for
  as many images as there are cells, a few at a time.

  Source: Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2 (they draw the
  probability that is left).

  Args:
    model: any module that puts out logits [b, classes], called for inference.
    images: floating point [b, h, w, c], as the model takes them.
    window: side of the window in pixels.
    stride: pixels from one window to the next; None: `window`, and no pixel is hidden twice.
    fill: what hidden pixels become, anything that broadcasts to the images; 0 is the mean of normalised ones.
    classes: a class for all images, or integers [b]; None: those that the model predicts for the whole images.

  Raises:
    ValueError: images or classes that do not fit, or a window that is no window.
  """
  images = checked_images(images)
  height, width = images.shape[1:3]
  stride = window if stride is None else stride
  if not 1 <= stride <= window or window > max(height, width):
    wanted = f"1 <= stride <= window <= {max(height, width)}"
    raise ValueError(f"window is {window} and stride {stride}, but {wanted} is wanted: every pixel is hidden once.")
  chosen = chosen_classes(model, variables, images, classes)
  filling = np.broadcast_to(np.asarray(fill, np.float32), images.shape)
  grid = Grid(-(-height // stride), -(-width // stride), (float(stride), float(stride)), image=(height, width))
  rows, columns = np.divmod(np.arange(grid.cells), grid.width)
  corners = np.stack([rows, columns], 1) * stride - (window - stride) // 2
  # Nothing is hidden by a window that lies beyond the image: the last one is for the whole image.
  corners = np.concatenate([corners, [[height, width]]]).astype(np.int32)

  def logits_of(image: np.ndarray, filled: np.ndarray) -> np.ndarray:
    hidden = functools.partial(_hidden_logits, model, variables, image, filled, window=window)
    return in_pieces(hidden, corners, pixels=pixels_of(images))

  found = [logits_of(image, filled)[:, number] for image, filled, number in zip(images, filling, chosen, strict=True)]
  drops = np.stack([logits[-1] - logits[:-1] for logits in found])
  return Overlay(
    name="occlusion",
    grid=grid,
    values=drops.reshape(-1, grid.height, grid.width),
    note=f"how much the class's logit falls when the {window} x {window} pixels around a cell are hidden",
    exact=True,
    classes=chosen,
  )


@compiled("window")
def _hidden_logits(
  model: nn.Module, variables: Any, image: jax.Array, filled: jax.Array, corners: jax.Array, *, window: int
) -> jax.Array:
  """float32 [n, classes] of one image [h, w, c], where `filled` stands in n windows."""
  rows, columns = (jnp.arange(size)[None] for size in image.shape[:2])
  in_rows, in_columns = (
    (places >= starts[:, None]) & (places < starts[:, None] + window)
    for places, starts in ((rows, corners[:, 0]), (columns, corners[:, 1]))
  )
  hidden = in_rows[:, :, None, None] & in_columns[:, None, :, None]
  return infer(model, variables, jnp.where(hidden, filled[None], image[None])).astype(jnp.float32)
