"""The embedded data set: 1,797 handwritten digits of 8x8 pixels as a TFDS builder.

The scans ship with scikit-learn (`sklearn.datasets.load_digits`, the test part of the UCI set "Optical Recognition of
Handwritten Digits"), so the project depends on scikit-learn and downloads nothing.

Importing this module imports TFDS; `convattn.data.load` does so on demand, `import convattn.data` does not.
"""

import functools
import importlib.resources
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

IMAGE_SHAPE = (8, 8, 1)
CLASS_NAMES = tuple("0123456789")

# Mean and standard deviation of the train split's pixels, in units of [0, 1].
MEAN = (0.287230,)
STD = (0.353958,)

# scikit-learn's grey levels are the integers 0..16; 15 is the largest factor that keeps them within uint8.
_LEVELS = 16
_SCALE = 15


def to_uint8(levels: np.ndarray) -> np.ndarray:
  """15 * level: grey levels 0..16 of any shape and dtype -> uint8 0..240, exactly proportional.

  Being linear it changes no normalised value, and `to_levels` undoes it, so nothing of the scan is lost.

  Raises:
    ValueError: a level is not one of the integers 0..16.
  """
  levels = np.asarray(levels)
  integers = levels.astype(np.int64)
  if not ((integers == levels) & (integers >= 0) & (integers <= _LEVELS)).all():
    raise ValueError(
      f"levels must be integers from 0 to {_LEVELS}, got values from {levels.min()} to {levels.max()} of "
      f"{levels.dtype}; pass load_digits().images as they are."
    )
  return (integers * _SCALE).astype(np.uint8)


def to_levels(images: np.ndarray) -> np.ndarray:
  """images / 15: the inverse of `to_uint8`, uint8 of any shape -> uint8 0..16."""
  return np.asarray(images) // np.uint8(_SCALE)


@functools.cache
def split_indexes() -> Mapping[str, tuple[int, ...]]:
  """Ascending indexes into `load_digits()` of the splits "train" (1293), "validation" (144) and "test" (360).

  test: `train_test_split(range(1797), test_size=360, stratify=labels, random_state=0)`;
  validation: 144 of the other 1437, ascending, drawn by the same call with test_size=144. Both lists are kept in
  digits_split.json, so that they do not depend on a version of scikit-learn; train is what they leave.
  """
  text = importlib.resources.files("convattn.data").joinpath("digits_split.json").read_text(encoding="utf-8")
  held_out = {name: tuple(indexes) for name, indexes in json.loads(text).items()}
  taken = set(held_out["validation"]) | set(held_out["test"])
  return {"train": tuple(i for i in range(1797) if i not in taken), **held_out}


class Digits(tfds.core.GeneratorBasedBuilder):
  """Handwritten digits, image uint8 [8, 8, 1] and label 0..9; within a split in scikit-learn's order."""

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "Grey levels times 15; stratified train, validation and test."}

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description="1,797 handwritten digits of 8x8 pixels, from scikit-learn.",
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(shape=IMAGE_SHAPE, encoding_format="png"),
          "label": tfds.features.ClassLabel(names=CLASS_NAMES),
        }
      ),
      supervised_keys=("image", "label"),
      homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
      disable_shuffling=True,  # the order on disk is the order of the split's index list
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    del dl_manager  # nothing to download
    return {name: self._generate_examples(indexes) for name, indexes in split_indexes().items()}

  def _generate_examples(self, indexes: Iterable[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    # Only preparing the data needs scikit-learn; reading it does not.
    from sklearn.datasets import load_digits

    scans = load_digits()
    images = to_uint8(scans.images)
    for index in indexes:
      # TFDS encodes a NumPy array with TensorFlow, a PIL image without.
      yield index, {"image": PIL.Image.fromarray(images[index]), "label": int(scans.target[index])}
