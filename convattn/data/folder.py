"""The data set "folder": pictures on the disk, sorted by hand into one folder per class.

DIR/train/CLASS/*.jpg, DIR/validation/CLASS/*.jpg (or DIR/val) and DIR/test/CLASS/*.jpg. Pictures may lie in folders
below CLASS. Files are those whose names end in `SUFFIXES`, in any case; names that begin with a dot are passed over,
symbolic links are followed. Without DIR/test the validation part stands in as the test part too: its score is then no
estimate for images that nothing was chosen by. Without DIR/train a model can be scored, not trained; the classes are
then those of the other parts. With none of these folders the classes are DIR/CLASS/*.jpg, and the three parts are
drawn, see `drawn_parts`.

Labels number the sorted names of the class folders, of those in DIR/train (by code point, so "10" comes before "9"). If
all of them are ImageNet's identifiers, such as n01440764, the classes are called what `pretrained.synset_names` says;
sorted identifiers are ImageNet's usual order of labels. Pictures are decoded when they are asked for, and turned as
their EXIF orientation says where the preprocessing does so.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convattn.data.broken import BrokenPicture, Skipped
from convattn.data.drawn_parts import draw_parts
from convattn.data.picture_source import PREPROCESSING, PictureSource, readable_names
from convattn.data.scanning import class_folders, passed_over
from convattn.data.sources import Dataset, fields_of
from convattn.errors import UserError
from convattn.pretrained import Preprocessing, open_picture

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
    UserError: no directory named, a part or a class that is missing or has no pictures, or a class of another part
      that train lacks; one line with the path and what to do.
  """
  if not directory:
    raise UserError(
      "the data set 'folder' needs the folder's name, which holds CLASS/*.jpg, or train/CLASS/*.jpg and "
      "validation/CLASS/*.jpg; give --config.data.dir=DIR."
    )
  root = Path(directory).expanduser().absolute()
  is_sorted = any((root / name).exists() for name in ("train", "validation", "val", "test"))
  parts, remarks = _sorted_parts(root) if is_sorted else _drawn_parts(root)
  classes = sorted(parts["train"] or {*parts["validation"], *parts["test"]})
  sources: dict[str, Any] = {split: _source(pictures, classes) for split, pictures in parts.items()}
  return Dataset(
    **sources,
    class_names=readable_names(classes),
    **fields_of(PREPROCESSING),
    remarks=tuple(remarks),
  )


_Parts = dict[str, dict[str, list[str]]]


def _sorted_parts(root: Path) -> tuple[_Parts, list[str]]:
  """(split -> class -> paths of its pictures, remarks) of a folder that holds the parts."""
  validation = _validation_folder(root)
  if not validation.is_dir():
    part = next(name for name in ("train", "test", "validation", "val") if (root / name).exists())
    raise UserError(
      f"{root / part} makes {root} one that is sorted into parts, but there is no folder validation (or val); add one, "
      f"sort into train/CLASS and validation/CLASS, or call {part} otherwise if it is a class."
    )
  folders = {"train": root / "train", "validation": validation, "test": root / "test"}
  found = {split: class_folders(path) for split, path in folders.items() if split == "validation" or path.exists()}
  parts = {split: each.pictures for split, each in found.items()}
  remarks = []
  if "test" not in parts:
    parts["test"] = parts["validation"]
    remarks.append("there is no test folder, validation stands in")
  parts.setdefault("train", {})  # to score a model needs no more than the part to score it on
  for split in ("validation", "test"):
    unknown = sorted(parts[split].keys() - parts["train"].keys()) if parts["train"] else []
    if unknown:
      raise UserError(
        f"{folders[split] / unknown[0]} is a class that {folders['train']} lacks; add pictures of it there, or remove "
        "the folder."
      )
  return parts, remarks + passed_over([*found.values()])


_LIKE_PARTS = ("train", "training", "val", "valid", "validation", "test", "testing")


def _drawn_parts(root: Path) -> tuple[_Parts, list[str]]:
  """As `_sorted_parts`, of a folder that holds the class folders themselves."""
  found = class_folders(root)
  for name, files in found.pictures.items():
    if name.lower() in _LIKE_PARTS and not any(Path(file).parent == root / name for file in files):
      raise UserError(
        f"{root / name} holds folders, as a part would; call the parts train, validation (or val) and test, or the "
        "class otherwise."
      )
  remarks = ["there is no train, validation or test folder, the parts are drawn by file name"]
  if not any(Path(file).parent == root / name for name, files in found.pictures.items() for file in files):
    remarks.append("no class folder holds a picture itself (parts would be called train, validation and test)")
  return draw_parts(root, found.pictures), remarks + passed_over([found])


def _validation_folder(root: Path) -> Path:
  there = [path for path in (root / "validation", root / "val") if path.exists()]
  if len(there) == 2:
    raise UserError(f"{root} has both validation and val; keep one of them.")
  return there[0] if there else root / "validation"


def _source(pictures: dict[str, list[str]], classes: Sequence[str]) -> FolderSource:
  counts = [len(pictures.get(name, ())) for name in classes]
  files = [file for name in classes for file in pictures.get(name, ())]
  return FolderSource(np.array(files, dtype=object), np.repeat(np.arange(len(classes), dtype=np.int32), counts))
