"""Which files are pictures, and which way up one is: against the arrays that EXIF's eight orientations mean."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from convattn.pretrained import Preprocessing, decode_picture
from convattn.pretrained.picture_files import is_picture, upright

PIXELS = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
ORIENTATION = 0x0112
# CIPA DC-008, orientation: which edges of the scene the first row and the first column of the file are.
SEEN = {
  1: lambda a: a,  # top, left
  2: lambda a: a[:, ::-1],  # top, right
  3: lambda a: a[::-1, ::-1],  # bottom, right
  4: lambda a: a[::-1],  # bottom, left
  5: lambda a: a.swapaxes(0, 1),  # left, top
  6: lambda a: a.swapaxes(0, 1)[:, ::-1],  # right, top
  7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
  8: lambda a: a.swapaxes(0, 1)[::-1],  # left, bottom
}


def stored(exif, kind="PNG", picture=None, **options):
  """A picture as it is read from a file with that EXIF block: bytes, or an orientation."""
  if not isinstance(exif, bytes):
    block = Image.Exif()
    block[ORIENTATION] = exif
    exif = block.tobytes()
  file = io.BytesIO()
  (picture or Image.fromarray(PIXELS)).save(file, kind, exif=exif, **options)
  file.seek(0)
  return decode_picture(file, "it")


def block(*entries):
  """An EXIF block of (tag, type, count, four bytes of value)."""
  inside = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
  return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + inside + bytes(4)


def quarter(value=6):
  return ORIENTATION, 3, 1, struct.pack("<HH", value, 0)


@pytest.mark.parametrize("orientation", SEEN)
@pytest.mark.parametrize("kind, options", [("PNG", {}), ("WEBP", {"lossless": True})])
def test_each_orientation_is_the_transposed_array(orientation, kind, options):
  picture = stored(orientation, kind, **options)
  np.testing.assert_array_equal(np.asarray(picture), PIXELS)
  turned = upright(picture)
  np.testing.assert_array_equal(np.asarray(turned), SEEN[orientation](PIXELS))
  np.testing.assert_array_equal(np.asarray(upright(turned)), np.asarray(turned))
  np.testing.assert_array_equal(np.asarray(picture), PIXELS)


@pytest.mark.parametrize("orientation", SEEN)
def test_a_preprocessing_turns_or_does_not(orientation):
  seen = SEEN[orientation](PIXELS)
  picture = stored(orientation)
  following = Preprocessing(seen.shape[:2], (0.5,) * 3, (0.5,) * 3, exif=True)
  np.testing.assert_array_equal(following.pixels(picture), seen)
  np.testing.assert_array_equal(Preprocessing(PIXELS.shape[:2], (0.5,) * 3, (0.5,) * 3).pixels(picture), PIXELS)
  np.testing.assert_array_equal(following.pixels(seen), seen)  # an array is as it is


def test_a_jpeg_and_a_palette_with_transparency_are_turned():
  assert upright(stored(6, "JPEG")).size == (5, 7)
  palette = Image.fromarray(PIXELS).convert("P")
  palette.info["transparency"] = bytes(range(256))
  turned = upright(stored(8, picture=palette))
  assert turned.mode == "P" and "transparency" in turned.info
  np.testing.assert_array_equal(np.asarray(turned), SEEN[8](np.asarray(palette)))


def test_a_tiff_comes_upright_from_pillow():
  picture = stored(6, "TIFF")
  np.testing.assert_array_equal(np.asarray(picture), SEEN[6](PIXELS))
  assert upright(picture) is picture


def test_an_orientation_in_xmp_counts():
  from PIL import PngImagePlugin

  text = PngImagePlugin.PngInfo()
  text.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="3"/>')
  picture = stored(b"", pnginfo=text)
  np.testing.assert_array_equal(np.asarray(upright(upright(picture))), SEEN[3](PIXELS))


@pytest.mark.parametrize(
  "exif",
  [
    b"",
    b"Exif\0\0",
    b"Exif\0\0II*\0",
    b"garbage",
    b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
    block(quarter(0)),
    block(quarter(9)),
    block((ORIENTATION, 2, 2, b"6\0\0\0")),
    block((ORIENTATION, 3, 0, bytes(4))),
    block((ORIENTATION, 5, 1, struct.pack("<I", 9999))),
  ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_without_an_orientation_that_can_be_read_a_picture_is_as_it_lies(exif):
  np.testing.assert_array_equal(np.asarray(upright(stored(exif))), PIXELS)


def test_a_block_whose_reader_raises_is_none():
  class Raising:
    def getexif(self):
      raise SyntaxError("not a TIFF file")

  picture = Raising()
  assert upright(picture) is picture


@pytest.mark.parametrize(
  "other",
  [
    (0x010F, 2, 1, b"\xff\0\0\0"),
    (0x0100, 2, 3, b"ab\0\0"),  # what a block that is written anew could not hold
    (0x011A, 5, 1, struct.pack("<I", 9999)),
    (0x8769, 4, 1, struct.pack("<I", 8)),
  ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damage_beside_the_orientation_does_not_hide_it(other):
  np.testing.assert_array_equal(np.asarray(upright(stored(block(quarter(), other)))), SEEN[6](PIXELS))


def test_names_of_pictures():
  for name in ("a.jpg", "a.JPEG", "a.Jpe", "a.jfif", "b.x.ppm", "\udcff.pgm"):
    assert is_picture(name), name
  for name in ("a.txt", "jpg", "a.jpg.part", ".a.jpg", "._a.jpg", ".jpg", ".DS_Store", "a.heic", ""):
    assert not is_picture(name), name
