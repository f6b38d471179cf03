"""The data sets known by name, and what an experiment may change about them."""

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any

from convattn.data import folder
from convattn.data.preparation import data_root, prepared, quiet
from convattn.data.selection import select
from convattn.data.sources import ArraySource, Dataset, in_memory
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


_LOADERS: dict[str, Callable[[str], Dataset]] = {"digits": _load_digits, "folder": folder.load_folder}


def load(
  name: str,
  directory: str = "",
  *,
  classes: str = "",
  images_per_class: int = 0,
  subset_seed: int = 0,
  image_size: int = 0,
  preprocessing: Preprocessing | None = None,
) -> Dataset:
  """The data set `name`, prepared first if it is missing.

  Args:
    name: "digits", the embedded data set, or "folder", pictures in DIR/train/CLASS and so on (see `folder`).
    directory: where prepared data lies; empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets. Of "folder" the folder
      itself, and never empty.
    classes, images_per_class, subset_seed: a part of it, see `selection.select`.
    image_size: pixels per side that all images get; 0: as they come (folder: 224). Images in memory are resized with
      both sides to it (bicubic) unless they have that size; pictures of a folder are resized and cropped to it.
    preprocessing: of the model that is to see the images: its mean and std take the place of the data set's own, and
      with them the number of channels (one: grey, three: RGB). A folder takes its size (unless `image_size` is
      given), crop and interpolation as well.

  Raises:
    ValueError: an unknown name, data that is missing and cannot be written to `directory`, a folder without what it
      needs, or a selection that the data set cannot give; one line.
  """
  if name not in _LOADERS:
    nearest = difflib.get_close_matches(name, _LOADERS, n=3)
    hint = f"did you mean {' or '.join(map(repr, nearest))}? " if nearest else ""
    raise ValueError(f"unknown data set {name!r}; {hint}Known: {', '.join(sorted(_LOADERS))}.")
  if image_size < 0:
    raise ValueError(f"image_size must be at least 0 (0: as they come), got {image_size}.")
  dataset = _LOADERS[name](directory)
  dataset = select(dataset, classes=classes, images_per_class=images_per_class, seed=subset_seed)
  return adapt(dataset, image_size=image_size, preprocessing=preprocessing)


def adapt(dataset: Dataset, *, image_size: int = 0, preprocessing: Preprocessing | None = None) -> Dataset:
  """The data set with images of another size, or for a model with a preprocessing of its own; as `load` says."""
  own = dataset.preprocessing
  if preprocessing is None:
    wanted = own
  elif isinstance(dataset.train, ArraySource):  # there is nothing around these images that a crop could leave out
    wanted = dataclasses.replace(own, mean=preprocessing.mean, std=preprocessing.std)
  else:
    wanted = preprocessing
  if image_size:
    wanted = dataclasses.replace(wanted, image_size=(image_size, image_size))
  if wanted == own:
    return dataset
  shape = (*wanted.image_size, len(wanted.mean))
  in_memory_as_wanted = isinstance(dataset.train, ArraySource) and shape == tuple(dataset.image_shape)
  sources: dict[str, Any] = (
    {} if in_memory_as_wanted else {split: source.processed(wanted) for split, source in dataset.labelled.items()}
  )
  return dataclasses.replace(
    dataset,
    **sources,
    image_shape=shape,
    mean=wanted.mean,
    std=wanted.std,
    crop_fraction=wanted.crop_fraction,
    crop_mode=wanted.crop_mode,
    interpolation=wanted.interpolation,
  )
