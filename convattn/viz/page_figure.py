"""A view of an explore page as a figure for a paper, with a caption that says what it is."""

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from convattn.analysis.attention_map import AttentionMap
from convattn.errors import UserError, nearest
from convattn.viz.fonts import families
from convattn.viz.head_grid import Laid, Row, Scale, grid_of_looks, shared_scale
from convattn.viz.looks import Look, Place, is_signed, look
from convattn.viz.packed_layers import softmax
from convattn.viz.packing import unpack
from convattn.viz.page_caption import caption_of
from convattn.viz.page_reader import unpacked_grid, unpacked_layer
from convattn.viz.page_view import View
from convattn.viz.style import GREY, paper, scale

_LETTER = 1.18
"""Millimetres of a letter of the caption, in the mean."""


@dataclasses.dataclass(frozen=True, eq=False)
class PageFigure:
  """A figure, its caption, and the letters of it that no font of this machine has."""

  figure: Figure
  caption: str
  missing: str


def page_figure(manifest: Mapping[str, Any], view: View, width: float) -> PageFigure:
  """What the page shows in this view, with its caption below.

  What the view does not say is: all layers, all heads, and the pixel in the middle. A model that the page compares with
  has its rows below. One scale is that of all maps in the page's view, drawn here or not.

  Args:
    manifest: of the page.
    view: what its address says.
    width: of the figure, in millimetres.

  Raises:
    UserError: an image, a layer, a head, a mode, a step or an overlay that the page has not, or a place outside.
  """
  place = _place(manifest, view)
  looks = [(name, model, each, _look(each, view, place)) for name, model, each in maps_of(manifest, view)]
  chosen = [(model, each, found) for name, model, each, found in looks if view.layer in (None, name)]
  if not chosen:
    meant = " or ".join(nearest(str(view.layer), dict.fromkeys(name for name, *_ in looks)))
    raise UserError(f"the page has no attention layer {view.layer!r} with {view.mode}; did you mean {meant}?")
  rows = [_row(model, each, found, view) for model, each, found in chosen]
  signed = is_signed(view.mode, place)
  shared = shared_scale([found for *_, found in looks], signed) if view.shared else _of_one(rows, signed)
  pixels = manifest["images"][view.image]["pixels"] if view.average != "mean" else None
  laid = _laid(manifest, view, rows[0], signed)
  picture = None if pixels is None else unpack(pixels)
  figure = grid_of_looks(rows, picture, view.mode, shared, signed=signed, laid=laid, width=width)
  caption = caption_of(manifest, view, place, [each for _, each, _ in chosen], shared, laid.name if laid else None)
  return PageFigure(figure, caption, _write_below(figure, caption, width))


def _place(manifest: Mapping[str, Any], view: View) -> Place:
  images, size = manifest["images"], manifest["image_size"]
  if view.image >= len(images):
    raise UserError(f"the page has no image {view.image}; it has 0 to {len(images) - 1}.")
  at = view.at
  if at is None and view.token is None and size is not None:
    at = size[0] // 2, size[1] // 2
  whole = at == "all" or at is None
  image = None if view.average == "mean" else view.image
  return Place(image, view.average == "difference", None if whole else at, view.token, view.direction)  # type: ignore[arg-type]


def maps_of(manifest: Mapping[str, Any], view: View) -> Iterator[tuple[str, str, AttentionMap]]:
  """(layer, model or "", map) of every layer that has the mode, one at a time."""
  found = 0
  compared = manifest["compare"]
  for model, each in (("", manifest), ("compared: ", compared)) if compared else (("", manifest),):
    for layer in _layers(each, view.step if each is manifest else None):
      if layer["kind"] == "attention" and view.mode in layer["modes"]:
        found += 1
        # Where weights are stored, they are not the softmax of both parts, and s means nothing; so it is in the page.
        s = 1.0 if "probabilities" in layer["arrays"] else view.s
        yield layer["name"], model, _with_position(unpacked_layer(layer), s)
  if not found:
    raise UserError(f"no layer of the page has {view.mode}; choose another mode.")


def _layers(manifest: Mapping[str, Any], step: int | None) -> Sequence[Mapping[str, Any]]:
  if step is None:
    return manifest["layers"]
  steps = {each["step"]: each["layers"] for each in manifest["timeline"]}
  if step not in steps:
    raise UserError(f"the page has no step {step}; its timeline has {', '.join(map(str, steps)) or 'none'}.")
  return steps[step]


def _with_position(attention: AttentionMap, s: float) -> AttentionMap:
  """The map with content + s * position in the place of its logits, where it has both."""
  content, position = attention.content, attention.position
  if s == 1 or content is None or position is None:
    return attention
  logits = content + (s * position if s else np.float32(0))  # 0 * -inf is nan
  weights = softmax(logits)
  weighted = attention.norm_weighted
  if weighted is not None:
    there = attention.probabilities > 0
    lengths = np.where(there, weighted / np.where(there, attention.probabilities, 1), 0)
    weighted = weights * lengths
  return dataclasses.replace(attention, logits=logits, probabilities=weights, norm_weighted=weighted)


def _look(attention: AttentionMap, view: View, place: Place) -> Look:
  try:
    return look(attention, view.mode, place)
  except ValueError as error:
    raise UserError(str(error)) from error


def _row(model: str, attention: AttentionMap, found: Look, view: View) -> Row:
  heads: Sequence[int] = range(attention.num_heads)
  if view.head is not None:
    if view.head not in heads:
      raise UserError(f"{attention.layer} has no head {view.head}; it has 0 to {attention.num_heads - 1}.")
    heads = [view.head]
  return Row(f"{model}{attention.layer}", found, heads)


def _of_one(rows: Sequence[Row], signed: bool) -> Scale | None:
  """The scale of a map that is alone, for a bar of colours."""
  alone = len(rows) == 1 and len(rows[0].heads) == 1
  return scale(rows[0].values, signed) if alone else None


def _laid(manifest: Mapping[str, Any], view: View, first: Row, signed: bool) -> Laid | None:
  """The overlay of the view; that of the page's "head" is the map of the first head that is drawn."""
  if view.overlay is None:
    return None
  if view.overlay == "head":
    return Laid(f"head {first.heads[0]}", first.values[0], first.look.grid, signed)
  found = {each["name"]: each for each in manifest["overlays"] if each["image"] in (None, view.image)}
  if view.overlay not in found:
    raise UserError(f"image {view.image} has no overlay {view.overlay!r}; it has {', '.join(found) or 'none'}.")
  overlay = found[view.overlay]
  return Laid(overlay["name"], unpack(overlay["values"]).ravel(), unpacked_grid(overlay["grid"]))


@paper()
def _write_below(figure: Figure, caption: str, width: float) -> str:
  """Puts the caption under the picture; returns the letters that no font has."""
  lines = textwrap.wrap(caption, max(20, int(width / _LETTER)))
  fonts, missing = families(lines)
  figure.set_figheight(figure.get_figheight() + 0.118 * len(lines) + 0.06)
  text = {"fontsize": 6, "color": GREY, "family": fonts, "parse_math": False, "linespacing": 1.35}
  figure.supxlabel("\n".join(lines), x=0.008, ha="left", **text)
  return missing
