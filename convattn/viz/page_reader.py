"""An explore page read back: its manifest, and the arrays in it as they were packed."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convattn.analysis.attention_map import AttentionMap, Grid
from convattn.errors import UserError, one_line
from convattn.viz.packed_layers import softmax
from convattn.viz.packing import unpack

_MANIFEST = re.compile(r'<script type="application/json" id="manifest">(.*?)</script>', re.DOTALL)

VERSION = 1


def read_manifest(path: Path) -> dict[str, Any]:
  """The data of a page, as `explore` put them together.

  Raises:
    FileNotFoundError: no such file.
    UserError: it is no such page, or of another version.
  """
  found = _MANIFEST.search(path.read_text(errors="replace"))
  if found is None:
    raise UserError(f"{path} is no page that convattn explore wrote: it has no manifest; name one.")
  try:
    manifest = json.loads(found[1])
    version = manifest["version"]
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(f"{path} is damaged ({one_line(error)}); write it again with convattn explore.") from error
  if version != VERSION:
    raise UserError(f"{path} is a page of version {version!r}, but {VERSION} is wanted; write it again.")
  return manifest


def unpacked_grid(packed: Mapping[str, Any]) -> Grid:
  """The grid that `packed_grid` was given."""
  sides = {name: tuple(packed[name]) for name in ("stride", "origin")}
  image = None if packed.get("image") is None else tuple(packed["image"])
  return Grid(packed["height"], packed["width"], **sides, image=image)


def unpacked_layer(packed: Mapping[str, Any]) -> AttentionMap:
  """The map that `packed_layer` was given, to within what its arrays were rounded to."""
  stored = {name: unpack(blob) for name, blob in packed["arrays"].items()}
  modes = packed["modes"]
  images = packed["num_images"]
  arrays = {name: _of_all(stored[name], images) for name in ("content", "position") if name in stored}
  if "logits" in modes:
    parts = [arrays[name] for name in ("content", "position") if name in arrays]
    arrays["logits"] = stored["logits"] if "logits" in stored else sum(parts[1:], parts[0])
  weights = stored["probabilities"] if "probabilities" in stored else softmax(arrays["logits"])
  if "norm_weighted" in modes:
    is_whole = "norm_weighted" in stored
    arrays["norm_weighted"] = stored["norm_weighted"] if is_whole else weights * stored["norms"][..., None, :]
  return AttentionMap(
    packed["name"],
    unpacked_grid(packed["query_grid"]),
    unpacked_grid(packed["key_grid"]),
    probabilities=weights,
    key_cells=None if packed["key_cells"] is None else unpack(packed["key_cells"]),
    prefix_tokens=packed["prefix_tokens"],
    **arrays,
  )


def _of_all(values: np.ndarray, images: int) -> np.ndarray:
  # What is the same for all images is stored for one.
  return np.broadcast_to(values, (images, *values.shape[1:]))
