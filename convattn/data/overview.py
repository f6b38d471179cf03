"""What a run says of its data before it starts."""

from collections.abc import Sequence

import numpy as np

from convattn.data.folder import FolderSource
from convattn.data.records import RecordSource
from convattn.data.sources import Dataset
from convattn.errors import printable

_LISTED = 3


def overview(dataset: Dataset, place: str = "") -> list[str]:
  """One line with the numbers of images and classes and the data set's remarks; and a warning where there are too few.

  Too few are a single class, and a single image of a class to train on, or none. Of TFDS's records, whose labels would
  take a pass over all of them, images are not counted class by class.

  Args:
    dataset: what is to be trained on.
    place: where it lies, for people; empty: not told.
  """
  sizes = ", ".join(f"{split} {len(getattr(dataset, split)):,}" for split in ("train", "validation", "test"))
  where = f" in {printable(place)}" if place else ""
  line = f"data: {dataset.num_classes:,} class{'es' if dataset.num_classes > 1 else ''}{where}, images: {sizes}"
  return ["; ".join([line, *dataset.remarks]), *_warnings(dataset)]


def _warnings(dataset: Dataset) -> list[str]:
  if dataset.num_classes == 1:
    advice = "; is data.dir the folder that holds the class folders?" if isinstance(dataset.train, FolderSource) else ""
    return [f"warning: there is a single class, {_names(dataset.class_names)}, and nothing to tell apart{advice}"]
  source = dataset.train
  labels = None if isinstance(source, RecordSource) else getattr(source, "labels", None)
  if labels is None or not len(source):
    return []
  counts = np.bincount(labels, minlength=dataset.num_classes)
  few = [name for name, count in zip(dataset.class_names, counts, strict=False) if count <= 1]
  has = "classes have" if few[1:] else "class has"
  return [f"warning: {len(few):,} {has} at most one image to train on: {_names(few)}"] if few else []


def _names(names: Sequence[str]) -> str:
  more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
  return ", ".join(map(printable, names[:_LISTED])) + more
