"""RandAugment on pixels, through Pillow.

Source: Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search space", NeurIPS 2020;
what a magnitude means is as in the TensorFlow programs of EfficientNet, which the recipes of CoAtNet count in.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
  import PIL.Image

Picture: TypeAlias = "PIL.Image.Image"

MAX_MAGNITUDE = 30
_GREY = 128  # what comes in from outside the picture
_TRANSLATION = 100 / 224  # the programs' 100 pixels, of pictures that have 224


def _affine(picture: Picture, row: tuple[float, float, float], column: tuple[float, float, float]) -> Picture:
  from PIL import Image

  # Row by row: from where, (x, y) -> x and (x, y) -> y, a pixel comes.
  fill = (_GREY,) * len(picture.getbands())
  return picture.transform(picture.size, Image.Transform.AFFINE, (*row, *column), fillcolor=fill)


def _rotate(picture: Picture, share: float, sign: int) -> Picture:
  return picture.rotate(sign * 30 * share, fillcolor=(_GREY,) * len(picture.getbands()))


def _shear_x(picture: Picture, share: float, sign: int) -> Picture:
  return _affine(picture, (1, sign * 0.3 * share, 0), (0, 1, 0))


def _shear_y(picture: Picture, share: float, sign: int) -> Picture:
  return _affine(picture, (1, 0, 0), (sign * 0.3 * share, 1, 0))


def _translate_x(picture: Picture, share: float, sign: int) -> Picture:
  return _affine(picture, (1, 0, sign * round(_TRANSLATION * share * picture.width)), (0, 1, 0))


def _translate_y(picture: Picture, share: float, sign: int) -> Picture:
  return _affine(picture, (1, 0, 0), (0, 1, sign * round(_TRANSLATION * share * picture.height)))


def _auto_contrast(picture: Picture, share: float, sign: int) -> Picture:
  from PIL import ImageOps

  return ImageOps.autocontrast(picture)


def _equalize(picture: Picture, share: float, sign: int) -> Picture:
  from PIL import ImageOps

  return ImageOps.equalize(picture)


def _solarize(picture: Picture, share: float, sign: int) -> Picture:
  from PIL import ImageOps

  return ImageOps.solarize(picture, int(256 * share))


def _posterize(picture: Picture, share: float, sign: int) -> Picture:
  from PIL import ImageOps

  return ImageOps.posterize(picture, min(max(int(4 * share), 1), 8))


def _enhance(kind: str) -> Callable[[Picture, float, int], Picture]:
  def enhanced(picture: Picture, share: float, sign: int) -> Picture:
    from PIL import ImageEnhance

    return getattr(ImageEnhance, kind)(picture).enhance(1.8 * share + 0.1)

  return enhanced


OPERATIONS: dict[str, Callable[[Any, float, int], Any]] = {
  "identity": lambda picture, share, sign: picture,
  "auto_contrast": _auto_contrast,
  "equalize": _equalize,
  "rotate": _rotate,
  "solarize": _solarize,
  "posterize": _posterize,
  "contrast": _enhance("Contrast"),
  "brightness": _enhance("Brightness"),
  "sharpness": _enhance("Sharpness"),
  "shear_x": _shear_x,
  "shear_y": _shear_y,
  "translate_x": _translate_x,
  "translate_y": _translate_y,
  "color": _enhance("Color"),
}
"""(picture, magnitude / 10, sign) -> picture."""


def rand_augment(rng: np.random.Generator, image: np.ndarray, *, layers: int, magnitude: float) -> np.ndarray:
  """`layers` operations one after another, each drawn from all of `OPERATIONS`, all of the same magnitude.

  With v = magnitude / 10 and a fair sign s for each operation:

  - rotate: 30 v s degrees about the centre
  - shear_x, shear_y: 0.3 v s of a row's (column's) distance from the upper left corner
  - translate_x, translate_y: 100 / 224 v s of the side, in whole pixels
  - contrast, brightness, sharpness, color: the factor 1.8 v + 0.1, where 1 changes nothing
  - solarize: levels from int(256 v) up are inverted
  - posterize: int(4 v) bits are kept, at least 1 and at most 8
  - auto_contrast, equalize, identity: without a magnitude

  10 is the largest magnitude of AutoAugment, whose scale goes on here to 30. Two operations get weaker along it:
  solarize does nothing from 10 on, posterize from 20 on. Geometry takes the nearest pixel and fills with the level 128.
  A grey image has no color to change and draws from the other operations. Equalize needs 256 pixels to do anything.

  Args:
    rng: draws 2 integers per layer.
    image: uint8 [h, w, c], c 1 (grey) or 3 (RGB).
    layers: at least 0.
    magnitude: from 0 to 30.

  Returns:
    uint8 [h, w, c], as `image`.

  Raises:
    ValueError: a wrong rank or dtype, other channels, or a number out of range, naming the argument.
  """
  from PIL import Image

  if image.ndim != 3 or image.dtype != np.uint8:  # without chex, which imports jax: processes that decode do without
    raise ValueError(f"image must be uint8 [h, w, c], got {image.dtype} {list(image.shape)}.")
  channels = image.shape[-1]
  if channels not in (1, 3):
    raise ValueError(f"RandAugment takes grey or RGB images, 1 or 3 channels, got {channels}; set its layers to 0.")
  if layers < 0:
    raise ValueError(f"layers must be at least 0, got {layers}.")
  if not 0 <= magnitude <= MAX_MAGNITUDE:
    raise ValueError(f"magnitude must be from 0 to {MAX_MAGNITUDE}, got {magnitude}.")
  names = [name for name in OPERATIONS if name != "color" or channels == 3]
  picture = Image.fromarray(image[..., 0] if channels == 1 else image)
  for _ in range(layers):
    name, sign = names[rng.integers(len(names))], 2 * int(rng.integers(2)) - 1
    picture = OPERATIONS[name](picture, magnitude / 10, sign)
  return np.asarray(picture).reshape(image.shape)
