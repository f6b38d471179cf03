"""The data sets known by name, and what an experiment may change about them."""

import dataclasses
from collections.abc import Callable
from typing import Any

from convattn.data.broken import CHOICES, Skipped
from convattn.data.folder import load_folder
from convattn.data.picture_source import PictureSource
from convattn.data.preparation import data_root, prepared, quiet
from convattn.data.records import load_records, record_folder
from convattn.data.selection import select
from convattn.data.sources import ArraySource, Dataset, fields_of, in_memory
from convattn.data.stock import missing
from convattn.errors import UserError
from convattn.pretrained import Preprocessing


def _load_digits(directory: str) -> Dataset:
  # Here because it imports TFDS, which `import convattn.data` must not.
  from convattn.data import digits

  builder = prepared(digits.Digits, data_root(directory))
  with quiet():
    sources: dict[str, Any] = {
      split: in_memory(builder.as_data_source(split)) for split in ("train", "validation", "test")
    }
  return Dataset(
    **sources, class_names=digits.CLASS_NAMES, image_shape=digits.IMAGE_SHAPE, mean=digits.MEAN, std=digits.STD
  )


_FOLDER = "folder"
_LOADERS: dict[str, Callable[[str], Dataset]] = {"digits": _load_digits, _FOLDER: load_folder}


def turns_pictures(name: str) -> bool:
  """Whether the pictures of data set `name` are turned as their EXIF orientation says, where nothing else is said.

  Those of a folder are: people put photographs there as they come from a camera. What TFDS prepared, and what released
  weights were trained and scored on, was not.
  """
  return name == _FOLDER


def _load_prepared(name: str, directory: str) -> Dataset:
  root = data_root(directory)
  folder = record_folder(root, name)
  if folder is None:
    raise missing(name, root, tuple(_LOADERS))
  return load_records(folder)


def load(
  name: str,
  directory: str = "",
  *,
  classes: str = "",
  images_per_class: int = 0,
  subset_seed: int = 0,
  image_size: int = 0,
  broken: str = "stop",
  exif: bool | None = None,
  preprocessing: Preprocessing | None = None,
) -> Dataset:
  """The data set `name`; the embedded one is prepared first if it is missing.

  Args:
    name: "digits", the embedded data set; "folder", pictures in DIR/train/CLASS or DIR/CLASS and so on (see `folder`);
      or what TFDS has prepared under that name, such as "cifar10" or "cifar10_corrupted/fog_1" (see `records`).
    directory: where prepared data lies; empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets. Of "folder" the folder
      itself, and never empty.
    classes, images_per_class, subset_seed: a part of it, see `selection.select`.
    image_size: pixels per side that all images get; 0: as they come (of many sizes: 224). Images in memory are resized
      with both sides to it (bicubic) unless they have that size; pictures are resized and cropped to it.
    broken: what to do about a picture that cannot be read. "stop": BrokenPicture. "skip": in a training batch the next
      one of its split that can be read takes its place, an evaluation leaves it out; the first time stderr names it,
      and `Dataset.skipped()` counts.
    exif: whether pictures are turned as their EXIF orientation says. None: as `preprocessing` says; without that see
      `turns_pictures`.
    preprocessing: of the model that is to see the images: its mean and std take the place of the data set's own, and
      with them the number of channels (one: grey, three: RGB). Pictures that are not in memory take its size (unless
      `image_size` is given), crop and interpolation as well.

  Raises:
    UserError: an unknown name, data that is missing (the message has the command that makes it), a folder or records
      without what they need, or a selection that the data set cannot give; one line.
  """
  if image_size < 0:
    raise UserError(f"image_size must be at least 0 (0: as they come), got {image_size}.")
  if broken not in CHOICES:
    raise UserError(f"broken must be one of {', '.join(map(repr, CHOICES))}, got {broken!r}.")
  dataset = _LOADERS[name](directory) if name in _LOADERS else _load_prepared(name, directory)
  whole, dataset = dataset, select(dataset, classes=classes, images_per_class=images_per_class, seed=subset_seed)
  for split in ("validation", "test"):
    if len(getattr(whole, split)) and not len(getattr(dataset, split)):
      raise UserError(
        f"classes is {classes!r}, of which the {split} part of {name!r} has no images; choose more classes, or give it "
        "some."
      )
  if broken == "skip":
    dataset = skipping(dataset)
  if exif is None and preprocessing is None:
    exif = turns_pictures(name)
  return adapt(dataset, image_size=image_size, exif=exif, preprocessing=preprocessing)


def skipping(dataset: Dataset) -> Dataset:
  """The data set with its unreadable pictures left out and counted; of images in memory there are none."""
  skipped = Skipped()
  sources: dict[str, Any] = {
    split: source.replaced(skipped=skipped)
    for split in ("train", "validation", "test")
    if isinstance(source := getattr(dataset, split), PictureSource)
  }
  return dataclasses.replace(dataset, **sources)


def adapt(
  dataset: Dataset, *, image_size: int = 0, exif: bool | None = None, preprocessing: Preprocessing | None = None
) -> Dataset:
  """The data set with images of another size, turned or not, or for a model with a preprocessing; as `load` says."""
  own = dataset.preprocessing
  if preprocessing is None:
    wanted = own
  elif isinstance(dataset.train, ArraySource):  # there is nothing around these images that a crop could leave out
    wanted = dataclasses.replace(own, mean=preprocessing.mean, std=preprocessing.std)
  else:
    wanted = preprocessing
  if image_size:
    wanted = dataclasses.replace(wanted, image_size=(image_size, image_size))
  if exif is not None:
    wanted = dataclasses.replace(wanted, exif=exif)
  if wanted == own:
    return dataset
  fields = fields_of(wanted)
  in_memory_as_wanted = isinstance(dataset.train, ArraySource) and fields["image_shape"] == tuple(dataset.image_shape)
  sources: dict[str, Any] = (
    {} if in_memory_as_wanted else {split: source.processed(wanted) for split, source in dataset.labelled.items()}
  )
  return dataclasses.replace(dataset, **sources, **fields)
