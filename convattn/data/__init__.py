"""Data sets through TFDS or from a folder of pictures, batches as functions of (seed, step), and augmentation.

Importing this package imports neither TFDS nor scikit-learn nor Pillow: `load` does, when it is called.
"""

from convattn.data.augmentation import mixup, normalize, random_crop, random_flip
from convattn.data.batches import evaluation_batches, train_batch, train_indexes
from convattn.data.folder import BrokenPicture, FolderSource
from convattn.data.host_augmentation import HostAugmentation, augmented_batch
from convattn.data.loading import adapt, load
from convattn.data.randaugment import rand_augment
from convattn.data.selection import select
from convattn.data.sources import ArraySource, Dataset, Item, LabelledSource, Source, in_memory

__all__ = [
  "ArraySource",
  "BrokenPicture",
  "Dataset",
  "FolderSource",
  "HostAugmentation",
  "Item",
  "LabelledSource",
  "Source",
  "adapt",
  "augmented_batch",
  "evaluation_batches",
  "in_memory",
  "load",
  "mixup",
  "normalize",
  "rand_augment",
  "random_crop",
  "random_flip",
  "select",
  "train_batch",
  "train_indexes",
]
