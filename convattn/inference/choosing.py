"""The images of a data set that are worth a look: those that a classifier gets wrong or nearly, of every class."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from convattn.analysis import margins, worth_a_look
from convattn.data import Dataset, evaluation_batches
from convattn.errors import UserError
from convattn.inference.logits import logits_of
from convattn.training.restoring import Classifier

SPLITS = ("test", "validation", "train")
"""In this order the first that has images is looked at."""

MOST_IMAGES, MOST_PIXELS = 1000, 2**24
"""Of the images that are looked at: all of a small test part, 334 of 224 pixels squared."""


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
  """Images of a data set.

  Attributes:
    pixels: uint8 [n, h, w, c].
    names: of each, such as "test image 217".
    labels: int64 [n], their classes; None: they are not known.
    told: a line that says how they were chosen.
  """

  pixels: np.ndarray
  names: tuple[str, ...]
  labels: np.ndarray | None
  told: str


def telling_examples(
  restored: Classifier,
  dataset: Dataset,
  count: int,
  *,
  batch_size: int = 128,
  advance: Callable[[int], Any] = lambda count: None,
) -> Examples:
  """At most `count` images of the test part, the one with the lowest margin first, then of every class the lowest.

  A large part is not looked through: as many images as MOST_IMAGES and MOST_PIXELS allow, evenly spaced.

  Args:
    restored: the classifier.
    dataset: of the classes of the model, in its order; see `match_classes`.
    count: images wanted.
    batch_size: images per call of the model.
    advance: called with the number of images that have been looked at since the last call.

  Raises:
    UserError: no split has images, or one cannot be read.
    FloatingPointError: logits that are not finite.
  """
  split, most = _split_of(dataset), num_looked_at(dataset, count)
  if split is None:
    raise UserError("the data hold no images; name pictures with --images.")
  source = dataset.labelled[split]
  looked_at = np.linspace(0, len(source) - 1, most).round().astype(np.int64)
  sample = source.take(looked_at, source.labels[looked_at])
  found, readable = [], []
  batch_size = min(batch_size, most)
  batches = ((batch["image"], batch) for batch in evaluation_batches(sample, batch_size))
  for logits, batch in logits_of(restored, batches, batch_size):
    found.append(margins(logits, batch["label"]))
    readable.append(batch["mask"] > 0)
    advance(int(readable[-1].sum()))
  margin, real = np.concatenate(found)[:most], np.flatnonzero(np.concatenate(readable))
  if not len(real):
    raise UserError(f"none of the images of the {split} part can be read; name pictures with --images.")
  chosen = real[worth_a_look(margin[real], sample.labels[real], count)]
  wrong = int((margin[real] < 0).sum())
  return Examples(
    np.stack([sample[int(i)]["image"] for i in chosen]),
    tuple(f"{split} image {looked_at[i]}" for i in chosen),
    sample.labels[chosen].astype(np.int64),
    f"{len(chosen)} of {len(real):,} images of the {split} part that were looked at, {wrong:,} of them mistaken: "
    f"the most doubtful of each class",
  )


def num_looked_at(dataset: Dataset, count: int) -> int:
  """So many images `telling_examples` looks at."""
  height, width, _ = dataset.image_shape
  split = _split_of(dataset)
  return min(len(getattr(dataset, split)), MOST_IMAGES, max(count, MOST_PIXELS // (height * width))) if split else 0


def _split_of(dataset: Dataset) -> str | None:
  """The first of SPLITS that has images."""
  return next((each for each in SPLITS if len(getattr(dataset, each))), None)
