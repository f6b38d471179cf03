"""The worked example that a page begins with: an image, a pixel, three heads, three sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convattn.analysis.attention_map import AttentionMap, Grid
from convattn.viz.packing import unpack

Heads = Sequence[Sequence[Mapping[str, Any]]]
"""Metrics of each head of each map."""
_Place = tuple[int, int]
"""Number of a map, and of its head."""


def story(
  maps: Sequence[AttentionMap], heads: Heads, images: Sequence[Mapping[str, Any]], class_names: Sequence[str] | None
) -> dict[str, Any] | None:
  """The example as JSON; None where fewer than two heads have metrics.

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
  places = [(i, head) for i, each in enumerate(heads) for head in range(len(each))]
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
    sentences.append(
      [
        _head(maps, content),
        " depends most on what is in the picture: here the outlined cell gives ",
        {"text": f"row {row}, column {column}", "target": _target(maps, content)},
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


def _head(maps: Sequence[AttentionMap], place: _Place) -> dict[str, Any]:
  name = maps[place[0]].layer.removesuffix("/attention")
  return {"text": f"Head {place[1]} of {name}", "target": _target(maps, place)}


def _about_image(image: Mapping[str, Any], class_names: Sequence[str] | None, at: Sequence[int]) -> list[Any]:
  here = [" From the ", {"text": "outlined pixel", "target": {"picture": True}}]
  here.append(f" in row {at[0]}, column {at[1]}, each map shows where a head looks.")
  if image["probabilities"] is None or len(image["probabilities"]) < 2:
    return [{"text": image["name"], "target": {"picture": True}}, " is shown.", *here]

  def name(label: int) -> str:
    return class_names[label] if class_names is not None else f"class {label}"

  chances = np.asarray(image["probabilities"])
  first, second = (int(each) for each in np.argsort(-chances, kind="stable")[:2])
  label = image["label"]
  word = {"text": f"this {name(first if label is None else label)}", "target": {"picture": True}}
  if label is not None and label != first:
    return ["The model takes ", word, f" for {name(first)}, with probability {chances[first]:.2f}.", *here]
  return [
    "The model gives ",
    word,
    f" probability {chances[first]:.2f}, and {chances[second]:.2f} to {name(second)}.",
    *here,
  ]


def _about_distance(maps: Sequence[AttentionMap], heads: Heads, local: _Place, broad: _Place) -> list[Any]:
  near, far = (float(heads[i][head]["distance"]) for i, head in (local, broad))
  return [
    _head(maps, local),
    f" is the most local one, looking {near:.1f} pixels away on average, and ",
    {**_head(maps, broad), "text": f"head {broad[1]} of {maps[broad[0]].layer.removesuffix('/attention')}"},
    f" the most global one, looking {far:.1f} pixels away.",
  ]
