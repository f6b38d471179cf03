"""Fashion-MNIST (Xiao et al. 2017, MIT licence): TFDS's stock set made of its four IDX files, without TensorFlow.

60,000 + 10,000 grey pictures of 28x28 pixels, ten kinds of clothing. Importing this module imports TFDS.
"""

import functools
import gzip
import importlib.resources
import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from convattn.data.preparation import prepared
from convattn.errors import UserError, one_line

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""

FILES = {
  "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
  "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""Images and labels, as they are published; with .gz behind it or without."""

SIDE, NUM_CLASSES = 28, 10


def files_in(folder: Path) -> dict[str, tuple[Path, Path]] | None:
  """The four files, if all of them lie in `folder`."""

  def found(name: str) -> Path | None:
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)

  paths = {part: (found(images), found(labels)) for part, (images, labels) in FILES.items()}
  if any(path is None for pair in paths.values() for path in pair):
    return None
  return paths  # type: ignore[return-value]  # none of them is None here


def read_idx(path: Path) -> np.ndarray:
  """The uint8 array in an IDX file, gzipped or not: bytes 0, 0, 8 (uint8), n, then n sizes in 4 big-endian bytes each.

  Raises:
    UserError: it cannot be read or unpacked, is no such file, or has other than the promised number of bytes; one line.
  """
  try:
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
  except (OSError, EOFError, zlib.error) as error:
    raise UserError(f"{path} cannot be read ({one_line(error)}); fetch it again.") from error
  rank = content[3] if len(content) > 3 else 0
  start = 4 + 4 * rank
  if content[:3] != b"\0\0\x08" or not rank:
    found = content[:4].hex(" ")
    raise UserError(
      f"{path} begins with {found!r}, but an IDX file of bytes with '00 00 08' and its rank; fetch it again."
    )
  if len(content) < start:
    raise UserError(f"{path} has {len(content)} bytes, but its sizes alone take {start}; fetch it again.")
  shape = tuple(int(size) for size in np.frombuffer(content, ">u4", rank, 4))
  if len(content) != start + math.prod(shape):
    wanted = f"{math.prod(shape):,} for its sizes {shape}"
    raise UserError(f"{path} holds {len(content) - start:,} numbers, but must hold {wanted}; fetch it again.")
  return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_part(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
  """(images uint8 [n, 28, 28], labels uint8 [n]) of one part.

  Raises:
    UserError: as `read_idx`; or the two do not belong together.
  """
  images, labels = read_idx(images_path), read_idx(labels_path)
  if images.shape[1:] != (SIDE, SIDE):
    raise UserError(f"{images_path} has sizes {images.shape}, but must have (n, {SIDE}, {SIDE}); is it of another set?")
  if labels.shape != images.shape[:1]:
    raise UserError(f"{labels_path} has sizes {labels.shape}, but {images_path} has {len(images):,} images.")
  if labels.size and labels.max() >= NUM_CLASSES:
    raise UserError(f"{labels_path} has the label {labels.max()}, but there are {NUM_CLASSES} classes, from 0.")
  return images, labels


@functools.cache
def validation_indexes() -> tuple[int, ...]:
  """The 5,000 of the 60,000 that are kept out to choose by, 500 of each class, ascending, in the order of the files.

  Drawn once with numpy.random.default_rng(0), class by class; the list is kept in fashion_mnist_split.json.
  """
  text = importlib.resources.files("convattn.data").joinpath("fashion_mnist_split.json").read_text(encoding="utf-8")
  return tuple(json.loads(text)["validation"])


def prepare(folder: Path, root: Path) -> None:
  """Writes ROOT/fashion_mnist, with splits train (55,000), validation (5,000) and test (10,000) in the files' order.

  Raises:
    UserError: a file is missing, damaged or of something else, before anything is written; or ROOT cannot be written.
  """
  paths = files_in(folder)
  if paths is None:
    names = ", ".join(f"{name}.gz" for pair in FILES.values() for name in pair)
    raise UserError(f"{folder} must hold the four files {names}; name their folder with --manual_dir=DIR.")
  (images, labels), test = (read_part(*paths[part]) for part in ("train", "test"))
  kept_out = np.array(validation_indexes())
  if len(images) <= kept_out.max():
    raise UserError(f"{paths['train'][0]} has {len(images):,} images, but must have 60,000; fetch it again.")
  taught = np.setdiff1d(np.arange(len(images)), kept_out)
  parts = {"train": (images[taught], labels[taught]), "validation": (images[kept_out], labels[kept_out]), "test": test}
  prepared(_builder_of(parts), root)


def _builder_of(parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> Any:
  """TFDS's own builder (its name, version, features and licence) with these examples."""

  class FashionMNIST(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]  # of TFDS
    name = "fashion_mnist"
    VERSION = tfds.builder_cls("fashion_mnist").VERSION

    def _info(self) -> Any:
      stock = tfds.builder("fashion_mnist", data_dir=self._data_dir_root).info
      return tfds.core.DatasetInfo(
        builder=self,
        description=stock.description,
        features=tfds.features.FeaturesDict(
          {
            "image": tfds.features.Image(shape=(SIDE, SIDE, 1), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=stock.features["label"].names),
          }
        ),
        supervised_keys=("image", "label"),
        homepage=stock.homepage,
        citation=stock.citation,
        disable_shuffling=True,
      )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
      del dl_manager  # nothing to download
      return {name: self._generate_examples(*part) for name, part in parts.items()}

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
      for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        # TFDS encodes a NumPy array with TensorFlow, a PIL image without.
        yield index, {"image": PIL.Image.fromarray(image), "label": int(label)}

  return FashionMNIST
