"""Pictures as they lie in files: which files are some, how one is read, and which way up it is to be seen."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

from convattn.errors import UserError

if TYPE_CHECKING:
  from PIL import Image

SUFFIXES = (
  *(".apng", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
  *(".tif", ".tiff", ".webp"),
)
"""Of the files in a folder that count as pictures, in upper or lower case: what every build of Pillow reads."""

_ORIENTATION = 0x0112
"""Number of EXIF's tag; its values are those of CIPA DC-008 (EXIF 2.32), section 4.6.4."""
_TURNS = {
  2: "FLIP_LEFT_RIGHT",
  3: "ROTATE_180",
  4: "FLIP_TOP_BOTTOM",
  5: "TRANSPOSE",
  6: "ROTATE_270",
  7: "TRANSVERSE",
  8: "ROTATE_90",
}
"""What Pillow must do to a picture of that orientation; 1 and whatever else is found: nothing."""


def is_picture(name: str) -> bool:
  """Whether a file in a folder counts as a picture, by its name: of one of SUFFIXES, and not hidden by a dot."""
  return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def open_picture(path: str | os.PathLike[str]) -> Image.Image:
  """The picture in a file, read whole. Its pixels stay as they lie in the file (but those of a TIFF, which Pillow turns
  as it reads): whether an orientation is followed is up to the preprocessing.

  Raises:
    UserError: nothing there, no picture, or a damaged one; one line with the path.
  """
  if not os.path.isfile(path):
    problem = "is a folder, not a picture" if os.path.isdir(path) else "is not there"
    raise UserError(f"{os.fspath(path)!r} {problem}; give the path of an image file, such as a JPEG or PNG.")
  return decode_picture(path, os.fspath(path))


def decode_picture(file: str | os.PathLike[str] | BinaryIO, name: str) -> Image.Image:
  """The picture in a file that is there, or in the bytes of an open one, read whole; `name` is what errors call it.

  Raises:
    UserError: no picture, or a damaged one; one line with the name.
  """
  from PIL import Image, UnidentifiedImageError

  try:
    with Image.open(file) as picture:
      picture.load()
  except UnidentifiedImageError as error:
    raise UserError(f"{name!r} is no picture that Pillow can read; save it as JPEG or PNG.") from error
  except Exception as error:  # each decoder has its own: OSError, SyntaxError, RuntimeError, struct.error, ...
    reason = " ".join(str(error).split())
    raise UserError(f"{name!r} is a damaged or too large picture ({reason}); fetch or save it again.") from error
  return picture


def upright(picture: Image.Image) -> Image.Image:
  """The picture turned and mirrored as its EXIF orientation (or XMP's) says, and without that; else the picture itself.

  So is one whose EXIF block cannot be read: nothing is known of it then, and its pixels are whole.
  """
  from PIL import Image

  try:
    turn = _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
  except Exception:  # each of its readers has its own: SyntaxError, struct.error, KeyError, ...
    return picture
  if turn is None:
    return picture
  # Not ImageOps.exif_transpose: it writes the block anew, and raises where another tag in it is damaged.
  turned = picture.transpose(Image.Transpose[turn])
  turned.info = {name: value for name, value in picture.info.items() if name == "transparency"}
  return turned
