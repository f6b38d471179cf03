"""The parts of a class folder that has none: drawn by file name, the same ones each time, whatever is added."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from convattn.errors import UserError, counted

_TEST, _VALIDATION = 0.1, 0.2
"""A picture whose share is below the first is for the test, of the others one below the second for validation."""


def share(name: str) -> float:
  """A number in [0, 1) made of the SHA-256 of a name's bytes: as if drawn, and the same one everywhere."""
  return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:6], "big") / 2**48


def draw_parts(root: Path, pictures: Mapping[str, Sequence[str]]) -> dict[str, dict[str, list[str]]]:
  """About a tenth of the pictures for the test, a tenth for validation, the others to train on.

  Where a picture goes is a function of its path below `root` (CLASS/1.jpg), so that adding, removing or changing others
  moves none, with two exceptions where there are few: of each class the picture with the largest share is trained on,
  and of the others, sorted by their share, at least the first is for the test and the one behind for validation.

  Args:
    root: the folder of class folders.
    pictures: class -> the paths of its pictures.

  Returns:
    {"train", "validation", "test"}: class -> sorted paths; a class that a part lacks is not in it.

  Raises:
    UserError: fewer than two pictures beside one of each class.
  """
  shares = {
    file: (share(Path(file).relative_to(root).as_posix()), file) for files in pictures.values() for file in files
  }
  kept = {max(files, key=shares.__getitem__) for files in pictures.values()}
  left = sorted(shares.keys() - kept, key=shares.__getitem__)
  if len(left) < 2:
    raise UserError(
      f"{root} has {counted(len(shares), 'picture')} in {counted(len(pictures), 'class folder')}, too few to draw a "
      "validation and a test part from beside one of each class to train on; add some, or sort them into train/CLASS "
      "and validation/CLASS."
    )
  below = [sum(shares[file][0] < bound for file in left) for bound in (_TEST, _VALIDATION)]
  tested = min(max(below[0], 1), len(left) - 1)
  part_of = dict.fromkeys(left[: max(below[1], tested + 1)], "validation") | dict.fromkeys(left[:tested], "test")
  parts: dict[str, dict[str, list[str]]] = {"train": {}, "validation": {}, "test": {}}
  for name, files in pictures.items():
    for file in sorted(files):
      parts[part_of.get(file, "train")].setdefault(name, []).append(file)
  return parts
