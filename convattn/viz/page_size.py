"""How large a page of a model will be, from shapes alone: before anything is computed."""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp

from convattn.errors import UserError
from convattn.layers.seen import PARTS, Parts
from convattn.viz.assembly import FOLDER
from convattn.viz.packed_layers import KERNELS
from convattn.viz.page_model import LARGEST

_BASE64 = 4 / 3
_BYTES = 2 * _BASE64
"""Of a number in a page: 16 bits (viz/packing.py needs more of logits that are far apart only)."""
_HEAD, _EXAMPLE = 500, 1500
"""Of the text about a head, and about an image without its probabilities."""


@dataclasses.dataclass(frozen=True)
class PageSize:
  """Bytes of a page.

  Attributes:
    layers: names of the layers that attend.
    once: whatever the number of images.
    each: of every image.
    step: of every state of a training, once; `step_each` of every image there.
  """

  layers: tuple[str, ...]
  once: float
  each: float
  step: float
  step_each: float

  def megabytes(self, images: int, steps: int = 0) -> float:
    """10^6 bytes of a page of so many images, and so many states of a training."""
    return (self.once + images * self.each + steps * (self.step + images * self.step_each)) / 1e6

  def images(self, megabytes: float) -> int:
    """So many fit."""
    return max(0, int((megabytes * 1e6 - self.once) / self.each))

  def steps(self, megabytes: float, images: int) -> int:
    """States of a training that fit beside so many images."""
    return max(0, int((megabytes - self.megabytes(images)) * 1e6 / (self.step + images * self.step_each)))


def page_size(
  model: nn.Module, variables: Any, image_shape: tuple[int, int, int], num_classes: int, layers: str = "*"
) -> PageSize:
  """An estimate, some percent from what it will be.

  Args:
    model: called as model.apply(variables, images, train=False).
    variables: its own.
    image_shape: (height, width, channels) of the images that it takes.
    num_classes: of it.
    layers: shell pattern of the names of the layers that attend.

  Raises:
    UserError: no layer is called so, or none attends.
  """
  names, once, each = [], 0.0, 0.0
  attending = _parts(model, variables, image_shape)
  for name, parts in attending.items():
    if fnmatch.fnmatch(name, layers):
      names.append(name)
      of_all, of_image = layer_bytes(parts)
      once, each = once + of_all, each + of_image
  if not names:
    raise UserError(_no_layer(model, layers, list(attending)))
  height, width, _ = image_shape
  parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
  fixed = sum(path.stat().st_size for path in FOLDER.iterdir()) + 2 * _BYTES * height * width
  fixed += _BYTES * ((parameters if parameters <= LARGEST else 0) + _kernels(variables["params"]))
  shown = _EXAMPLE + 3 * _BASE64 * height * width + 9 * num_classes + 4 * _BYTES * max(map(_cells, attending.values()))
  return PageSize(tuple(names), fixed + once, shown + each, once, each)


def layer_bytes(parts: Parts) -> tuple[float, float]:
  """(once, for each image) of a layer, of whose call for one image `parts` has the shapes.

  As viz/packed_layers.py stores them: logits and probabilities follow from content and position, and from lengths of
  values what they are weighted with, but where keys are other ones for each query.
  """
  groups, heads, queries, keys = parts.weights.shape
  numbers = groups * heads * queries * keys
  for_all = parts.position is not None and len(parts.position.shape) == 3
  images = [parts.content is not None, parts.position is not None and not for_all, parts.lengths is not None]
  images[2] = images[2] and parts.query_cells is not None
  of_image = numbers * max(1, sum(images) + (parts.gate is not None)) + groups * heads * keys
  text = 2 * _HEAD + heads * _HEAD
  key_cells = 4 * _BASE64 * groups * queries * keys if parts.query_cells is not None else 0
  return text + key_cells + _BYTES * numbers * for_all, _BYTES * of_image


def _parts(model: nn.Module, variables: Any, image_shape: tuple[int, int, int]) -> dict[str, Parts]:
  """What each layer that attends shows of itself for one image, as shapes, by its name."""
  image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  shapes: Any = jax.eval_shape(lambda v, x: model.apply(v, x, train=False, mutable=[PARTS])[1], variables, image)
  found = flax.traverse_util.flatten_dict(shapes.get(PARTS, {}), is_leaf=lambda _, value: isinstance(value, tuple))
  return {"/".join(path[:-1]): calls[0] for path, calls in found.items()}


def _cells(parts: Parts) -> int:
  return parts.weights.shape[0] * parts.weights.shape[2]


def _kernels(params: Any) -> int:
  """Numbers of the kernels [kh, kw, inputs, outputs] that are shown."""
  shapes = [leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim == 4]
  return sum(high * wide * min(KERNELS, inputs * outputs) for high, wide, inputs, outputs in shapes if high * wide > 1)


def _no_layer(model: nn.Module, layers: str, known: list[str]) -> str:
  if not known:
    return f"no layer of the {type(model).__name__} attends, so there is no page of what it looks at."
  return f"no layer that attends is called {layers!r}; there are {', '.join(known)}."
