"""Data sets through TFDS, batches as functions of (seed, step), and augmentation on the device.

Importing this package imports neither TFDS nor scikit-learn: `load` does, when it is called.
"""

from convattn.data.augmentation import mixup, normalize, random_crop, random_flip
from convattn.data.batches import evaluation_batches, train_batch, train_indexes
from convattn.data.sources import ArraySource, Dataset, Item, Source, in_memory, load

__all__ = [
  "ArraySource",
  "Dataset",
  "Item",
  "Source",
  "evaluation_batches",
  "in_memory",
  "load",
  "mixup",
  "normalize",
  "random_crop",
  "random_flip",
  "train_batch",
  "train_indexes",
]
