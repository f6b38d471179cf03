"""Data sets that are made rather than read: functions of a fixed seed, written as TFDS writes any other.

What lies on the disk is read as the pictures of `records` are. Only writing it imports TFDS.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from convattn.data import distant_marks, mnist1d
from convattn.data.preparation import prepared

Parts = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Made:
  """What a set is, its class names, and what makes it: {split: (images uint8 [n, h, w, 1], labels [n])}."""

  description: str
  class_names: tuple[str, ...]
  parts: Callable[[], Parts]


def _distant_marks(distance: int) -> Made:
  description = f"A cross and a ring {distance} pixels apart in noise; the class says which of them stands left."
  return Made(description, distant_marks.CLASS_NAMES, lambda: distant_marks.parts(distance))


_MNIST1D = "MNIST-1D (Greydanus & Kobak 2020, arXiv 2011.14439) made anew: curves of ten digits, 40 points each"

MADE: dict[str, Made] = {
  **{f"distant_marks_{distance}": _distant_marks(distance) for distance in distant_marks.DISTANCES},
  "mnist1d": Made(f"{_MNIST1D}.", mnist1d.CLASS_NAMES, lambda: mnist1d.parts(shuffled=False)),
  "mnist1d_shuffled": Made(
    f"{_MNIST1D}, which stand in one shuffled order.", mnist1d.CLASS_NAMES, lambda: mnist1d.parts(shuffled=True)
  ),
}
"""By the name that `convattn prepare` and data.name take."""


def prepare(name: str, root: Path) -> None:
  """Writes ROOT/NAME, with splits train, validation and test, unless it is there.

  Raises:
    UserError: ROOT cannot be written; one line.
  """
  prepared(_builder_of(name, MADE[name]), root)


def _builder_of(name: str, made: Made) -> Any:
  import PIL.Image
  import tensorflow_datasets as tfds

  class MadeSet(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]  # of TFDS
    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = Path(__file__).parent

    def _info(self) -> Any:
      ((images, _), *_) = self.parts.values()
      return tfds.core.DatasetInfo(
        builder=self,
        description=made.description,
        features=tfds.features.FeaturesDict(
          {
            "image": tfds.features.Image(shape=images.shape[1:], encoding_format="png"),
            "label": tfds.features.ClassLabel(names=made.class_names),
          }
        ),
        supervised_keys=("image", "label"),
        disable_shuffling=True,  # the order on disk is the order in which they are made
      )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
      del dl_manager  # nothing to download
      return {split: self._generate_examples(*part) for split, part in self.parts.items()}

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
      for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        # TFDS encodes a NumPy array with TensorFlow, a PIL image without.
        yield index, {"image": PIL.Image.fromarray(image[..., 0]), "label": int(label)}

  MadeSet.name, MadeSet.parts = name, made.parts()
  return MadeSet
