"""What is given for a page must fit together: said when the page is made, not by a page that shows something else."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from convattn.analysis.attention_map import AttentionMap, Grid


def check_classes(class_names: Sequence[str] | None, labels: Any, probabilities: Any) -> None:
  """Whether labels and probabilities are of the classes that have names, if any have.

  Raises:
    ValueError: probabilities that are not [b, classes] or not finite, or a label that is no class.
  """
  classes = None if class_names is None else len(class_names)
  if probabilities is not None:
    shape = np.shape(probabilities)
    if len(shape) != 2 or (classes is not None and shape[1] != classes):
      wanted = "[images, classes]" if classes is None else f"[images, {classes}], as there are names of classes"
      raise ValueError(f"probabilities have shape {list(shape)}, but must be {wanted}.")
    if not np.isfinite(probabilities).all():
      raise ValueError("probabilities are not all finite; look at what the model gave.")
    classes = shape[1]
  if labels is not None and classes is not None:
    wrong = [int(label) for label in labels if not 0 <= label < classes]
    if wrong:
      raise ValueError(f"among the labels is {wrong[0]}, but classes are from 0 to {classes - 1}.")


def check_overlay(name: str, image: int | None, grid: Grid, values: Any, scores: Any, num_images: int) -> None:
  """Whether an overlay lies on its grid and on an image that there is.

  Raises:
    ValueError: it does not, or a score is not finite.
  """
  if np.shape(values) != (grid.height, grid.width):
    shape = list(np.shape(values))
    raise ValueError(f"values of the overlay {name!r} are {shape}, but its grid is [{grid.height}, {grid.width}].")
  if image is not None and not 0 <= image < num_images:
    raise ValueError(f"the overlay {name!r} is of image {image}, but images are from 0 to {num_images - 1}.")
  for score, value in scores.items():
    if not np.isfinite(value):
      raise ValueError(f"the score {score!r} of the overlay {name!r} is {value}, but must be finite; leave it out.")


def check_state(step: int, state: Sequence[AttentionMap], maps: Sequence[AttentionMap]) -> None:
  """Whether maps of a state of the training are of the layers, heads and images that the page shows.

  Raises:
    ValueError: they are not.
  """
  ours, theirs = ([(each.layer, each.probabilities.shape) for each in one] for one in (maps, state))
  if ours != theirs:
    differ = next(((a, b) for a, b in zip(ours, theirs, strict=False) if a != b), (len(ours), len(theirs)))
    raise ValueError(
      f"the maps at step {step} are of {differ[1]} where those of the page are of {differ[0]}; "
      "give the same layers and images."
    )


def check_compared(count: int, other: int) -> None:
  """Whether another page is of as many images.

  Raises:
    ValueError: it is not.
  """
  if count != other:
    raise ValueError(f"the page to compare with has {other} images, and this one {count}; give the same images.")
