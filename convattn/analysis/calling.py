"""How a module is called to look inside: for inference, on as many images at a time as memory allows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn.analysis.capture import evaluation

PIXELS_AT_A_TIME = 2**16
"""Of the images of one call: one image of 224 pixels squared, a thousand of 8."""


def infer(model: nn.Module, variables: Any, images: Any) -> Any:
  """What a module gives for images; nothing is recomputed, which would hide the numbers inside, and changes none."""
  if getattr(model, "remat", "none") != "none":
    model = model.clone(remat="none")
  return model.apply(variables, images, **evaluation(model))


class _Hashed:
  """A module as a static argument of a compiled function: by its fields, or by itself where these have no hash."""

  def __init__(self, model: nn.Module):
    self.model = model
    try:
      self._hash: int | None = hash(model)
    except TypeError:  # a field such as a list
      self._hash = None

  def __hash__(self) -> int:
    return id(self.model) if self._hash is None else self._hash

  def __eq__(self, other: object) -> bool:
    if not isinstance(other, _Hashed):
      return False
    alike = self._hash is not None and self._hash == other._hash and self.model == other.model
    return other.model is self.model or alike


def compiled(*static: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
  """Compiles a function of (model, ...), once for each model and each value of the keywords `static`."""

  def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
    def hashed(model: _Hashed, *arguments: Any, **keywords: Any) -> Any:
      return function(model.model, *arguments, **keywords)

    program = jax.jit(hashed, static_argnums=0, static_argnames=static)

    @functools.wraps(function)
    def call(model: nn.Module, *arguments: Any, **keywords: Any) -> Any:
      return program(_Hashed(model), *arguments, **keywords)

    return call

  return decorate


@compiled()
def _logits(model: nn.Module, variables: Any, images: jax.Array) -> jax.Array:
  return infer(model, variables, images).astype(jnp.float32)


def logits_of(model: nn.Module, variables: Any, images: np.ndarray) -> np.ndarray:
  """float32 [b, classes].

  Raises:
    ValueError: the model puts out something else.
  """
  logits = in_pieces(lambda part: _logits(model, variables, part), images, pixels=pixels_of(images))
  if logits.ndim != 2:
    raise ValueError(f"{type(model).__name__} puts out {list(logits.shape)}, but logits [b, classes] are wanted.")
  return logits


def chosen_classes(model: nn.Module, variables: Any, images: np.ndarray, classes: Any = None) -> np.ndarray:
  """int64 [b]: the class of each image that a map is about.

  Args:
    classes: a class for all images, or integers [b]; None: those that the model predicts.

  Raises:
    ValueError: no class of the model, or not one for each image.
  """
  logits = logits_of(model, variables, images)
  if classes is None:
    return logits.argmax(-1)
  chosen = np.asarray(classes)
  if not np.issubdtype(chosen.dtype, np.integer) or chosen.shape not in {(), (len(images),)}:
    raise ValueError(f"classes must be an integer or {len(images)} of them, got {chosen.dtype} {list(chosen.shape)}.")
  wrong = chosen[(chosen < 0) | (chosen >= logits.shape[1])]
  if wrong.size:
    raise ValueError(f"classes must be from 0 to {logits.shape[1] - 1}, got {wrong.flat[0]}.")
  return np.broadcast_to(chosen, len(images)).astype(np.int64)


def checked_images(images: Any) -> np.ndarray:
  """float32 [b, h, w, c].

  Raises:
    ValueError: another rank, no image, or whole numbers, which no model takes: pixels that are not yet normalised.
  """
  array = np.asarray(images)
  if array.ndim != 4 or not array.size:
    raise ValueError(f"images must be [b, h, w, c] with at least one pixel, got {list(array.shape)}.")
  if not jnp.issubdtype(array.dtype, jnp.floating):
    raise ValueError(f"images are {array.dtype}, but must be floating point, normalised as the model takes them.")
  return array.astype(np.float32)


def pixels_of(images: np.ndarray) -> int:
  """Of one of them."""
  return images.shape[1] * images.shape[2]


def in_pieces(function: Callable[..., Any], *arrays: np.ndarray, pixels: int) -> np.ndarray:
  """`function(*arrays)` of arrays with a common first axis, for some rows after another, as a NumPy array.

  Pieces are of one size, so that one program serves; the last is filled up with its last row, and cut.

  Args:
    function: treats each row by itself.
    arrays: [n, ...] each, n at least 1.
    pixels: that a row stands for; a piece has PIXELS_AT_A_TIME at most, or one row.
  """
  count, most = len(arrays[0]), max(1, PIXELS_AT_A_TIME // pixels)
  size = -(-count // -(-count // most))
  done = []
  for start in range(0, count, size):
    rows = np.minimum(np.arange(start, start + size), count - 1)
    done.append(np.asarray(function(*(array[rows] for array in arrays)))[: count - start])
  return np.concatenate(done)
