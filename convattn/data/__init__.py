"""Data sets through TFDS or from a folder of pictures, batches as functions of (seed, step), and augmentation.

Importing this package imports neither TFDS nor scikit-learn nor Pillow: `load` does, when it is called. Names are
fetched on first use, so that a process that only decodes pictures (see `Workers`) does without jax.
"""

from typing import TYPE_CHECKING

from convattn.lazy import lazy_names

if TYPE_CHECKING:
  from convattn.data.augmentation import (
    color_jitter as color_jitter,
    cutmix as cutmix,
    mixup as mixup,
    mixup_or_cutmix as mixup_or_cutmix,
    normalize as normalize,
    random_crop as random_crop,
    random_erasing as random_erasing,
    random_flip as random_flip,
  )
  from convattn.data.batches import (
    evaluation_batches as evaluation_batches,
    train_batch as train_batch,
    train_indexes as train_indexes,
  )
  from convattn.data.broken import BrokenPicture as BrokenPicture, Skipped as Skipped
  from convattn.data.folder import FolderSource as FolderSource
  from convattn.data.host_augmentation import HostAugmentation as HostAugmentation, augmented_batch as augmented_batch
  from convattn.data.loading import adapt as adapt, load as load
  from convattn.data.randaugment import rand_augment as rand_augment
  from convattn.data.records import RecordSource as RecordSource
  from convattn.data.selection import select as select
  from convattn.data.sources import (
    ArraySource as ArraySource,
    Dataset as Dataset,
    Item as Item,
    LabelledSource as LabelledSource,
    Source as Source,
    in_memory as in_memory,
  )
  from convattn.data.workers import Workers as Workers, WorkersEnded as WorkersEnded

__getattr__, __dir__, __all__ = lazy_names(
  __name__,
  {
    "augmentation": "color_jitter cutmix mixup mixup_or_cutmix normalize random_crop random_erasing random_flip",
    "batches": "evaluation_batches train_batch train_indexes",
    "broken": "BrokenPicture Skipped",
    "folder": "FolderSource",
    "host_augmentation": "HostAugmentation augmented_batch",
    "loading": "adapt load",
    "randaugment": "rand_augment",
    "records": "RecordSource",
    "selection": "select",
    "sources": "ArraySource Dataset Item LabelledSource Source in_memory",
    "workers": "Workers WorkersEnded",
  },
)
