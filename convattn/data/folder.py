"""The data set "folder": pictures on the disk, sorted by hand into one folder per class.

DIR/train/CLASS/*.jpg, DIR/validation/CLASS/*.jpg (or DIR/val) and DIR/test/CLASS/*.jpg. Pictures may lie in folders
below CLASS. Files are those whose names end in `SUFFIXES`, in any case; names that begin with a dot are passed over,
symbolic links are followed. Without DIR/test the validation part stands in as the test part too: its score is then no
estimate for images that nothing was chosen by. Without DIR/train a model can be scored, not trained; the classes are
then those of the other parts.

Labels number the sorted names of the folders in DIR/train (by code point, so "10" comes before "9"). If all of them are
ImageNet's identifiers, such as n01440764, the classes are called what `pretrained.synset_names` says; sorted
identifiers are ImageNet's usual order of labels. Pictures are decoded when they are asked for, and their pixels stay as
the file stores them: an EXIF orientation is not applied, since the pretrained models were trained and scored without.
"""

import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from convattn.data.sources import Dataset, Item
from convattn.pretrained import Preprocessing, open_picture, synset_names

if TYPE_CHECKING:
  import PIL.Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""Of the files that are read."""

PREPROCESSING = Preprocessing(
  image_size=(224, 224),
  mean=(0.5, 0.5, 0.5),
  std=(0.5, 0.5, 0.5),
  crop_fraction=0.95,
  crop_mode="center",
  interpolation="bicubic",
)
"""Of a folder unless told otherwise: that of most pretrained weights of this family."""

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


class BrokenPicture(ValueError):
  """A file of a data set that is not there any more, or cannot be decoded; one line with its path."""


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


@dataclasses.dataclass(frozen=True, eq=False)
class FolderSource:
  """Pictures on the disk as examples, decoded at each access.

  Attributes:
    files: path of each picture.
    labels: int32 [n].
    preprocessing: makes a picture of any size an image of one shape.
  """

  files: np.ndarray
  labels: np.ndarray
  preprocessing: Preprocessing = PREPROCESSING

  def __len__(self) -> int:
    return len(self.files)

  def picture(self, index: int) -> "PIL.Image.Image":
    """The whole picture, as it lies on the disk.

    Raises:
      BrokenPicture: it cannot be decoded.
    """
    try:
      return open_picture(self.files[index])
    except ValueError as error:
      raise BrokenPicture(str(error)) from error

  def converted(self, index: int, picture: "PIL.Image.Image", preprocessing: Preprocessing) -> np.ndarray:
    """`preprocessing.pixels(picture)` for a part of picture `index`, whose path an error names.

    Raises:
      BrokenPicture: it cannot be made grey or RGB.
    """
    try:
      return preprocessing.pixels(picture)
    except ValueError as error:
      raise BrokenPicture(f"{self.files[index]!r}: {error}") from error

  def __getitem__(self, index: int, /) -> Item:
    image = self.converted(index, self.picture(index), self.preprocessing)
    return {"image": image, "label": int(self.labels[index])}

  def __getitems__(self, indexes: Sequence[int]) -> list[Item]:
    """Several examples, decoded side by side."""
    return in_threads(self.__getitem__, indexes)

  def take(self, indexes: np.ndarray, labels: np.ndarray) -> "FolderSource":
    """See LabelledSource."""
    return dataclasses.replace(self, files=self.files[indexes], labels=np.asarray(labels, np.int32))

  def processed(self, preprocessing: Preprocessing) -> "FolderSource":
    """See LabelledSource."""
    return dataclasses.replace(self, preprocessing=preprocessing)


def load_folder(directory: str) -> Dataset:
  """The pictures of a folder with 224 x 224 pixels, normalised to [-1, 1]; `data.load` changes that.

  Raises:
    ValueError: no directory named, a validation part or a class that is missing or has no pictures, or a class of
      another part that train lacks; one line with the path and what to do.
  """
  if not directory:
    raise ValueError(
      "the data set 'folder' needs the folder's name, which holds train/CLASS/*.jpg and validation/CLASS/*.jpg; give "
      "--config.data.dir=DIR."
    )
  root = Path(directory).expanduser().absolute()
  validation = _validation_folder(root)
  parts = {"train": root / "train", "validation": validation}
  parts["test"] = root / "test" if (root / "test").exists() else validation
  found = {split: _pictures(path) for split, path in parts.items() if split != "train" or path.exists()}
  found.setdefault("train", {})  # to score a model needs no more than the part to score it on
  classes = sorted(found["train"] or {*found["validation"], *found["test"]})
  for split, path in parts.items():
    unknown = sorted(set(found[split]) - set(classes))
    if unknown:
      raise ValueError(
        f"{path / unknown[0]} is a class that {parts['train']} lacks; add pictures of it there, or remove the folder."
      )
  return Dataset(
    **{split: _source(pictures, classes) for split, pictures in found.items()},
    class_names=_class_names(classes),
    image_shape=(*PREPROCESSING.image_size, len(PREPROCESSING.mean)),
    mean=PREPROCESSING.mean,
    std=PREPROCESSING.std,
    crop_fraction=PREPROCESSING.crop_fraction,
    crop_mode=PREPROCESSING.crop_mode,
    interpolation=PREPROCESSING.interpolation,
  )


def _validation_folder(root: Path) -> Path:
  there = [path for path in (root / "validation", root / "val") if path.exists()]
  if len(there) == 2:
    raise ValueError(f"{root} has both validation and val; keep one of them.")
  return there[0] if there else root / "validation"


def _source(pictures: dict[str, list[str]], classes: Sequence[str]) -> FolderSource:
  counts = [len(pictures.get(name, ())) for name in classes]
  files = [file for name in classes for file in pictures.get(name, ())]
  return FolderSource(np.array(files, dtype=object), np.repeat(np.arange(len(classes), dtype=np.int32), counts))


def _pictures(folder: Path) -> dict[str, list[str]]:
  """The sorted paths of the pictures of each class."""
  try:
    classes = [entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")]
    found = {name: _files_below(folder / name) for name in classes}
  except OSError as error:
    raise ValueError(
      f"cannot read {error.filename or folder}: {error.strerror}; the data set 'folder' needs train/CLASS/*.jpg and "
      "validation/CLASS/*.jpg in data.dir."
    ) from error
  if not found:
    raise ValueError(
      f"{folder} has no folders; put its pictures into one folder per class, such as {folder}/cat/1.jpg."
    )
  for name in sorted(found):
    if not found[name]:
      raise ValueError(f"{folder / name} holds no picture ({', '.join(SUFFIXES)}); add some, or remove the folder.")
  return found


def _files_below(folder: Path) -> list[str]:
  def refuse(error: OSError) -> None:
    raise error

  files, seen = [], set()
  for place, below, names in os.walk(folder, onerror=refuse, followlinks=True):
    if (real := os.path.realpath(place)) in seen:
      raise ValueError(f"{place} is {real} once more, through a symbolic link; remove the link.")
    seen.add(real)
    below[:] = [name for name in below if not name.startswith(".")]
    files += [
      os.path.join(place, name) for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    ]
  return sorted(files)


def _class_names(folders: Sequence[str]) -> tuple[str, ...]:
  known = synset_names()
  return tuple(known[name] for name in folders) if all(name in known for name in folders) else tuple(folders)
