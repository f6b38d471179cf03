"""Pictures as examples, decoded when they are asked for, wherever their bytes come from."""

import concurrent.futures
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from convattn.data.broken import BrokenPicture, Skipped
from convattn.data.sources import Item
from convattn.pretrained import Preprocessing, synset_names

if TYPE_CHECKING:
  import PIL.Image

PREPROCESSING = Preprocessing(
  image_size=(224, 224),
  mean=(0.5, 0.5, 0.5),
  std=(0.5, 0.5, 0.5),
  crop_fraction=0.95,
  crop_mode="center",
  interpolation="bicubic",
)
"""Of pictures of many sizes unless told otherwise: that of most pretrained weights of this family."""

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


def num_cores() -> int:
  """Of the processor, as many as this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(function: Callable[[_Given], _Made], items: Sequence[_Given]) -> list[_Made]:
  """[function(item) for item in items], on all processor cores while Pillow works outside Python's lock.

  The first of `items` that raises, raises.
  """
  # Threads of one batch only: kept ones would be missing, and waited for, in a process forked off this one.
  workers = min(num_cores(), len(items))
  if workers <= 1:
    return [function(item) for item in items]
  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    return list(pool.map(function, items))


def readable_names(classes: Sequence[str]) -> tuple[str, ...]:
  """What people call the classes, if all of them are ImageNet's identifiers such as n01440764; else as they are."""
  known = synset_names()
  return tuple(known[name] for name in classes) if all(name in known for name in classes) else tuple(classes)


class PictureSource:
  """What a folder and records have in common. A subclass is a frozen dataclass with `__len__`, `labels`, `take`.

  Attributes:
    preprocessing: makes a picture of any size an image of one shape.
    skipped: collects the pictures that cannot be read, which batches then leave out; None: they raise.
  """

  preprocessing: Preprocessing
  skipped: Skipped | None

  def example(self, index: int) -> tuple["PIL.Image.Image", int]:
    """The whole picture as it was stored, and its label.

    Raises:
      BrokenPicture: it cannot be decoded.
    """
    raise NotImplementedError

  def place(self, index: int) -> str:
    """Where picture `index` lies, for people."""
    raise NotImplementedError

  def replaced(self, **fields: Any) -> Self:
    """The source with other fields."""
    raise NotImplementedError

  @property
  def image_shape(self) -> tuple[int, int, int]:
    return (*self.preprocessing.image_size, len(self.preprocessing.mean))

  def converted(self, index: int, picture: "PIL.Image.Image", preprocessing: Preprocessing) -> np.ndarray:
    """`preprocessing.pixels(picture)` for a part of picture `index`, whose place an error names.

    Raises:
      BrokenPicture: it cannot be made grey or RGB.
    """
    try:
      return preprocessing.pixels(picture)
    except ValueError as error:
      raise BrokenPicture(f"{self.place(index)!r}: {error}", self.place(index)) from error

  def __getitem__(self, index: int, /) -> Item:
    picture, label = self.example(index)
    return {"image": self.converted(index, picture, self.preprocessing), "label": label}

  def __getitems__(self, indexes: Sequence[int]) -> list[Item]:
    """Several examples, decoded side by side."""
    return in_threads(self.__getitem__, indexes)

  def processed(self, preprocessing: Preprocessing) -> Self:
    """See LabelledSource."""
    return self.replaced(preprocessing=preprocessing)
