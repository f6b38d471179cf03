"""Random changes to single pictures on the host, before they are a batch of one shape: crops and RandAugment."""

import dataclasses
import math

import numpy as np

from convattn.data.batches import stack, train_indexes
from convattn.data.folder import FolderSource, in_threads
from convattn.data.randaugment import rand_augment
from convattn.data.sources import Dataset, Item, Source
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
    ValueError: `least_area` out of range.
  """
  if not 0 < least_area <= 1:
    raise ValueError(f"the least area of a random crop must be above 0 and at most 1, got {least_area}.")
  for _ in range(_ATTEMPTS):
    area = height * width * rng.uniform(least_area, 1)
    ratio = math.exp(rng.uniform(math.log(_NARROWEST), math.log(_WIDEST)))
    h, w = max(round(math.sqrt(area / ratio)), 1), max(round(math.sqrt(area * ratio)), 1)
    if h <= height and w <= width:
      return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
  h, w = min(height, round(width / _NARROWEST)), min(width, round(height * _WIDEST))
  return (height - h) // 2, (width - w) // 2, h, w


def augmented_batch(
  dataset: Dataset, augmentation: HostAugmentation, *, batch_size: int, seed: int, step: int
) -> dict[str, np.ndarray]:
  """The training batch of update `step`, as `train_batch` of the same examples in the same order, each one changed.

  The change of an example is a function of (seed, step, its position in the batch): the same after a resume, and with
  any number of threads. Order: random crop, resized to the data set's image shape by its interpolation; RandAugment.

  Returns:
    {"image": uint8 [b, h, w, c], "label": int32 [b]}.

  Raises:
    ValueError: a number out of range, an image that is not grey or RGB, or one that is broken (BrokenPicture).
  """
  indexes = train_indexes(len(dataset.train), batch_size=batch_size, seed=seed, step=step)
  channels = dataset.image_shape[-1]
  if channels not in (1, 3):
    raise ValueError(
      f"random resized crops and RandAugment take grey or RGB images, 1 or 3 channels, got {channels}; set "
      "augmentation.resized_crop_area to 1 and augmentation.randaugment_layers to 0."
    )
  whole = dataclasses.replace(dataset.preprocessing, crop_fraction=1.0, crop_mode="squash")

  def changed(position: int) -> Item:
    # Two numbers in the spawn key; the order of an epoch has one, so that their draws are independent.
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(step), position)))
    image, label = _drawn(rng, dataset.train, int(indexes[position]), augmentation.resized_crop_area, whole)
    layers, magnitude = augmentation.randaugment_layers, augmentation.randaugment_magnitude
    return {"image": rand_augment(rng, image, layers=layers, magnitude=magnitude), "label": label}

  return stack(in_threads(changed, range(batch_size)))


def _drawn(
  rng: np.random.Generator, source: Source, index: int, least_area: float, whole: Preprocessing
) -> tuple[np.ndarray, int]:
  """An example's image, or if `least_area` is below 1 a random part of what it was made from; and its label."""
  if least_area == 1:
    item = source[index]
    return item["image"], int(item["label"])
  if isinstance(source, FolderSource):
    picture = source.picture(index)
    top, left, h, w = random_box(rng, picture.height, picture.width, least_area)
    part = picture.crop((left, top, left + w, top + h))
    return source.converted(index, part, whole), int(source.labels[index])
  item = source[index]
  height, width, _ = item["image"].shape
  top, left, h, w = random_box(rng, height, width, least_area)
  return whole.pixels(item["image"][top : top + h, left : left + w]), int(item["label"])
