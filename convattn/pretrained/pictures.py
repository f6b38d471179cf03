"""From a picture to the array a trained model expects."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from convattn.errors import UserError
from convattn.pretrained.picture_files import upright

if TYPE_CHECKING:
  from PIL import Image

CROP_MODES = ("center", "squash")
INTERPOLATIONS = ("bicubic", "bilinear", "nearest")

LARGEST = 2**28
"""Pixels that a picture may have while it is resized."""


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """What is done to a picture in front of a model: turn, resize, crop, normalise.

      pixels:     upright if `exif`, resized to the image size / crop_fraction; the centre of the image size is cut out
      normalize:  (pixels / 255 - mean) / std

  Args:
    image_size: (height, width) in pixels, or one number for both.
    mean, std: one number per channel, in units of [0, 1] (a pixel is value / 255); std positive.
    crop_fraction: the part of each edge that the crop keeps, in (0, 1]. The size before is rounded down.
    crop_mode: "center" keeps the picture's proportions and lets its shorter edge fit, "squash" resizes both edges.
    interpolation: one of INTERPOLATIONS; Pillow's, which average over the area a smaller pixel covers ("nearest" does
      not).
    exif: whether a Pillow image is turned and mirrored first as its EXIF orientation says; an array has none.

  Raises:
    UserError: a value out of its range or choices.
  """

  image_size: tuple[int, int]
  mean: tuple[float, ...]
  std: tuple[float, ...]
  crop_fraction: float = 1.0
  crop_mode: str = "squash"
  interpolation: str = "bicubic"
  exif: bool = False

  def __post_init__(self) -> None:
    size: Any = self.image_size
    if isinstance(size, (int, np.integer)):
      object.__setattr__(self, "image_size", (size, size))
    numbers = "a tuple with one finite number per channel, such as (0.5, 0.5, 0.5)"
    for name, convert, wanted in (
      ("image_size", operator.index, "a number of pixels or (height, width)"),
      ("mean", _finite, numbers),
      ("std", _finite, numbers),
    ):
      object.__setattr__(self, name, _each(name, getattr(self, name), convert, wanted))
    object.__setattr__(self, "crop_fraction", *_each("crop_fraction", [self.crop_fraction], _finite, "a number"))
    if len(self.image_size) != 2 or min(self.image_size) < 1:
      raise UserError(f"image_size is {self.image_size}, but must be (height, width), at least 1 pixel each.")
    if not self.mean or len(self.mean) != len(self.std):
      raise UserError(f"mean is {self.mean} and std {self.std}, but each must have one number per channel.")
    if not all(value > 0 for value in self.std):
      raise UserError(f"std is {self.std}, but must be positive; use 1.0 for a channel that never varies.")
    if not 0 < self.crop_fraction <= 1:
      raise UserError(f"crop_fraction is {self.crop_fraction}, but must be greater than 0 and at most 1.")
    for name, choices in (("crop_mode", CROP_MODES), ("interpolation", INTERPOLATIONS)):
      if not isinstance(getattr(self, name), str) or getattr(self, name) not in choices:
        raise UserError(f"{name} is {getattr(self, name)!r}, but must be one of {', '.join(map(repr, choices))}.")
    if not isinstance(self.exif, bool):
      raise UserError(f"exif is {self.exif!r}, but must be True or False.")

  def __call__(self, picture: Image.Image | np.ndarray) -> np.ndarray:
    """normalize(pixels(picture)): float32 [h, w, c], what a model is fed, without the batch axis."""
    return self.normalize(self.pixels(picture))

  def pixels(self, picture: Image.Image | np.ndarray) -> np.ndarray:
    """The picture at the model's size, as torchvision's Resize and CenterCrop make it from a Pillow image.

    Args:
      picture: a Pillow image of any mode, or uint8 [h, w, c] or [h, w]. Transparency is dropped, and a 16-bit image
        scaled to 8. With one channel in `mean` colours become grey, with three grey becomes RGB.

    Returns:
      uint8 [*image_size, c], c the number of channels in `mean`.

    Raises:
      UserError: an array of another dtype or shape, or channels that cannot be made c.
    """
    from PIL import Image

    picture = self.turned(picture) if isinstance(picture, Image.Image) else picture
    channels = _channels(picture, len(self.mean))
    width, height = channels[0].size
    size = self._size_before_the_crop(height, width)
    if math.prod(size) > LARGEST:  # resized whole, as timm does; a thin picture would fill the memory
      raise UserError(
        f"a picture of {height} x {width} would be resized to {size[0]} x {size[1]} in front of the crop, but at most "
        f"{LARGEST:,} pixels are; cut it to a less extreme shape."
      )
    top, left = (round((old - new) / 2) for old, new in zip(size, self.image_size, strict=True))
    box = (left, top, left + self.image_size[1], top + self.image_size[0])
    made = [
      np.asarray(each.resize(size[::-1], Image.Resampling[self.interpolation.upper()]).crop(box)) for each in channels
    ]
    return made[0] if made[0].ndim == 3 else np.stack(made, axis=-1)

  def turned(self, picture: Image.Image) -> Image.Image:
    """The picture as `pixels` resizes it: with `exif` as `upright` makes it, else itself. Twice is as once."""
    return upright(picture) if self.exif else picture

  def normalize(self, pixels: np.ndarray) -> np.ndarray:
    """(pixels / 255 - mean) / std: uint8 [..., c] -> float32 [..., c]. Raises ValueError for another dtype or c."""
    if pixels.dtype != np.uint8 or pixels.shape[-1:] != (len(self.mean),):
      wanted = f"uint8 with a last axis of {len(self.mean)}, the channels of mean"
      raise UserError(f"pixels are {pixels.dtype} {pixels.shape}, but must be {wanted}.")
    mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
    return (pixels.astype(np.float32) / 255 - mean) / std

  def with_channels(self, channels: int) -> Preprocessing:
    """The same for pictures of so many channels: each has the mean of all means and of all deviations, as for grey."""
    if channels == len(self.mean):
      return self
    mean, std = ((math.fsum(values) / len(values),) * channels for values in (self.mean, self.std))
    return dataclasses.replace(self, mean=mean, std=std)

  def as_json(self) -> dict[str, Any]:
    """Plain lists, numbers and strings; `from_json` gives the same preprocessing back.

    `exif` is in it where it is on: what was recorded before there was such a choice stays equal, and means off.
    """
    fields = {name: value for name, value in dataclasses.asdict(self).items() if name != "exif" or value}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

  @classmethod
  def from_json(cls, fields: Mapping[str, Any]) -> Preprocessing:
    """The inverse of `as_json`. Raises ValueError for a field that is missing, unknown or out of range."""
    known = {field.name: field.default is dataclasses.MISSING for field in dataclasses.fields(cls)}
    for name in [
      *(name for name, needed in known.items() if needed and name not in fields),
      *(set(fields) - set(known)),
    ]:
      problem = "lacks" if name in known else "has no"
      raise UserError(f"preprocessing {problem} field {name!r}; its fields are {', '.join(known)}.")
    return cls(**fields)

  def _size_before_the_crop(self, height: int, width: int) -> tuple[int, int]:
    """(height, width) that a picture of that size is resized to; each at least the image size."""
    wanted_height, wanted_width = (math.floor(size / self.crop_fraction) for size in self.image_size)
    if self.crop_mode == "squash":
      return wanted_height, wanted_width
    if wanted_height == wanted_width:  # torchvision's Resize, which rounds the longer edge down
      short = min(height, width)
      return int(wanted_height * height / short), int(wanted_width * width / short)
    ratio = min(height / wanted_height, width / wanted_width)  # timm's for a rectangle, which rounds to the nearest
    return round(height / ratio), round(width / ratio)


def _finite(value: Any) -> float:
  number = float(value)
  if isinstance(value, str) or not math.isfinite(number):
    raise ValueError(value)
  return number


def _each(name: str, values: Any, convert: Callable[[Any], Any], wanted: str) -> tuple[Any, ...]:
  try:
    if isinstance(values, (str, bytes)):
      raise TypeError
    return tuple(convert(value) for value in values)
  except (TypeError, ValueError, OverflowError):
    raise UserError(f"{name} is {values!r}, but must be {wanted}.") from None


def _channels(picture: Image.Image | np.ndarray, count: int) -> list[Image.Image]:
  """Pillow images, all of one size, that have `count` channels together: one grey or RGB image, or a grey one each."""
  from PIL import Image

  if isinstance(picture, Image.Image):
    if count not in (1, 3):
      raise UserError(f"a picture has 1 or 3 channels, but mean has {count}; pass an array [h, w, {count}].")
    return [_converted(picture, "L" if count == 1 else "RGB")]
  array = np.asarray(picture)
  array = array[..., None] if array.ndim == 2 else array
  if array.dtype != np.uint8 or array.ndim != 3 or 0 in array.shape:
    raise UserError(f"a picture is {array.dtype} {array.shape}, but must be uint8 [h, w, {count}] or [h, w].")
  planes = [Image.fromarray(array[..., i]) for i in range(array.shape[-1])]
  if {len(planes), count} <= {1, 3}:
    return [_converted(Image.merge("RGB", planes) if len(planes) == 3 else planes[0], "L" if count == 1 else "RGB")]
  if len(planes) != count:
    raise UserError(f"a picture has {len(planes)} channels, but mean has {count}; they must be equal, or 1 and 3.")
  return planes


def _converted(picture: Image.Image, mode: str) -> Image.Image:
  from PIL import Image

  if picture.mode.startswith("I;16"):  # Pillow would cut every value off at 255
    picture = Image.fromarray((np.asarray(picture) // 257).astype(np.uint8))
  if picture.mode in ("I", "F"):
    raise UserError(f"a picture of mode {picture.mode!r} (32 bits per pixel) has no known range; save it with 8 or 16.")
  if "transparency" in picture.info and picture.mode == "P":  # Pillow asks for this detour
    picture = picture.convert("RGBA")
  return picture.convert(mode)
