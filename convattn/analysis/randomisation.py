"""Whether an overlay shows what a model has learnt: it must change when what was learnt is taken away."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from convattn.analysis.calling import checked_images, chosen_classes
from convattn.analysis.capture import evaluation
from convattn.analysis.feature_maps import parts_in_order
from convattn.analysis.intervals import Interval, mean_interval
from convattn.analysis.overlay import Overlay

Method = Callable[..., Overlay]
"""(model, variables, images) -> Overlay; one that takes `classes` is given those of the trained model."""


@dataclasses.dataclass(frozen=True, eq=False)
class Randomisation:
  """How alike an overlay is to that of the trained model.

  Attributes:
    overlay: its name.
    steps: what had been taken away: after each step the parts so far, from the top down.
    correlations: float64 [steps, b], Spearman's rank correlation of each image's cells; nan where one of the two
      overlays is flat and has no ranks.
  """

  overlay: str
  steps: tuple[str, ...]
  correlations: np.ndarray

  def interval(self, step: str) -> Interval | None:
    """The mean over the images that have one, with its bootstrap interval; None where no image has.

    Raises:
      ValueError: there is no such step.
    """
    if step not in self.steps:
      raise ValueError(f"{step!r} is none of the steps {', '.join(self.steps)}.")
    found = self.correlations[self.steps.index(step)]
    found = found[np.isfinite(found)]
    return mean_interval(found) if found.size else None


def randomisation(model: nn.Module, variables: Any, images: Any, method: Method, *, seed: int = 0) -> Randomisation:
  """The rank correlation of an overlay with itself while the weights are drawn anew, from the classifier down.

  Step by step one more of the model's parts, those at its top level in the reverse order of their calls, gets the
  values of a fresh initialisation, its running averages too; what was drawn before stays. An overlay that stays alike
  to the end shows the image and not what the model has learnt of it.

  Source: Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, section 3 (cascading randomization).

  Args:
    model: any module, called for inference.
    variables: trained.
    images: floating point [b, h, w, c], as the model takes them.
    method: such as `grad_cam`, or `functools.partial(occlusion, window=4)`. Where it takes `classes` and was not given
      any, they are those that the trained model predicts, in every step.
    seed: of the fresh initialisation.

  Raises:
    ValueError: images that do not fit, or a model without parts.
  """
  images = checked_images(images)
  bound = _bound(model, variables, images, method)
  trained = bound(model, variables, images)
  init = functools.partial(model.init, **evaluation(model))
  fresh = jax.jit(init)(jax.random.key(seed), images[:1])
  now, steps, correlations = dict(variables), [], []
  for part in reversed(parts_in_order(model, variables, images)):
    now = {
      collection: {**values, **({part: fresh[collection][part]} if part in values else {})}
      for collection, values in now.items()
    }
    steps.append(part)
    correlations.append(rank_correlations(trained, bound(model, now, images)))
  if not steps:
    raise ValueError(f"{type(model).__name__} has no parts at its top level that could be drawn anew.")
  return Randomisation(trained.name, tuple(steps), np.stack(correlations))


def shuffled_labels(model: nn.Module, variables: Any, shuffled: Any, images: Any, method: Method) -> Randomisation:
  """The rank correlation of an overlay with that of the same model, trained on labels that were shuffled.

  Both have learnt something, but only one of them what the pictures show: an overlay that is alike for both does not
  tell these apart.

  Source: Adebayo et al. 2018, section 4 (data randomization test).

  Args:
    model, variables, images, method: as for `randomisation`.
    shuffled: the variables of a second training, in which images had each other's labels.

  Raises:
    ValueError: images that do not fit, or variables of another model.
  """
  images = checked_images(images)
  if jax.tree.map(np.shape, dict(variables)) != jax.tree.map(np.shape, dict(shuffled)):
    raise ValueError("the variables trained on shuffled labels must be of the same model, but differ in shape.")
  bound = _bound(model, variables, images, method)
  trained, other = (bound(model, each, images) for each in (variables, shuffled))
  return Randomisation(trained.name, ("shuffled labels",), rank_correlations(trained, other)[None])


def rank_correlations(ours: Overlay, theirs: Overlay) -> np.ndarray:
  """float64 [b]: Spearman's correlation of the cells of each image; equal values share their mean rank.

  nan where either is flat.

  Raises:
    ValueError: overlays of other cells or images.
  """
  if ours.grid != theirs.grid or len(ours.values) != len(theirs.values):
    raise ValueError(f"{ours.name} and {theirs.name} must be of the same images and cells to be compared.")
  found = np.full(len(ours.values), np.nan)
  for number, pair in enumerate(zip(ours.values, theirs.values, strict=True)):
    a, b = (ranks - ranks.mean() for ranks in map(_ranks, pair))
    size = np.sqrt((a @ a) * (b @ b))
    if size > 0:
      found[number] = a @ b / size
  return found


def _ranks(values: np.ndarray) -> np.ndarray:
  _, which, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
  return (np.cumsum(counts) - (counts - 1) / 2)[which.ravel()]


def _bound(model: nn.Module, variables: Any, images: np.ndarray, method: Method) -> Method:
  """The method, with the classes of the trained model where it takes classes and has none."""
  takes = inspect.signature(method).parameters.get("classes")
  if takes is None or takes.default is not None:
    return method
  chosen = chosen_classes(model, variables, images)
  return lambda model, variables, images: method(model, variables, images, classes=chosen)
