"""What can be laid over the images of a page, with the scores that say how far to trust it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np

from convattn import analysis
from convattn.analysis import AttentionMap, Faithfulness
from convattn.analysis.faithfulness import MEASURES
from convattn.analysis.hiding import FILLS
from convattn.analysis.intervals import SHARE, mean_interval
from convattn.viz.explore_page import Overlay

WINDOWS = 8
"""Windows that occlusion moves along the longer side of an image."""

SCORED_PIXELS = 2**17
"""Of the images of which overlays are scored: two of 224 pixels squared, all of a page of digits."""
_BESIDE = {"centre": "a Gaussian in the middle of the image", "random": "random maps"}
"""Maps that know no model."""

_STEPS, _RANDOM = 8, 2
"""Of the curves of a score, and maps that are drawn beside each."""


def overlays_of(model: nn.Module, variables: Any, images: np.ndarray, maps: Sequence[AttentionMap]) -> list[Overlay]:
  """Rollout, Grad-CAM, class map and occlusion of each image with their scores, and the receptive field of all.

  Without rollout where weights are below 0, as a static part behind the softmax makes them: such are no flow.

  Args:
    model: a classifier.
    variables: its own.
    images: [b, h, w, c] as it takes them.
    maps: of all its layers that attend, or some.
  """
  side = max(images.shape[1:3])
  stride = -(-side // WINDOWS)
  found: list[analysis.Overlay] = [
    *rolled_out(maps),
    analysis.grad_cam(model, variables, images),
    analysis.class_map(model, variables, images),
    analysis.occlusion(model, variables, images, window=min(side, max(3, 3 * stride // 2)), stride=stride),
  ]
  overlays = [overlay for each in found for overlay in _scored(model, variables, images, each)]
  field = analysis.receptive_field(model, variables, images)
  return [*overlays, Overlay(field.name, None, field.grid, field.mean(), note=_sentence(field.note))]


def _sentence(note: str) -> str:
  return f"{note[0].upper()}{note[1:]}."


def rolled_out(maps: Sequence[AttentionMap]) -> list[analysis.Overlay]:
  """Rollout; none where it is not defined."""
  return [analysis.rollout_overlay(maps)] if all(each.probabilities.min() >= 0 for each in maps) else []


def _scored(model: nn.Module, variables: Any, images: np.ndarray, overlay: analysis.Overlay) -> list[Overlay]:
  """The overlay of each image; of the first ones, as many as SCORED_PIXELS allow, with scores."""
  most = max(1, SCORED_PIXELS // (images.shape[1] * images.shape[2]))
  first = dataclasses.replace(
    overlay, values=overlay.values[:most], classes=None if overlay.classes is None else overlay.classes[:most]
  )
  scores = analysis.faithfulness(model, variables, images[:most], first, steps=_STEPS, num_random=_RANDOM)
  note = f"{_sentence(overlay.note)} {comparison(scores)}"
  of_one = " The scores here are of this image alone."
  return [
    Overlay(
      overlay.name,
      i,
      overlay.grid,
      values,
      scores_of(scores, i) if i < most else {},
      note + of_one if i < most else note,
    )
    for i, values in enumerate(overlay.values)
  ]


def scores_of(found: Faithfulness, image: int) -> dict[str, float]:
  """Areas under the insertion and the deletion curve of an image, the mean of all fills, and those of other maps.

  Insertion is good where it is large, deletion where it is small; from 0 to 1.
  """
  beside = {"overlay": "", "random": " of random maps", "centre": " of the middle"}
  return {
    f"{measure}{words}": float(np.mean([found.areas(measure, fill, map)[image] for fill in FILLS]))
    for measure in MEASURES
    for map, words in beside.items()
  }


def comparison(found: Faithfulness) -> str:
  """Sentences: whether it is better than maps that know no model, in words, and by how much under each fill.

  A gain is the mean of those in insertion and in deletion. It is clear where its interval over the images has no zero;
  a single image has no interval, and its sign counts.
  """
  gains = {map: {fill: _gain(found, fill, map) for fill in FILLS} for map in _BESIDE}
  images = len(found.classes)
  verdict = "; ".join(_verdict(_BESIDE[map], each) for map, each in gains.items())
  numbers = []
  for words, by_fill in zip(("the Gaussian", "random maps"), gains.values(), strict=True):
    numbers.append(f"over {words} " + ", ".join(f"{_interval(each)} ({fill})" for fill, each in by_fill.items()))
  of = f"{images} images, {SHARE:.0%} intervals" if images > 1 else "one image, which says little"
  return (
    f"{_sentence(verdict)} Gain, the mean of insertion's and deletion's, over {of}: {'; '.join(numbers)}. "
    "Both have this overlay's grid, so other overlays are compared with other maps."
  )


def _gain(found: Faithfulness, fill: str, over: str) -> analysis.Interval:
  insertion, deletion = (found.areas(each, fill) - found.areas(each, fill, over) for each in MEASURES)
  return mean_interval((insertion - deletion) / 2)


def _verdict(than: str, gains: Mapping[str, analysis.Interval]) -> str:
  """In words, of the gains under each fill: "better than random maps, under all three fills"."""
  fills: dict[str, list[str]] = {"better than": [], "worse than": [], "no clear difference from": []}
  for fill, gain in gains.items():
    low, high = (gain.low, gain.high) if np.isfinite(gain.low) else (gain.mean, gain.mean)
    fills["better than" if low > 0 else "worse than" if high < 0 else "no clear difference from"].append(fill)
  told = {words: each for words, each in fills.items() if each}
  if len(told) == 1:
    return f"{next(iter(told))} {than}, under all three fills"
  (words, first), *others = told.items()
  parts = [f"{words} {than} under {_fills(first)}"]
  return ", ".join(parts + [f"{words.rpartition(' ')[0]} under {_fills(each)}" for words, each in others])


def _fills(names: Sequence[str]) -> str:
  return f"the fill{'s' * (len(names) > 1)} {' and '.join(names)}"


def _interval(found: analysis.Interval) -> str:
  mean, low, high = (f"{round(each, 2) + 0.0:+.2f}".replace("-", "−") for each in (found.mean, found.low, found.high))
  return f"{mean} [{low}, {high}]" if np.isfinite(found.low) else mean
