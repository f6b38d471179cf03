"""Random changes to single pictures on the host, before they are a batch of one shape: crops and RandAugment."""

import dataclasses
import math

import numpy as np

from convattn.data.batches import WHOLE, stack, train_places
from convattn.data.broken import first_readable
from convattn.data.picture_source import PictureSource, in_threads
from convattn.data.randaugment import rand_augment
from convattn.data.sources import Dataset, Item, Source, skipped_of
from convattn.errors import UserError
from convattn.pretrained import Preprocessing

_ATTEMPTS = 10
_NARROWEST, _WIDEST = 3 / 4, 4 / 3


@dataclasses.dataclass(frozen=True)
class HostAugmentation:
  """What happens to each picture. The default is nothing, which costs nothing: ask `is_identity` first.

  Attributes:
    resized_crop_area: see `random_box`; 1.0: no random crop, each image is the one that evaluation sees.
    randaugment_layers, randaugment_magnitude: see `rand_augment`; 0 layers: none.
  """

  resized_crop_area: float = 1.0
  randaugment_layers: int = 0
  randaugment_magnitude: float = 15.0

  @property
  def is_identity(self) -> bool:
    return self.resized_crop_area == 1.0 and self.randaugment_layers == 0


def random_box(rng: np.random.Generator, height: int, width: int, least_area: float) -> tuple[int, int, int, int]:
  """(top, left, height, width) of a random part of a picture.

  Its share of the area is uniform from `least_area` to 1, its width over height log-uniform from 3/4 to 4/3, and its
  place uniform among those where it fits, all up to rounding to whole pixels. What does not fit is drawn again, up to
  10 times; then (a very long picture) it is the largest part in the middle with width over height in that range.
  Source: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6; log-uniform is later custom.

  Args:
    rng: draws 2 to 20 floats and 2 integers.
    height, width: of the picture, at least 1 pixel each.
    least_area: above 0, at most 1.

  Raises:
    UserError: `least_area` out of range.
  """
  if not 0 < least_area <= 1:
    raise UserError(f"the least area of a random crop must be above 0 and at most 1, got {least_area}.")
  for _ in range(_ATTEMPTS):
    area = height * width * rng.uniform(least_area, 1)
    ratio = math.exp(rng.uniform(math.log(_NARROWEST), math.log(_WIDEST)))
    h, w = max(round(math.sqrt(area / ratio)), 1), max(round(math.sqrt(area * ratio)), 1)
    if h <= height and w <= width:
      return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
  h, w = min(height, round(width / _NARROWEST)), min(width, round(height * _WIDEST))
  return (height - h) // 2, (width - w) // 2, h, w


@dataclasses.dataclass(frozen=True)
class Rows:
  """Calling it makes the example of one row of the training batch of update `step`.

  The change of an example is a function of (seed, step, its row): the same after a resume, and with any number of
  threads and processes. Order: random crop, resized to the data set's image shape by its interpolation; RandAugment.
  A picture that cannot be read raises, or is replaced by the next one of the source that can.

  Raises:
    UserError: images of other channels than an augmentation takes.
  """

  dataset: Dataset
  augmentation: HostAugmentation
  seed: int
  step: int

  def __post_init__(self) -> None:
    channels = self.dataset.image_shape[-1]
    if channels not in (1, 3) and not self.augmentation.is_identity:
      raise UserError(
        f"random resized crops and RandAugment take grey or RGB images, 1 or 3 channels, got {channels}; set "
        "augmentation.resized_crop_area to 1 and augmentation.randaugment_layers to 0."
      )

  def __call__(self, place: tuple[int, int]) -> Item:
    """The example of (row, index); see `train_places`.

    Raises:
      BrokenPicture: it cannot be read.
    """
    row, index = place
    source = self.dataset.train
    return first_readable(lambda other: self._changed(row, other), index, len(source), skipped_of(source))

  def _changed(self, row: int, index: int) -> Item:
    # Two numbers in the spawn key; the order of an epoch has one, so that their draws are independent.
    rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(int(self.step), row)))
    whole = dataclasses.replace(self.dataset.preprocessing, crop_fraction=1.0, crop_mode="squash")
    image, label = _drawn(rng, self.dataset.train, index, self.augmentation.resized_crop_area, whole)
    layers, magnitude = self.augmentation.randaugment_layers, self.augmentation.randaugment_magnitude
    return {"image": rand_augment(rng, image, layers=layers, magnitude=magnitude) if layers else image, "label": label}


def augmented_batch(
  dataset: Dataset, augmentation: HostAugmentation, *, batch_size: int, seed: int, step: int, rows: slice = WHOLE
) -> dict[str, np.ndarray]:
  """The training batch of update `step`, as `train_batch` of the same examples in the same order, each changed: `Rows`.

  Args:
    rows: of that batch, the ones wanted.

  Returns:
    {"image": uint8 [b, h, w, c], "label": int32 [b]}.

  Raises:
    UserError: a number out of range, an image that is not grey or RGB, or one that is broken (BrokenPicture).
  """
  places = train_places(dataset.train, batch_size=batch_size, seed=seed, step=step, rows=rows)
  return stack(in_threads(Rows(dataset, augmentation, seed, step), places))


def _drawn(
  rng: np.random.Generator, source: Source, index: int, least_area: float, whole: Preprocessing
) -> tuple[np.ndarray, int]:
  """An example's image, or if `least_area` is below 1 a random part of what it was made from; and its label."""
  if least_area == 1:
    item = source[index]
    return item["image"], int(item["label"])
  if isinstance(source, PictureSource):
    picture, label = source.example(index)
    picture = whole.turned(picture)  # in front of the crop, whose width and height are those of the upright picture
    top, left, h, w = random_box(rng, picture.height, picture.width, least_area)
    return source.converted(index, picture.crop((left, top, left + w, top + h)), whole), label
  item = source[index]
  height, width, _ = item["image"].shape
  top, left, h, w = random_box(rng, height, width, least_area)
  return whole.pixels(item["image"][top : top + h, left : left + w]), int(item["label"])
