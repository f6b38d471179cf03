"""A page on which one picks a pixel and sees what every head and every kernel makes of it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convattn.analysis.attention_map import AttentionMap, Grid
from convattn.analysis.bare_arrays import maps_of_arrays
from convattn.analysis.convolutions import ConvolutionKernel
from convattn.analysis.head_report import head_report
from convattn.viz.assembly import Page
from convattn.viz.packed_layers import (
  metrics_of_heads,
  packed_convolution,
  packed_grid,
  packed_layer,
  plain,
)
from convattn.viz.packing import pack, pack_as
from convattn.viz.page_inputs import check_classes, check_compared, check_overlay, check_state
from convattn.viz.page_story import story

Maps = Sequence[AttentionMap] | Sequence[np.ndarray] | Mapping[str, np.ndarray]
"""What `explore` takes: maps, or weights [b, heads, q, k] of each layer, which may have names."""


@dataclasses.dataclass(frozen=True, eq=False)
class Overlay:
  """Something to lay over an image, such as rollout or Grad-CAM.

  Attributes:
    name: what it is called.
    image: index of the image that it belongs to; None: it belongs to all, as a receptive field does.
    grid: where its cells lie.
    values: float [height, width] of the grid.
    scores: numbers that judge it, by name.
    note: a sentence about it.
  """

  name: str
  image: int | None
  grid: Grid
  values: np.ndarray
  scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
  note: str = ""


def explore(
  maps: Maps,
  images: np.ndarray | None = None,
  *,
  grid: tuple[int, int] | None = None,
  prefix_tokens: int = 0,
  tokens: Sequence[str] | None = None,
  key_tokens: Sequence[str] | None = None,
  class_names: Sequence[str] | None = None,
  image_names: Sequence[str] | None = None,
  labels: Sequence[int] | None = None,
  probabilities: np.ndarray | None = None,
  report: Sequence[Sequence[Mapping[str, Any]]] | None = None,
  convolutions: Sequence[ConvolutionKernel] = (),
  overlays: Sequence[Overlay] = (),
  model: Mapping[str, Any] | None = None,
  checkpoint: Mapping[str, Any] | None = None,
  timeline: Sequence[tuple[int, Sequence[AttentionMap]]] = (),
  compare: Page | None = None,
  title: str = "What each head looks at",
  lines: Sequence[str] = (),
) -> Page:
  """A page of what layers attended to: shown by a notebook as it is, or written with `Page.write`.

  Bare arrays, one per layer, are taken as well: [b, heads, q, k], as others' models return them; by names of their
  own, or as "layer_1" and so on.

      explore(outputs.attentions, pictures, grid=(14, 14), prefix_tokens=1)

  Args:
    maps: of each layer, in the order of the forward pass; from `analysis.attention_maps`, or probabilities.
    images: [b, h, w, c] of 1 or 3 channels, uint8, or floats of any range; None: queries and keys are tokens.
    grid: of bare arrays: cells down and across; None: tokens in a row.
    prefix_tokens: of bare arrays: how many tokens, such as the class token, come before those of the grid.
    tokens: what queries (and keys, but for `key_tokens`) are called where they are tokens.
    class_names: of all classes.
    image_names: of each image.
    labels: class of each image.
    probabilities: [b, classes] that the model gave.
    report: metrics of each head of each map; None: they are computed.
    convolutions: from `analysis.convolution_kernels`.
    overlays: what can be laid over the images.
    model: a model that runs in the page.
    checkpoint: where this comes from: digest, model, step, dataset.
    timeline: pairs of a step and the maps of the same layers and images at that step.
    compare: a page of another model on the same images, shown beside this one.
    title: of the page.
    lines: sentences that say what this is.

  Raises:
    ValueError: no maps, or arrays that do not fit each other.
  """
  images = None if images is None else np.asarray(images)
  found = as_maps(maps, images, grid, prefix_tokens)
  _check_names(found, tokens, key_tokens)
  if report is None:
    report = [metrics_of_heads(each) for each in head_report(found)]
  heads = [[plain(metrics) for metrics in each] for each in report]
  if len(heads) != len(found):
    raise ValueError(f"there are {len(found)} maps and metrics of {len(heads)}; give those of every map.")
  count = len(found[0].probabilities)
  check_classes(class_names, labels, probabilities)
  for each in overlays:
    check_overlay(each.name, each.image, each.grid, each.values, each.scores, count)
  for step, then in timeline:
    check_state(step, then, found)
  if compare is not None:
    check_compared(count, len(compare.manifest["images"]))
  shown = _images(count, images, image_names, labels, probabilities)
  layers = [packed_layer(each, metrics) for each, metrics in zip(found, heads, strict=True)]
  manifest: dict[str, Any] = {
    "version": 1,
    "title": title,
    "lines": list(lines),
    "checkpoint": dict(checkpoint) if checkpoint is not None else None,
    "class_names": list(class_names) if class_names is not None else None,
    "image_size": list(images.shape[1:3]) if images is not None else None,
    "tokens": [list(names) if names is not None else None for names in (tokens, key_tokens or tokens)],
    "images": shown,
    "story": story(found, heads, shown, class_names),
    "layers": layers + [packed_convolution(each) for each in convolutions],
    "overlays": [_overlay(each) for each in overlays],
    "model": dict(model) if model is not None else None,
    "timeline": [{"step": step, "layers": [packed_layer(each, ()) for each in then]} for step, then in timeline],
    "compare": compare.manifest if compare is not None else None,
  }
  return Page(manifest)


def as_maps(
  maps: Maps, images: np.ndarray | None, grid: tuple[int, int] | None, prefix_tokens: int
) -> list[AttentionMap]:
  """Maps as they are; bare arrays [b, heads, q, k] as `analysis.maps_of_arrays` reads them.

  Raises:
    ValueError: none at all, or arrays that are no such weights or do not fit the grid.
  """
  if not len(maps):
    raise ValueError("there is nothing to show: got no maps; give those of one layer at least.")
  if not isinstance(maps, Mapping) and isinstance(maps[0], AttentionMap):
    return [each for each in maps if isinstance(each, AttentionMap)]
  size = None if images is None else (images.shape[1], images.shape[2])
  return maps_of_arrays(maps, grid, prefix_tokens, image=size)


def _check_names(maps: Sequence[AttentionMap], tokens: Sequence[str] | None, key_tokens: Sequence[str] | None) -> None:
  """As many names as a layer has queries, or keys, that are tokens."""
  for each in maps:
    for what, names, grid in (
      ("tokens", tokens, each.query_grid),
      ("key_tokens" if key_tokens else "tokens", key_tokens or tokens, each.key_grid),
    ):
      if names is not None and grid.image is None and len(names) != grid.cells:
        kind = "queries" if grid is each.query_grid else "keys"
        raise ValueError(f"{what} has {len(names)} names, but {each.layer} has {grid.cells} {kind}; give one for each.")


def _images(
  count: int,
  images: np.ndarray | None,
  names: Sequence[str] | None,
  labels: Sequence[int] | None,
  probabilities: np.ndarray | None,
) -> list[dict[str, Any]]:
  for what, given in (("images", images), ("names", names), ("labels", labels), ("probabilities", probabilities)):
    if given is not None and len(given) != count:
      raise ValueError(f"the maps are of {count} images, and there are {what} of {len(given)}.")
  pixels = as_pixels(images) if images is not None else None
  return [
    {
      "name": str(names[i]) if names is not None else f"image {i}",
      "label": int(labels[i]) if labels is not None else None,
      "predicted": int(np.argmax(probabilities[i])) if probabilities is not None else None,
      "probabilities": [round(float(p), 6) for p in probabilities[i]] if probabilities is not None else None,
      "pixels": pack_as(pixels[i], "uint8") if pixels is not None else None,
    }
    for i in range(count)
  ]


def as_pixels(images: np.ndarray) -> np.ndarray:
  """uint8 [b, h, w, 3] of images of 1 or 3 channels: as they are, or floats with their range spread over 0 to 255.

  Raises:
    ValueError: other shapes, or pixels that are not finite.
  """
  images = np.asarray(images)
  if images.ndim != 4 or images.shape[-1] not in (1, 3):
    raise ValueError(f"images have shape {images.shape}; it should be [b, h, w, 1] or [b, h, w, 3].")
  if images.dtype != np.uint8:
    low, high = float(images.min()), float(images.max())
    if not np.isfinite([low, high]).all():
      raise ValueError("images have pixels that are not finite.")
    images = np.rint((images - low) * (255 / ((high - low) or 1.0))).astype(np.uint8)
  return np.broadcast_to(images, (*images.shape[:3], 3))


def _overlay(overlay: Overlay) -> dict[str, Any]:
  return {
    "name": overlay.name,
    "image": overlay.image,
    "grid": packed_grid(overlay.grid),
    "values": pack(overlay.values),
    "scores": {name: float(score) for name, score in overlay.scores.items()},
    "note": overlay.note,
  }
