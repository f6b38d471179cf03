"""The caption of a view of an explore page: everything that one must know to read the picture."""

from collections.abc import Mapping, Sequence
from typing import Any

from convattn.analysis.attention_map import AttentionMap
from convattn.errors import printable
from convattn.viz.cells import grid_name
from convattn.viz.head_grid import Scale
from convattn.viz.looks import MEANINGS, WEIGHTS, Place
from convattn.viz.page_view import View
from convattn.viz.style import number


def caption_of(
  manifest: Mapping[str, Any],
  view: View,
  place: Place,
  maps: Sequence[AttentionMap],
  shared: Scale | None,
  laid: str | None,
) -> str:
  """Sentences: what is drawn, of which image, layer, head and place; grids; the scale of colours; the checkpoint."""
  what = MEANINGS[view.mode] + (f", from content + {view.s:g} × position" if view.s != 1 else "")
  layers = printable(maps[0].layer) if view.layer is not None else f"{len(maps)} layers"
  heads = f"head {view.head}" if view.head is not None else "all heads"
  grids = "; ".join(dict.fromkeys(_grids(each) for each in maps))
  prefix = max(each.prefix_tokens for each in maps)
  sentences = [
    f"{what[0].upper()}{what[1:]}, {layers}, {heads}: {_where(place, view.mode)}, {_which(manifest, view)}.",
    f"Grid: {grids}.",
    f"{prefix} tokens without a place are left out." if prefix and place.token is None else "",
    _colours(shared, view.shared),
    f"Over the first picture at the left, pale beneath: {printable(laid)}, on a scale of its own." if laid else "",
    _source("Checkpoint", manifest, view.step),
    _source("Rows called compared: checkpoint", manifest["compare"], None) if manifest["compare"] else "",
  ]
  return " ".join(filter(None, sentences))


def _grids(attention: AttentionMap) -> str:
  queries, keys = grid_name(attention.query_grid), grid_name(attention.key_grid)
  return queries if queries == keys else f"queries {queries}, keys {keys}"


def _where(place: Place, mode: str) -> str:
  if place.token is not None:
    told = f"token {place.token}"
  elif place.at is None:
    return "the sum over all queries" if mode in WEIGHTS else "the mean over all queries"
  elif len(place.at) == 2:
    told = f"pixel (row {place.at[0]}, column {place.at[1]})"
  else:
    top, left, bottom, right = place.at
    told = f"pixels (rows {top} to {bottom}, columns {left} to {right})"
  return f"what {told} attends to" if place.direction == "out" else f"what attends to {told}"


def _which(manifest: Mapping[str, Any], view: View) -> str:
  count = len(manifest["images"])
  if view.average == "mean":
    return f"mean over {count} images"
  image, names = manifest["images"][view.image], manifest["class_names"]
  told = f"image {view.image} ({printable(image['name'])}"
  if names and image["label"] is not None:
    told += f", class {printable(str(names[image['label']]))}"
  return f"{told})" if view.average == "one" else f"{told}) less the mean over {count} images"


def _colours(shared: Scale | None, of_all: bool) -> str:
  if shared is None:
    return "Colours: a scale for each map, the number below it is its end."
  low, high = (number(end or 0.0) for end in (shared[1].vmin, shared[1].vmax))
  which = "one scale for all maps of the view; below each map its largest number" if of_all else "the map's own scale"
  return f"Colours: from {low} to {high}, {which}."


def _source(lead: str, manifest: Mapping[str, Any], step: int | None) -> str:
  checkpoint = manifest["checkpoint"]
  if checkpoint is None:
    return f"{lead} not stated."
  step = checkpoint.get("step") if step is None else step
  parts = [
    str(checkpoint.get("digest") or "without a digest")[:12],
    checkpoint.get("model"),
    None if step is None else f"step {step:,}",
    checkpoint.get("dataset"),
  ]
  return f"{lead} {', '.join(printable(str(each)) for each in parts if each is not None)}."
