"""From a restored classifier and some images to the page on which one sees what it looks at."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from convattn.analysis import AttentionMap, attention_maps, convolution_kernels
from convattn.analysis.calling import logits_of
from convattn.inference import Classifier, Examples, restore_classifier
from convattn.inference.logits import precision
from convattn.models import spec_for
from convattn.models.families import name_of
from convattn.training.state import sha256
from convattn.viz.assembly import Page
from convattn.viz.explore_page import explore
from convattn.viz.overlays import overlays_of
from convattn.viz.packed_layers import softmax
from convattn.viz.page_model import describe
from convattn.viz.page_plan import check_alike, image_shape


def exploration(
  restored: Classifier,
  examples: Examples,
  *,
  layers: str = "*",
  states: Sequence[tuple[int, Path]] = (),
  compare: Classifier | None = None,
  advance: Callable[[int], Any] = lambda count: None,
) -> Page:
  """The page of a classifier on some images: attention, kernels, overlays with their scores, and the model itself.

  Args:
    restored: the classifier.
    examples: images of the size that it takes.
    layers: shell pattern of the names of the layers that attend, of `compare` too.
    states: (step, folder) of checkpoints of the same run, for the slider over it; see `page_plan.kept_states`.
    compare: another classifier of images of this size, shown beside it.
    advance: called with 1 for each part of the work that is done, `num_parts` in all.

  Raises:
    UserError: `compare` takes images of another size; a checkpoint of `states` is damaged.
  """
  beside = None
  if compare is not None:
    check_alike(restored, compare)
    beside = _page(compare, _as_seen_by(compare, restored, examples), layers, [], None)
    advance(1)
  timeline = []
  for step, folder in states:
    kind = "averaged" if restored.averaged else "raw"
    state = restored if folder == Path(restored.source) else restore_classifier(folder, weights=kind)
    timeline.append((step, _maps(state, examples.pixels, layers)))
    advance(1)
  page = _page(restored, examples, layers, timeline, beside)
  advance(1)
  return page


def num_parts(states: Sequence[tuple[int, Path]], compare: Classifier | None) -> int:
  """Of the work of `exploration`."""
  return 1 + len(states) + (compare is not None)


def _as_seen_by(other: Classifier, restored: Classifier, examples: Examples) -> Examples:
  """The labels are classes of `other` only where its classes are the same."""
  same = other.class_names == restored.class_names
  return examples if same else dataclasses.replace(examples, labels=None)


def _maps(restored: Classifier, pixels: np.ndarray, layers: str) -> list[AttentionMap]:
  with jax.default_matmul_precision(precision(restored)):
    images = restored.preprocessing.normalize(pixels)
    return attention_maps(restored.model, restored.variables, images, layers=layers)


def _page(
  restored: Classifier,
  examples: Examples,
  layers: str,
  timeline: list[tuple[int, list[AttentionMap]]],
  compare: Page | None,
) -> Page:
  pixels = examples.pixels
  maps = _maps(restored, pixels, layers)
  images = restored.preprocessing.normalize(pixels)
  with jax.default_matmul_precision(precision(restored)):
    convolutions = convolution_kernels(restored.model, restored.variables, images[:1])
    overlays = overlays_of(restored.model, restored.variables, images, maps)
    logits = logits_of(restored.model, restored.variables, images)
  name, digest = _model_name(restored), sha256(restored.variables)
  dataset = None if restored.experiment is None else restored.experiment.data.name
  return explore(
    maps,
    shown(pixels),
    class_names=restored.class_names,
    image_names=examples.names,
    labels=None if examples.labels is None else examples.labels.tolist(),
    probabilities=softmax(logits.astype(np.float64)),
    convolutions=convolutions,
    overlays=overlays,
    model=describe(restored.model, restored.variables, image_shape(restored), restored.preprocessing).as_json,
    checkpoint={"digest": digest, "model": name, "step": restored.step, "dataset": dataset},
    timeline=timeline,
    compare=compare,
    title=f"What {name} looks at",
    lines=_lines(restored, name, digest, maps, examples) + _beside(compare),
  )


def _beside(compare: Page | None) -> list[str]:
  """Which model is compared, and its weights: the first and the last of its own sentences."""
  if compare is None:
    return []
  first, *_, last = compare.manifest["lines"]
  return [f"Compared with {first}", f"Compared: {last}"]


def _model_name(restored: Classifier) -> str:
  """That of the run's settings, where the model is the one they name: they may change some of its spec."""
  model = None if restored.experiment is None else restored.experiment.model
  if model is not None and getattr(restored.model, "spec", None) == spec_for(model.name, **model.overrides):
    return model.name
  return name_of(restored.model)


def shown(pixels: np.ndarray) -> np.ndarray:
  """uint8 [b, h, w, 1 or 3] of images of any number of channels: of 2, or more than 3, their mean."""
  return pixels if pixels.shape[-1] in (1, 3) else pixels.mean(-1, keepdims=True).round().astype(np.uint8)


def _lines(restored: Classifier, name: str, digest: str, maps: Sequence[AttentionMap], examples: Examples) -> list[str]:
  """Sentences that say what the page is of."""
  parameters = sum(leaf.size for leaf in jax.tree.leaves(restored.variables["params"]))
  grids: dict[tuple[int, int], int] = {}
  for each in maps:
    grid = (each.query_grid.height, each.query_grid.width)
    grids[grid] = grids.get(grid, 0) + 1
  layers = ", ".join(f"{count} on a grid of {height} × {width} cells" for (height, width), count in grids.items())
  return [
    f"{name}, {parameters:,} parameters: {restored.title}.",
    f"Layers that attend: {layers}.",
    f"The images: {examples.told}.",
    f"SHA-256 of the weights: {digest[:16]}.",
  ]
