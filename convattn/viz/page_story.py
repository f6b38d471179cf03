"""The worked example that a page begins with: an image, a pixel, three heads, three sentences."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convattn.analysis.attention_map import AttentionMap, Grid
from convattn.analysis.head_shape import attention_distance
from convattn.viz.packing import unpack

Heads = Sequence[Sequence[Mapping[str, Any]]]
"""Metrics of each head of each map."""
_Place = tuple[int, int]
"""Number of a map, and of its head."""

_ALIKE = 0.1
"""Two distances are told apart from this share on of the one that a head has which attends to all keys alike."""


def story(
  maps: Sequence[AttentionMap], heads: Heads, images: Sequence[Mapping[str, Any]], class_names: Sequence[str] | None
) -> dict[str, Any] | None:
  """The example as JSON; None where fewer than two heads have a distance.

  The image is the one that the model is most wrong about, or nearest to be. The heads are the most local, the most
  global and the most content-dependent one, and the pixel is that of the drawn quarter of the picture from which the
  last of them (without it the most local) gives another cell the largest weight. A sentence is a list of texts and of
  words {"text", "target"}: what the page lights up.

  Args:
    maps: of the layers.
    heads: their metrics.
    images: as the page holds them: name, label, probabilities.
    class_names: of all classes.
  """
  places = [(i, h) for i, each in enumerate(heads) for h, head in enumerate(each) if head.get("distance") is not None]
  if len(places) < 2 or not maps[0].query_grid.image:
    return None
  image = hardest(images)
  local, broad, content = telling_heads(heads, places)
  subject = content if content is not None else local
  grid = maps[subject[0]].query_grid
  pixels = unpack(images[image]["pixels"]) if images[image]["pixels"] is not None else None
  query, key = _largest(maps[subject[0]], subject[1], image, _in_sight(grid, pixels))
  box = grid.boxes()[query]
  at = [int(box[0] + (box[2] - box[0]) / 2), int(box[1] + (box[3] - box[1]) / 2)]
  sentences = [_about_image(images[image], class_names, at), _about_distance(maps, heads, local, broad)]
  if content is not None:
    value = _weights(maps[content[0]], image)[content[1], query, key]
    row, column = divmod(key, maps[content[0]].key_grid.width)
    cell = {"text": f"cell in row {row}, column {column} of the map", "target": _target(maps, content) | {"cell": key}}
    sentences.append(
      [
        _head(maps, content),
        " depends most on what is in the picture: here the outlined cell gives the ",
        cell,
        f" the largest weight, {value:.2f}.",
      ]
    )
  return {"image": image, "at": at, **_target(maps, subject), "sentences": sentences}


def hardest(images: Sequence[Mapping[str, Any]]) -> int:
  """The image whose class leads the best other one by least; without a label, the first class the second."""
  leads = []
  for image in images:
    if image["probabilities"] is None or len(image["probabilities"]) < 2:
      return 0
    ranked = np.asarray(image["probabilities"], np.float64)
    label = image["label"] if image["label"] is not None else int(ranked.argmax())
    leads.append(ranked[label] - np.delete(ranked, label).max())
  return int(np.argmin(leads))


def telling_heads(heads: Heads, places: Sequence[_Place]) -> tuple[_Place, _Place, _Place | None]:
  """The most local and the most global head by distance, and of the others the one that depends most on content.

  The last is None where there is no third, or none whose weights are known to depend on content.
  """

  def metric(name: str, place: _Place) -> float:
    value = heads[place[0]][place[1]].get(name)
    return float("nan") if value is None else float(value)

  ranked = sorted(places, key=lambda place: metric("distance", place))
  local, broad = ranked[0], ranked[-1]
  others = [place for place in ranked[1:-1] if metric("content_dependence", place) > 0]
  return local, broad, max(others, key=lambda place: metric("content_dependence", place)) if others else None


def _weights(attention: AttentionMap, image: int) -> np.ndarray:
  """[heads, query cells, key cells] of one image; 0 where a query does not see a key."""
  return np.nan_to_num(attention.dense()[image])


def _in_sight(grid: Grid, pixels: np.ndarray | None) -> np.ndarray:
  """bool [cells]: where the picture is no background: the quarter, at most, that differs most from its median."""
  if pixels is None:
    return np.ones(grid.cells, bool)
  difference = np.abs(pixels - np.median(pixels, axis=(0, 1))).sum(-1)
  size = difference.shape
  means = np.zeros(grid.cells)
  for cell, (top, left, bottom, right) in enumerate(grid.boxes()):
    # At least the pixel that a small cell, or one in padding, is nearest to.
    row, column = min(int(top), size[0] - 1), min(int(left), size[1] - 1)
    means[cell] = difference[
      row : max(int(np.ceil(bottom)), row + 1), column : max(int(np.ceil(right)), column + 1)
    ].mean()
  seen = (means >= np.quantile(means, 0.75)) & (means > means.min())
  return seen if seen.any() else ~seen


def _largest(attention: AttentionMap, head: int, image: int, queries: np.ndarray) -> tuple[int, int]:
  """Query and key of the largest weight of some queries, of those on other cells than the query's own if there are."""
  weights = _weights(attention, image)[head] * queries[:, None]
  if weights.shape[0] == weights.shape[1] and weights.shape[0] > 1:
    np.fill_diagonal(weights, 0)
  query, key = np.unravel_index(int(weights.argmax()), weights.shape)
  return int(query), int(key)


