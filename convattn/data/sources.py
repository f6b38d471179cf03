"""What a data set is to us."""

import dataclasses
import inspect
from typing import Any, Protocol, TypedDict, cast

import numpy as np

from convattn.data.broken import Skipped
from convattn.errors import UserError
from convattn.pretrained import Preprocessing


class Item(TypedDict):
  """One example: image uint8 [h, w, c], label an integer from 0."""

  image: np.ndarray
  label: int


class Source(Protocol):
  """Examples by random access; all images of one shape. A TFDS data source (`builder.as_data_source(split)`) is one.

  A source may also have `__getitems__(indexes) -> list[Item]`, which batches prefer: several examples at once, the same
  as one by one; and `skipped` and `image_shape`, see PictureSource, if some of its examples may be left out.
  """

  def __len__(self) -> int: ...

  def __getitem__(self, index: int, /) -> Item: ...


class LabelledSource(Source, Protocol):
  """A source whose labels, int32 [n], can be had without decoding an image, and of which a part can be had."""

  @property
  def labels(self) -> np.ndarray: ...

  def take(self, indexes: np.ndarray, labels: np.ndarray) -> "LabelledSource":
    """The examples `indexes`, int [m], in that order, with the labels [m] instead of their own."""
    ...

  def processed(self, preprocessing: Preprocessing) -> "LabelledSource":
    """The same examples with the images that `preprocessing.pixels` makes of them."""
    ...


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
  """Examples held in memory: images uint8 [n, h, w, c], labels integer [n] (kept as int32).

  Raises:
    AssertionError: a wrong rank or length, naming the argument.
    UserError: a wrong dtype, or a negative label.
  """

  images: np.ndarray
  labels: np.ndarray

  def __post_init__(self) -> None:
    import chex  # here, because it imports jax, which processes that only decode do without

    images, labels = np.asarray(self.images), np.asarray(self.labels)
    chex.assert_rank(images, 4, custom_message="images must be [n, h, w, c]")
    chex.assert_shape(labels, (len(images),), custom_message="labels must be [n], one for each image")
    if images.dtype != np.uint8:
      raise UserError(f"images must be uint8, got {images.dtype}; scale to 0..255 and call .astype('uint8').")
    if not np.issubdtype(labels.dtype, np.integer):
      raise UserError(f"labels must be integers, got {labels.dtype}; pass class indexes from 0.")
    if labels.size and labels.min() < 0:
      raise UserError(f"labels must not be negative, got {labels.min()}; number the classes from 0.")
    object.__setattr__(self, "images", images)
    object.__setattr__(self, "labels", labels.astype(np.int32))

  def __len__(self) -> int:
    return len(self.images)

  def __getitem__(self, index: int, /) -> Item:
    return {"image": self.images[index], "label": int(self.labels[index])}

  def take(self, indexes: np.ndarray, labels: np.ndarray) -> "ArraySource":
    """See LabelledSource."""
    return ArraySource(self.images[indexes], labels)

  def processed(self, preprocessing: Preprocessing) -> "ArraySource":
    """See LabelledSource; every image is made now."""
    shape = (len(self), *preprocessing.image_size, len(preprocessing.mean))
    images = np.empty(shape, np.uint8)
    for index, image in enumerate(self.images):
      images[index] = preprocessing.pixels(image)
    return ArraySource(images, self.labels)


def skipped_of(source: Source) -> Skipped | None:
  """Where pictures of `source` that cannot be read are counted; None: they raise."""
  return getattr(source, "skipped", None)


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
    mean, std: what images are normalised with, one number per channel, in units of [0, 1] (a pixel is value / 255);
      of the train split's pixels, unless a pretrained model brought its own.
    crop_fraction, crop_mode, interpolation, exif: how a picture of any size becomes one of `image_shape`, see
      Preprocessing.
    remarks: what there is to say of how the images were found, for people.

  Raises:
    UserError: the fields do not fit each other.
  """

  train: Source
  validation: Source
  test: Source
  class_names: tuple[str, ...]
  image_shape: tuple[int, int, int]
  mean: tuple[float, ...]
  std: tuple[float, ...]
  crop_fraction: float = 1.0
  crop_mode: str = "squash"
  interpolation: str = "bicubic"
  exif: bool = False
  remarks: tuple[str, ...] = ()

  def __post_init__(self) -> None:
    if len(self.image_shape) != 3:
      raise UserError(f"image_shape must be (h, w, c), got {self.image_shape}.")
    channels = self.image_shape[-1]
    for name in ("mean", "std"):
      if len(getattr(self, name)) != channels:
        raise UserError(f"{name} must have {channels} numbers, one per channel, got {getattr(self, name)}.")
    if not all(value > 0 for value in self.std):
      raise UserError(f"std must be positive, got {self.std}; use 1.0 for a channel that never varies.")
    if not self.class_names:
      raise UserError("class_names must name at least one class, got ().")

  @property
  def num_classes(self) -> int:
    return len(self.class_names)

  @property
  def labelled(self) -> dict[str, LabelledSource]:
    """Its three sources by the name of their split, if a part of them can be had.

    Raises:
      UserError: one of them is no LabelledSource.
    """
    sources = {}
    for split in ("train", "validation", "test"):
      source = getattr(self, split)
      # Looked up without asking for them: labels may take a pass over all records.
      if any(inspect.getattr_static(source, name, None) is None for name in ("labels", "take", "processed")):
        raise UserError(f"{split} must be a source with labels, got {type(source).__name__}; use in_memory(source).")
      sources[split] = cast(LabelledSource, source)
    return sources

  def skipped(self) -> int:
    """How many pictures could not be read so far and were left out, each counted once."""
    kept = [skipped_of(source) for source in (self.train, self.validation, self.test)]
    return sum({id(each): len(each) for each in kept if each is not None}.values())

  @property
  def preprocessing(self) -> Preprocessing:
    """What a picture goes through to become an input of a model trained on this data set."""
    h, w, _ = self.image_shape
    return Preprocessing(
      image_size=(h, w),
      mean=self.mean,
      std=self.std,
      crop_fraction=self.crop_fraction,
      crop_mode=self.crop_mode,
      interpolation=self.interpolation,
      exif=self.exif,
    )


def fields_of(preprocessing: Preprocessing) -> dict[str, Any]:
  """The fields of a `Dataset` that `Dataset.preprocessing` is made of."""
  fields = {field.name: getattr(preprocessing, field.name) for field in dataclasses.fields(preprocessing)}
  return {"image_shape": (*fields.pop("image_size"), len(preprocessing.mean)), **fields}
