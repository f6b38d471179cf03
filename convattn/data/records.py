"""Any data set of labelled pictures that TFDS has prepared in a format of random access, read without TensorFlow.

Its features must have "image" (uint8, 1, 3 or 4 channels) and "label" (a class). Its own splits are taken as follows.

- Without "train" a model can be scored, not trained.
- Without "validation" a tenth of "train" takes its place and is not trained on: those examples that
  numpy.random.default_rng(0).permutation(n)[: n // 10] draws, the same ones each time.
- Without "test", or with one whose labels are not public (-1, as ImageNet's), the validation part stands in as the test
  part too: its score is then no estimate for images that nothing was chosen by.
- If "test" is all there is, it is validation and test.

Images of one size in all the data set keep it; of others see `picture_source.PREPROCESSING`. What TFDS knows holds no
statistics of pixels: mean and std are 0.5 for each channel. ImageNet's identifiers become names, as in a folder.
"""

import dataclasses
import functools
import io
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convattn.data.broken import BrokenPicture, Skipped, first_readable
from convattn.data.picture_source import PREPROCESSING, PictureSource, readable_names
from convattn.data.preparation import quiet
from convattn.data.sources import Dataset, fields_of
from convattn.errors import UserError
from convattn.pretrained import Preprocessing, decode_picture

if TYPE_CHECKING:
  import PIL.Image

_AT_ONCE = 256  # records in memory while labels are read
_HELD_OUT = 10


_opening = threading.Lock()


def _opened(folder: str, split: str) -> tuple[Any, Callable[[bytes], dict[str, Any]]]:
  """The records of a split, as bytes, and what parses one; kept, since a process opens them once."""
  with _opening:  # `quiet` holds for the whole process: two threads inside it would leave it so
    return _open(folder, split)


@functools.lru_cache(maxsize=32)
def _open(folder: str, split: str) -> tuple[Any, Callable[[bytes], dict[str, Any]]]:
  import tensorflow_datasets as tfds

  with quiet():
    builder = tfds.builder_from_directory(folder)
    records = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
  wanted = tfds.features.FeaturesDict({name: builder.info.features[name] for name in ("image", "label")})
  as_stored = {"image": tfds.decode.SkipDecoding()}
  return records, lambda record: wanted.deserialize_example_np(record, decoders=as_stored)


@dataclasses.dataclass(frozen=True, eq=False)
class RecordSource(PictureSource):
  """Pictures among TFDS's records, decoded at each access.

  Attributes:
    folder, split: the directory of the prepared data with its features.json, and a split's name.
    indexes: int64 [n], which records of the split.
    preprocessing, skipped: see PictureSource.
    given_labels: [n], instead of those that are stored; None: those.
  """

  folder: str
  split: str
  indexes: np.ndarray
  preprocessing: Preprocessing = PREPROCESSING
  skipped: Skipped | None = None
  given_labels: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.indexes)

  def _stored(self, index: int) -> dict[str, Any]:
    try:
      records, parse = _opened(self.folder, self.split)
      return parse(records[int(self.indexes[index])])
    except Exception as error:  # whatever readers of damaged files raise
      reason = " ".join(str(error).split())
      raise BrokenPicture(f"{self.place(index)!r} cannot be read ({reason}).", self.place(index)) from error

  def example(self, index: int) -> tuple["PIL.Image.Image", int]:
    """See PictureSource."""
    stored = self._stored(index)
    try:
      picture = decode_picture(io.BytesIO(stored["image"]), self.place(index))
    except ValueError as error:
      raise BrokenPicture(str(error), self.place(index)) from error
    return picture, int(stored["label"] if self.given_labels is None else self.given_labels[index])

  def label(self, index: int) -> int:
    """Of one example, without decoding it."""
    return int(self._stored(index)["label"] if self.given_labels is None else self.given_labels[index])

  def place(self, index: int) -> str:
    """See PictureSource."""
    return f"{self.folder}: {self.split}[{self.indexes[index]}]"

  @functools.cached_property
  def labels(self) -> np.ndarray:
    """int32 [n]; unless given they are found by a pass over all records, once."""
    if self.given_labels is not None:
      return self.given_labels
    records, parse = _opened(self.folder, self.split)
    found = [
      parse(record)["label"]
      for start in range(0, len(self), _AT_ONCE)
      for record in records.__getitems__(self.indexes[start : start + _AT_ONCE].tolist())
    ]
    return np.array(found, np.int32)

  def replaced(self, **fields: Any) -> "RecordSource":
    """See PictureSource."""
    return dataclasses.replace(self, **fields)

  def take(self, indexes: np.ndarray, labels: np.ndarray) -> "RecordSource":
    """See LabelledSource."""
    return dataclasses.replace(self, indexes=self.indexes[indexes], given_labels=np.asarray(labels, np.int32))


