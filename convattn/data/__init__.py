"""Data sets through TFDS or from a folder of pictures, batches as functions of (seed, step), and augmentation.

Importing this package imports neither TFDS nor scikit-learn nor Pillow: `load` does, when it is called. Names are
fetched on first use, so that a process that only decodes pictures (see `Workers`) does without jax.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from convattn.data.augmentation import (
    color_jitter,
    cutmix,
    mixup,
    mixup_or_cutmix,
    normalize,
    random_crop,
    random_flip,
  )
  from convattn.data.batches import evaluation_batches, train_batch, train_indexes
  from convattn.data.broken import BrokenPicture, Skipped
  from convattn.data.folder import FolderSource
  from convattn.data.host_augmentation import HostAugmentation, augmented_batch
  from convattn.data.loading import adapt, load
  from convattn.data.randaugment import rand_augment
  from convattn.data.records import RecordSource
  from convattn.data.selection import select
  from convattn.data.sources import ArraySource, Dataset, Item, LabelledSource, Source, in_memory
  from convattn.data.workers import Workers, WorkersEnded

_HOMES = {
  "ArraySource": "sources",
  "BrokenPicture": "broken",
  "Dataset": "sources",
  "FolderSource": "folder",
  "HostAugmentation": "host_augmentation",
  "Item": "sources",
  "LabelledSource": "sources",
  "RecordSource": "records",
  "Skipped": "broken",
  "Source": "sources",
  "Workers": "workers",
  "WorkersEnded": "workers",
  "adapt": "loading",
  "augmented_batch": "host_augmentation",
  "color_jitter": "augmentation",
  "cutmix": "augmentation",
  "evaluation_batches": "batches",
  "in_memory": "sources",
  "load": "loading",
  "mixup": "augmentation",
  "mixup_or_cutmix": "augmentation",
  "normalize": "augmentation",
  "rand_augment": "randaugment",
  "random_crop": "augmentation",
  "random_flip": "augmentation",
  "select": "selection",
  "train_batch": "batches",
  "train_indexes": "batches",
}

__all__ = [
  "ArraySource",
  "BrokenPicture",
  "Dataset",
  "FolderSource",
  "HostAugmentation",
  "Item",
  "LabelledSource",
  "RecordSource",
  "Skipped",
  "Source",
  "Workers",
  "WorkersEnded",
  "adapt",
  "augmented_batch",
  "color_jitter",
  "cutmix",
  "evaluation_batches",
  "in_memory",
  "load",
  "mixup",
  "mixup_or_cutmix",
  "normalize",
  "rand_augment",
  "random_crop",
  "random_flip",
  "select",
  "train_batch",
  "train_indexes",
]


def __getattr__(name: str) -> Any:
  if name not in _HOMES:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}.")
  return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
  return sorted(__all__)