def _target(maps: Sequence[AttentionMap], place: _Place) -> dict[str, Any]:
  return {"layer": maps[place[0]].layer, "head": place[1]}


def _head(maps: Sequence[AttentionMap], place: _Place, word: str = "Head") -> dict[str, Any]:
  name = maps[place[0]].layer.removesuffix("/attention")
  return {"text": f"{word} {place[1]} of {name}", "target": _target(maps, place)}


def _about_image(image: Mapping[str, Any], class_names: Sequence[str] | None, at: Sequence[int]) -> list[Any]:
  here = [" From the ", {"text": "outlined pixel", "target": {"picture": True}}]
  here.append(f" in row {at[0]}, column {at[1]} of the picture, each map shows where a head looks.")

  def shown(text: str) -> dict[str, Any]:
    return {"text": text, "target": {"picture": True}}

  def name(label: int) -> str:
    return class_names[label] if class_names is not None else f"class {label}"

  if image["probabilities"] is None or len(image["probabilities"]) < 2:
    return ["This is ", shown(image["name"]), ".", *here]
  chances, label = np.asarray(image["probabilities"]), image["label"]
  first, second = (int(each) for each in np.argsort(-chances, kind="stable")[:2])
  taken = f" for {name(first)}, with probability {chances[first]:.2f}."
  if label is None:
    return ["The model takes ", shown("this picture"), taken, *here]
  if label != first:
    return ["The model takes ", shown(f"this {name(label)}"), taken, *here]
  given = f" probability {chances[first]:.2f}, and {chances[second]:.2f} to {name(second)}."
  return ["The model gives ", shown(f"this {name(label)}"), given, *here]


def _about_distance(maps: Sequence[AttentionMap], heads: Heads, local: _Place, broad: _Place) -> list[Any]:
  near, far = (float(heads[i][head]["distance"]) for i, head in (local, broad))
  of_local, of_broad = (_distance_alike(maps[i]) for i, _ in (local, broad))
  # Once where both layers have the same.
  told, last = (f" (all keys alike: {each:.1f})" for each in (of_local, of_broad))
  told = "" if told == last else told
  second = _head(maps, broad, "head")
  if far - near < _ALIKE * of_broad:
    first = _head(maps, local, "head")
    lead = "Heads hardly differ in how far they look: "
    return [lead, first, f" {near:.1f} pixels away on average{told}, and ", second, f" {far:.1f} pixels away{last}."]
  return [
    _head(maps, local),
    f" is the most local one, looking {near:.1f} pixels away on average{told}, and ",
    second,
    f" the most global one, looking {far:.1f} pixels away{last}.",
  ]


def _distance_alike(attention: AttentionMap) -> float:
  """The mean distance, in pixels, of a head that gives the same weight to all keys that a query sees."""
  weights, logits = attention.probabilities[:1, :1], attention.logits
  seen = np.ones_like(weights) if logits is None else np.isfinite(logits[:1, :1]).astype(np.float32)
  return float(attention_distance(dataclasses.replace(attention, probabilities=seen))[0])