def record_folder(root: Path, name: str) -> Path | None:
  """Where `name` lies under `root`: NAME, NAME/CONFIG or either with /VERSION; of several versions the newest.

  Raises:
    UserError: NAME has several configurations; one line with their names.
  """
  folder = root / name
  if (folder / "features.json").exists():
    return folder
  below = sorted(path for path in folder.glob("*") if path.is_dir()) if name.strip("./") else []
  versions = [path for path in below if re.fullmatch(r"\d+\.\d+\.\d+", path.name) and (path / "features.json").exists()]
  if versions:
    return max(versions, key=lambda path: tuple(map(int, path.name.split("."))))
  complete = [path for path in below if not path.name.startswith((".", "incomplete."))]  # TFDS renames at the end
  configs = [path for path in complete if record_folder(folder, path.name) is not None]
  if len(configs) > 1:
    names = ", ".join(f"{name}/{path.name}" for path in configs)
    raise UserError(f"data set {name!r} has several configurations in {str(root)!r}: {names}; name one of these.")
  return record_folder(folder, configs[0].name) if configs else None


def load_records(folder: Path) -> Dataset:
  """The data set in `folder`, as `record_folder` finds it.

  Raises:
    UserError: features or a format that cannot be used; one line with what was found and what to do.
  """
  import tensorflow_datasets as tfds

  try:
    with quiet():
      builder = tfds.builder_from_directory(str(folder))
  except Exception as error:  # whatever its readers of JSON and of features raise
    reason = " ".join(str(error).split())
    raise UserError(
      f"{folder} is no data set of TFDS, or damaged ({reason}); remove it and prepare it anew."
    ) from error
  shape, class_names = _checked(builder, folder)
  height, width, channels = shape
  half = (0.5,) if channels == 1 else (0.5,) * 3
  if height is None or width is None:
    preprocessing = dataclasses.replace(PREPROCESSING, mean=half, std=half)
  else:
    preprocessing = Preprocessing((height, width), half, half)
  sizes = {split: info.num_examples for split, info in builder.info.splits.items()}

  def source(split: str, indexes: np.ndarray) -> RecordSource:
    _opened(str(folder), split)  # now, while nothing else has something to print
    return RecordSource(str(folder), split, indexes, preprocessing)

  sources: dict[str, Any] = _splits(sizes, source, folder)
  return Dataset(**sources, class_names=class_names, **fields_of(preprocessing))


def _checked(builder: Any, folder: Path) -> tuple[tuple[int | None, int | None, int], tuple[str, ...]]:
  """(shape of the images, class names) of a data set that can be used."""
  import tensorflow_datasets as tfds

  features = builder.info.features
  named = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
  image, label = named.get("image"), named.get("label")
  if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
    found = ", ".join(f"{name}: {type(feature).__name__}" for name, feature in sorted(named.items()))
    raise UserError(
      f"a data set to learn classes from needs the features image: Image and label: ClassLabel, but {folder} has "
      f"{found or type(features).__name__}; name another."
    )
  if image.np_dtype != np.uint8 or len(image.shape) != 3 or image.shape[2] not in (1, 3, 4):
    raise UserError(
      f"images must be uint8 with 1, 3 or 4 channels, but those of {folder} are {np.dtype(image.np_dtype).name} "
      f"{image.shape}; name another data set."
    )
  formats = {kind.value for kind in builder.info.available_file_formats()}
  if "array_record" not in formats:
    raise UserError(
      f"{folder} holds {' and '.join(sorted(formats)) or 'no records'}, which cannot be read in any order; remove it "
      "and make it anew with convattn prepare, which writes array_record."
    )
  return image.shape, readable_names(label.names or [str(number) for number in range(label.num_classes)])


def _splits(
  sizes: dict[str, int], source: Callable[[str, np.ndarray], RecordSource], folder: Path
) -> dict[str, RecordSource]:
  """Train, validation and test, as the module says."""
  whole = {
    split: source(split, np.arange(size)) for split, size in sizes.items() if split in ("train", "validation", "test")
  }
  test = whole.get("test")
  if test is not None and len(test) and first_readable(test.label, 0, len(test), Skipped(aloud=False)) < 0:
    del whole["test"]
  if not whole:
    found = ", ".join(sorted(sizes))
    raise UserError(f"{folder} has the splits {found}; it needs train, validation, or test with labels.")
  train = whole.get("train", source(next(iter(whole)), np.arange(0)))
  if "validation" not in whole:
    if len(train):
      order = np.random.default_rng(0).permutation(len(train))
      held_out = len(train) // _HELD_OUT
      whole["validation"] = source("train", np.sort(order[:held_out]))
      train = source("train", np.sort(order[held_out:]))
    else:
      whole["validation"] = whole["test"]
  return {"train": train, "validation": whole["validation"], "test": whole.get("test", whole["validation"])}
