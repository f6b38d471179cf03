"""The classes of pictures, by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from convattn.inference.logits import logits_of
from convattn.pretrained.picture_files import open_picture
from convattn.pretrained.pictures import Preprocessing
from convattn.training.restoring import Classifier

Likely = list[tuple[str, float]]
Unreadable = list[tuple[Path, str]]


def predictions(
  restored: Classifier, pictures: Sequence[Path], *, top: int = 5, batch_size: int = 32, unreadable: Unreadable
) -> Iterator[tuple[Path, Likely]]:
  """(picture, its `top` most likely classes with their probabilities) in order, as soon as each is known.

  Pictures that cannot be read are left out, and added to `unreadable` with what is wrong. `batch_size` is the number
  of pictures per call of the model; the result does not depend on it.

  Raises:
    FloatingPointError: logits that are not finite.
  """
  batches = _batches(restored.preprocessing, pictures, batch_size, unreadable)
  for logits, paths in logits_of(restored, batches, batch_size):
    for row, path in zip(logits, paths, strict=True):
      yield path, most_likely(row, restored.class_names, top)


def _batches(
  preprocessing: Preprocessing, pictures: Sequence[Path], batch_size: int, unreadable: list[tuple[Path, str]]
) -> Iterator[tuple[np.ndarray, list[Path]]]:
  """(pixels [n, h, w, c], paths) of the readable pictures; the others are added to `unreadable`."""
  pixels: list[np.ndarray] = []
  paths: list[Path] = []
  for path in pictures:
    try:
      pixels.append(preprocessing.pixels(open_picture(path)))
      paths.append(path)
    except ValueError as error:
      unreadable.append((path, str(error)))
    if len(paths) == batch_size:
      yield np.stack(pixels), paths
      pixels, paths = [], []
  if paths:
    yield np.stack(pixels), paths


def most_likely(logits: np.ndarray, class_names: Sequence[str], top: int) -> list[tuple[str, float]]:
  """(name, softmax probability in float64) of the `top` largest of logits [classes], of equals the first."""
  weights = np.exp(logits.astype(np.float64) - logits.max())
  order = np.argsort(-logits, kind="stable")[:top]
  return [(class_names[i], float(weights[i] / weights.sum())) for i in order]
