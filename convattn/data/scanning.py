"""Which files in a folder are pictures, and which are passed over."""

import collections
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from convattn.errors import UserError, printable
from convattn.pretrained.picture_files import SUFFIXES, is_picture

_KINDS = 5
"""Suffixes that are named; of more their number is told."""


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
  """The pictures in a folder of class folders.

  Attributes:
    pictures: class -> the sorted paths of its pictures, at least one.
    others: suffix in lower case, "" for none -> how many files in the class folders or beside them are no pictures by
      their name; hidden ones are not counted.
    loose: how many pictures lie in no class folder.
  """

  pictures: dict[str, list[str]]
  others: collections.Counter[str]
  loose: int


def class_folders(folder: Path) -> Found:
  """What lies in `folder`: a folder of pictures per class, in it or in folders below.

  Raises:
    UserError: no folder in it, or one without a picture; a link that leads back; or it cannot be read.
  """
  entries = [entry for entry in _entries(folder) if not entry.name.startswith(".")]
  others = {entry.name: collections.Counter[str]() for entry in entries if entry.is_dir()}
  pictures = {name: pictures_below(folder / name, kinds) for name, kinds in others.items()}
  if not pictures:
    raise UserError(
      f"{folder} has no folders; put its pictures into one folder per class, such as {folder}/cat/1.jpg (a class may "
      "not be called train, validation, val or test)."
    )
  for name in sorted(pictures):
    if not pictures[name]:
      instead = f" but {_listed(others[name])}" if others[name] else ""
      raise UserError(
        f"{folder / name} holds no picture ({', '.join(SUFFIXES)}){instead}; add some, or remove the folder."
      )
  beside = [entry.name for entry in entries if entry.name not in pictures]
  loose = collections.Counter(_suffix(name) for name in beside if not is_picture(name))
  return Found(pictures, sum(others.values(), loose), sum(map(is_picture, beside)))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
  try:
    return list(os.scandir(folder))
  except OSError as error:
    raise UserError(
      f"cannot read {folder}: {error.strerror}; the data set 'folder' needs train/CLASS/*.jpg and "
      "validation/CLASS/*.jpg (or val/CLASS/*.jpg), or CLASS/*.jpg alone, in data.dir."
    ) from error


def pictures_below(folder: str | os.PathLike[str], others: collections.Counter[str] | None = None) -> list[str]:
  """The sorted paths of the pictures in a folder, at any depth; links are followed, hidden names passed over.

  Args:
    folder: where to look.
    others: counts the suffixes of the other files.

  Raises:
    UserError: a folder that is there twice, through a link; or it cannot be read.
  """
  files = []
  for place, names in _walk(folder):
    files += [os.path.join(place, name) for name in names if is_picture(name)]
    if others is not None:
      others.update(_suffix(name) for name in names if not is_picture(name))
  return sorted(files)


def _walk(folder: str | os.PathLike[str]) -> Iterator[tuple[str, list[str]]]:
  """(folder, names of its files) of a folder and all below it, without what is hidden."""

  def refuse(error: OSError) -> None:
    raise UserError(
      f"cannot read {error.filename or folder}: {error.strerror}; make it readable, or remove it."
    ) from error

  seen = set()
  for place, below, names in os.walk(folder, onerror=refuse, followlinks=True):
    if (real := os.path.realpath(place)) in seen:
      raise UserError(f"{place} is {real} once more, through a symbolic link; remove the link.")
    seen.add(real)
    below[:] = [name for name in below if not name.startswith(".")]
    yield place, [name for name in names if not name.startswith(".")]


def _suffix(name: str) -> str:
  return os.path.splitext(name)[1].lower()


def passed_over(found: Sequence[Found]) -> list[str]:
  """What a user has to know of the files that were passed over: a text such as "passed over: 3 .txt, 1 .heic"."""
  others, loose = sum((each.others for each in found), collections.Counter[str]()), sum(each.loose for each in found)
  shown = [_listed(others)] * bool(others) + [f"{loose:,} picture{'s' * (loose > 1)} in no class folder"] * bool(loose)
  return [f"passed over: {', '.join(shown)}"] if shown else []


def _listed(kinds: collections.Counter[str]) -> str:
  """For instance "3 .txt, 1 .heic, 1 without a suffix": the most first."""
  ordered = sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))
  rest = sum(count for _, count in ordered[_KINDS:])
  shown = [f"{count:,} {printable(suffix) if suffix else 'without a suffix'}" for suffix, count in ordered[:_KINDS]]
  return ", ".join(shown + [f"{rest:,} of other kinds"] * bool(rest))
