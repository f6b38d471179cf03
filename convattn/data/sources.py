"""What a data set is to us, and the data sets known by name."""

import dataclasses
import difflib
from collections.abc import Callable
from typing import Protocol, TypedDict

import chex
import numpy as np

from convattn.data.preparation import data_root, prepared


class Item(TypedDict):
  """One example: image uint8 [h, w, c], label an integer from 0."""

  image: np.ndarray
  label: int


class Source(Protocol):
  """Examples by random access; all images of one shape. A TFDS data source (`builder.as_data_source(split)`) is one."""

  def __len__(self) -> int: ...

  def __getitem__(self, index: int, /) -> Item: ...


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
  """Examples held in memory: images uint8 [n, h, w, c], labels integer [n] (kept as int32).

  Raises:
    AssertionError: a wrong rank or length, naming the argument.
    ValueError: a wrong dtype, or a negative label.
  """

  images: np.ndarray
  labels: np.ndarray

  def __post_init__(self) -> None:
    images, labels = np.asarray(self.images), np.asarray(self.labels)
    chex.assert_rank(images, 4, custom_message="images must be [n, h, w, c]")
    chex.assert_shape(labels, (len(images),), custom_message="labels must be [n], one for each image")
    if images.dtype != np.uint8:
      raise ValueError(f"images must be uint8, got {images.dtype}; scale to 0..255 and call .astype('uint8').")
    if not np.issubdtype(labels.dtype, np.integer):
      raise ValueError(f"labels must be integers, got {labels.dtype}; pass class indexes from 0.")
    if labels.size and labels.min() < 0:
      raise ValueError(f"labels must not be negative, got {labels.min()}; number the classes from 0.")
    object.__setattr__(self, "images", images)
    object.__setattr__(self, "labels", labels.astype(np.int32))

  def __len__(self) -> int:
    return len(self.images)

  def __getitem__(self, index: int, /) -> Item:
    return {"image": self.images[index], "label": int(self.labels[index])}


def in_memory(source: Source) -> ArraySource:
  """All examples of `source`, read and decoded once. For data sets that fit: every later access costs a slice."""
  items = [source[index] for index in range(len(source))]
  return ArraySource(
    images=np.stack([item["image"] for item in items]), labels=np.array([int(item["label"]) for item in items])
  )


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """Three sources and what a model must know about them.

  Attributes:
    train, validation, test: examples to learn from, to choose by, and to score once.
    class_names: the name of each label.
    image_shape: (h, w, c) of every image.
    mean, std: of the train split's pixels, one number per channel, in units of [0, 1] (a pixel is value / 255).

  Raises:
    ValueError: the fields do not fit each other.
  """

  train: Source
  validation: Source
  test: Source
  class_names: tuple[str, ...]
  image_shape: tuple[int, int, int]
  mean: tuple[float, ...]
  std: tuple[float, ...]

  def __post_init__(self) -> None:
    if len(self.image_shape) != 3:
      raise ValueError(f"image_shape must be (h, w, c), got {self.image_shape}.")
    channels = self.image_shape[-1]
    for name in ("mean", "std"):
      if len(getattr(self, name)) != channels:
        raise ValueError(f"{name} must have {channels} numbers, one per channel, got {getattr(self, name)}.")
    if not all(value > 0 for value in self.std):
      raise ValueError(f"std must be positive, got {self.std}; use 1.0 for a channel that never varies.")
    if not self.class_names:
      raise ValueError("class_names must name at least one class, got ().")

  @property
  def num_classes(self) -> int:
    return len(self.class_names)


def _load_digits(directory: str) -> Dataset:
  # Here because it imports TFDS, which `import convattn.data` must not.
  from convattn.data import digits

  builder = prepared(digits.Digits, data_root(directory))
  sources = {split: in_memory(builder.as_data_source(split)) for split in ("train", "validation", "test")}
  return Dataset(
    **sources, class_names=digits.CLASS_NAMES, image_shape=digits.IMAGE_SHAPE, mean=digits.MEAN, std=digits.STD
  )


_LOADERS: dict[str, Callable[[str], Dataset]] = {"digits": _load_digits}


def load(name: str, directory: str = "") -> Dataset:
  """The data set `name`, prepared first if it is missing.

  Args:
    name: "digits", the embedded data set.
    directory: where prepared data lies; empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets.

  Raises:
    ValueError: an unknown name, or data that is missing and cannot be written to `directory`.
  """
  if name not in _LOADERS:
    nearest = difflib.get_close_matches(name, _LOADERS, n=3)
    hint = f"did you mean {' or '.join(map(repr, nearest))}? " if nearest else ""
    raise ValueError(f"unknown data set {name!r}; {hint}Known: {', '.join(sorted(_LOADERS))}.")
  return _LOADERS[name](directory)
