"""The model in the page: its description and weights, for the forward pass of page/model.js."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convattn.errors import UserError
from convattn.models import CoAtNet
from convattn.pretrained.pictures import Preprocessing
from convattn.viz.packing import num_bytes, unpack
from convattn.viz.page_steps import Steps, is_short, packed_kernel

LARGEST = 2_000_000
"""Parameters of a model that travels in a page."""


@dataclasses.dataclass(frozen=True, eq=False)
class PageModel:
  """What a page has of a model.

  Attributes:
    description: plain JSON with the arrays as blobs of viz.packing; {} where the model is not in the page.
    lacks: one sentence why it is not, and what the page therefore cannot do; "" where it is.
  """

  description: dict[str, Any]
  lacks: str = ""

  @property
  def as_json(self) -> dict[str, Any]:
    """What stands in the page's data: the description, or {"lacks": the sentence}."""
    return self.description or {"lacks": self.lacks}

  @property
  def megabytes(self) -> float:
    """Of its arrays in the page, 10^6 bytes of base64."""
    return sum(num_bytes(blob) for blob in _blobs(self.description)) / 1e6


def describe(
  model: Any, variables: Mapping[str, Any], image_shape: tuple[int, int, int], preprocessing: Preprocessing
) -> PageModel:
  """A CoAtNet of at most LARGEST parameters as steps and weights; of any other model, the sentence that says it is not.

  Kernels travel in 16 bits (`in_page_precision`), all other arrays in 32. What training alone needs is left out,
  BatchNorm is a factor and a shift per channel, and a position's table is computed for the image's grids.

  Args:
    model: a module; what is no CoAtNet is described by the sentence alone.
    variables: {"params"} and, with BatchNorm, {"batch_stats"}.
    image_shape: (height, width, channels) of the images that it takes.
    preprocessing: how a picture becomes such an image.

  Raises:
    UserError: a preprocessing of another size or other channels.
    ValueError: variables that do not fit the model, or with numbers that are not finite.
  """
  height, width, channels = image_shape
  made = (*preprocessing.image_size, len(preprocessing.mean))
  if made != (height, width, channels):
    raise UserError(f"preprocessing makes images of {made}, but the model takes {(height, width, channels)}.")
  lacks = _lacks(model, variables, channels)
  if lacks:
    return PageModel({}, f"{lacks}, so one can neither draw here nor switch its parts off.")
  body, head = Steps(model.spec, variables, (height, width)).whole(model.num_classes)
  notes = []
  if jnp.dtype(model.dtype) != jnp.float32:
    notes.append(f"The model computes in {jnp.dtype(model.dtype).name}, this page in float32: their numbers differ.")
  description = {
    "image_shape": [height, width, channels],
    "num_classes": model.num_classes,
    "preprocessing": preprocessing.as_json(),
    "steps": body,
    "classifier": head,
    "notes": notes,
  }
  return PageModel(description)


def in_page_precision(variables: Mapping[str, Any]) -> dict[str, Any]:
  """The variables as a page has them: kernels rounded to 16 bits, the others as they are."""

  def rounded(path: Any, value: Any) -> np.ndarray:
    value = np.asarray(value)
    return unpack(packed_kernel(value)) if is_short("/".join(str(key.key) for key in path)) else value

  return jax.tree_util.tree_map_with_path(rounded, dict(variables))


def _lacks(model: Any, variables: Mapping[str, Any], channels: int) -> str:
  if not isinstance(model, CoAtNet):
    return f"The model is a {type(model).__name__}, and a page computes CoAtNets alone"
  count = sum(np.size(leaf) for leaf in jax.tree.leaves(variables["params"]))
  if count > LARGEST:
    return f"The model has {count:,} parameters, and a page computes models of at most {LARGEST:,}"
  if channels not in (1, 3):
    return f"The model takes images of {channels} channels, and a page draws those of 1 or 3"
  return ""


def _blobs(value: Any) -> list[dict[str, Any]]:
  if isinstance(value, list):
    return [blob for each in value for blob in _blobs(each)]
  if not isinstance(value, dict):
    return []
  return [value] if "data" in value else [blob for each in value.values() for blob in _blobs(each)]
