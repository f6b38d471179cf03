"""What can be laid over the images of a page, with the scores that say how far to trust it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import numpy as np

from convattn import analysis
from convattn.analysis import AttentionMap, Faithfulness
from convattn.analysis.faithfulness import MEASURES
from convattn.analysis.hiding import FILLS
from convattn.viz.explore_page import Overlay

WINDOWS = 8
"""Windows that occlusion moves along the longer side of an image."""

SCORED_PIXELS = 2**17
"""Of the images of which overlays are scored: two of 224 pixels squared, all of a page of digits."""
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
  return [*overlays, Overlay(field.name, None, field.grid, field.mean(), note=f"{field.note}.")]


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
  note = f"{overlay.note}. {comparison(scores)}"
  return [
    Overlay(overlay.name, i, overlay.grid, values, scores_of(scores, i) if i < most else {}, note)
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
  """A sentence: how much better than maps that know no model, under each fill, with intervals over the images."""
  than = []
  for map, words in (("random", "random maps"), ("centre", "a Gaussian of the middle")):
    gains = []
    for measure in MEASURES:
      intervals = [(fill, found.gain(measure, fill, map)) for fill in FILLS]
      gains.append(f"{measure} " + ", ".join(f"{_interval(each)} ({fill})" for fill, each in intervals))
    than.append(f"than {words} by {'; '.join(gains)}")
  images = len(found.classes)
  return f"Over {images} image{'s' * (images != 1)} it is better {'; '.join(than)}."


def _interval(found: analysis.Interval) -> str:
  interval = f" [{found.low:+.2f}, {found.high:+.2f}]" if np.isfinite(found.low) else ""
  return f"{found.mean:+.2f}{interval}"
