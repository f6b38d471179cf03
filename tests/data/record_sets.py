"""Data sets made of records as TFDS writes them, without TensorFlow."""

import io
import pathlib

import numpy as np
from PIL import Image

from convattn.data.preparation import quiet


def encoded(seed, size=(13, 9), channels=3, kind="PNG"):
  """The bytes of a picture of noise."""
  pixels = np.random.default_rng(seed).integers(0, 255, (*size, channels), np.uint8)
  stream = io.BytesIO()
  Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(stream, kind)
  return stream.getvalue()


def write(root, name, splits, features=None, version="1.0.0"):
  """Writes ROOT/NAME/VERSION with `splits`: {split: [example, ...]}, in that order, and returns its path."""
  import tensorflow_datasets as tfds

  def info(self):
    chosen = features or {
      "image": tfds.features.Image(),
      "label": tfds.features.ClassLabel(names=["cat", "dog", "eel"]),
    }
    return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(chosen), disable_shuffling=True)

  body = {
    "name": name,
    "VERSION": tfds.core.Version(version),
    "pkg_dir_path": pathlib.Path(__file__).parent,
    "_info": info,
    "_split_generators": lambda self, _: {split: enumerate(examples) for split, examples in splits.items()},
    "_generate_examples": lambda self: None,
  }
  with quiet():
    builder = type("Made", (tfds.core.GeneratorBasedBuilder,), body, skip_registration=True)(
      data_dir=str(root), file_format="array_record"
    )
    builder.download_and_prepare()
  return pathlib.Path(builder.data_dir)


def examples(count, labels=3, **fields):
  """`count` examples of different sizes, labels 0, 1, ... in turn."""
  return [{"image": encoded(i, (9 + i % 3, 12 - i % 4)), "label": i % labels, **fields} for i in range(count)]
