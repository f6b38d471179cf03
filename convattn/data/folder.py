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

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convattn.data.broken import BrokenPicture, Skipped
from convattn.data.picture_source import PREPROCESSING, PictureSource, readable_names
from convattn.data.sources import Dataset
from convattn.errors import UserError
from convattn.pretrained import Preprocessing, open_picture
from convattn.pretrained.pictures import SUFFIXES

if TYPE_CHECKING:
  import PIL.Image


@dataclasses.dataclass(frozen=True, eq=False)
class FolderSource(PictureSource):
  """Pictures on the disk as examples, decoded at each access.

  Attributes:
    files: path of each picture.
    labels: int32 [n].
    preprocessing, skipped: see PictureSource.
  """

  files: np.ndarray
  labels: np.ndarray
  preprocessing: Preprocessing = PREPROCESSING
  skipped: Skipped | None = None

  def __len__(self) -> int:
    return len(self.files)

  def example(self, index: int) -> tuple["PIL.Image.Image", int]:
    """See PictureSource."""
    try:
      return open_picture(self.files[index]), int(self.labels[index])
    except ValueError as error:
      raise BrokenPicture(str(error), self.place(index)) from error

  def place(self, index: int) -> str:
    """See PictureSource."""
    return self.files[index]

  def replaced(self, **fields: Any) -> "FolderSource":
    """See PictureSource."""
    return dataclasses.replace(self, **fields)

  def take(self, indexes: np.ndarray, labels: np.ndarray) -> "FolderSource":
    """See LabelledSource."""
    return dataclasses.replace(self, files=self.files[indexes], labels=np.asarray(labels, np.int32))


def load_folder(directory: str) -> Dataset:
  """The pictures of a folder with 224 x 224 pixels, normalised to [-1, 1]; `data.load` changes that.

  Raises:
    UserError: no directory named, a validation part or a class that is missing or has no pictures, or a class of
      another part that train lacks; one line with the path and what to do.
  """
  if not directory:
    raise UserError(
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
      raise UserError(
        f"{path / unknown[0]} is a class that {parts['train']} lacks; add pictures of it there, or remove the folder."
      )
  return Dataset(
    **{split: _source(pictures, classes) for split, pictures in found.items()},
    class_names=readable_names(classes),
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
    raise UserError(f"{root} has both validation and val; keep one of them.")
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
    raise UserError(
      f"cannot read {error.filename or folder}: {error.strerror}; the data set 'folder' needs train/CLASS/*.jpg and "
      "validation/CLASS/*.jpg, or val/CLASS/*.jpg, in data.dir."
    ) from error
  if not found:
    raise UserError(f"{folder} has no folders; put its pictures into one folder per class, such as {folder}/cat/1.jpg.")
  for name in sorted(found):
    if not found[name]:
      raise UserError(f"{folder / name} holds no picture ({', '.join(SUFFIXES)}); add some, or remove the folder.")
  return found


def _files_below(folder: Path) -> list[str]:
  def refuse(error: OSError) -> None:
    raise error

  files, seen = [], set()
  for place, below, names in os.walk(folder, onerror=refuse, followlinks=True):
    if (real := os.path.realpath(place)) in seen:
      raise UserError(f"{place} is {real} once more, through a symbolic link; remove the link.")
    seen.add(real)
    below[:] = [name for name in below if not name.startswith(".")]
    files += [
      os.path.join(place, name) for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    ]
  return sorted(files)
