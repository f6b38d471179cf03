"""Fashion-MNIST from its four files, and one line for each way in which they can be wrong."""

import gzip
import struct

import numpy as np
import pytest

from convattn.data import fashion_mnist, load
from convattn.data.fashion_mnist import FILES, prepare, read_idx, validation_indexes
from convattn.errors import UserError

KEPT_OUT = (1, 4, 6)


def idx(array):
  return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def parts():
  draws = np.random.default_rng(0)
  return {
    part: (draws.integers(0, 256, (count, 28, 28), np.uint8), np.arange(count, dtype=np.uint8) % 10)
    for part, count in (("train", 11), ("test", 5))
  }


@pytest.fixture
def folder(parts, tmp_path, monkeypatch):
  """The files of a small set: those to train on packed, the others not."""
  monkeypatch.setattr(fashion_mnist, "validation_indexes", lambda: KEPT_OUT)
  folder = tmp_path / "files"
  folder.mkdir()
  for part, arrays in parts.items():
    for name, array in zip(FILES[part], arrays, strict=True):
      packed = part == "train"
      (folder / f"{name}{'.gz' * packed}").write_bytes(gzip.compress(idx(array)) if packed else idx(array))
  return folder


def test_its_pictures_come_back_in_the_order_of_the_files(folder, parts, tmp_path):
  prepare(folder, tmp_path / "data")
  dataset = load("fashion_mnist", str(tmp_path / "data"))
  images, labels = parts["train"]
  taught = [i for i in range(11) if i not in KEPT_OUT]
  wanted = {"train": (images[taught], labels[taught]), "validation": (images[[*KEPT_OUT]], labels[[*KEPT_OUT]])}
  for split, (pixels, classes) in {**wanted, "test": parts["test"]}.items():
    source = getattr(dataset, split)
    assert len(source) == len(pixels)
    for i, (image, label) in enumerate(zip(pixels, classes, strict=True)):
      found = source[i]
      np.testing.assert_array_equal(found["image"], image[..., None])
      assert found["label"] == label
  assert dataset.class_names[:2] == ("T-shirt/top", "Trouser") and dataset.image_shape == (28, 28, 1)
  assert (tmp_path / "data" / "fashion_mnist" / "3.0.1" / "features.json").is_file()  # where TFDS looks too


def test_the_validation_part_is_a_list_of_500_of_each_class():
  indexes = np.array(validation_indexes())
  assert len(indexes) == len(set(validation_indexes())) == 5000
  assert (np.diff(indexes) > 0).all() and indexes[0] >= 0 and indexes[-1] < 60_000
  if fashion_mnist.DEBIAN.is_dir():
    labels = read_idx(fashion_mnist.DEBIAN / "train-labels-idx1-ubyte.gz")
    assert np.bincount(labels[indexes]).tolist() == [500] * 10


IMAGES, LABELS = (f"{name}.gz" for name in FILES["train"])
PIXELS = np.zeros((11, 28, 28), np.uint8)


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    (IMAGES, None, "must hold the four files train-images-idx3-ubyte.gz, .*; name their folder with --manual_dir=DIR"),
    (IMAGES, gzip.compress(idx(PIXELS))[:-9], "train-images-idx3-ubyte.gz cannot be read"),
    (IMAGES, b"no gzip", "cannot be read .*; fetch it again"),
    (IMAGES, gzip.compress(idx(PIXELS)[:-5]), r"holds 8,619 numbers, but must hold 8,624 for its sizes \(11, 28, 28\)"),
    (IMAGES, gzip.compress(b"\0\0\x0d" + idx(PIXELS)[3:]), "begins with '00 00 0d 03', but .* with '00 00 08'"),
    (IMAGES, gzip.compress(b""), "begins with '', but"),
    (IMAGES, gzip.compress(idx(PIXELS)[:9]), "has 9 bytes, but its sizes alone take 16; fetch it again"),
    (IMAGES, gzip.compress(idx(PIXELS[:, :27])), r"has sizes \(11, 27, 28\), but must have \(n, 28, 28\)"),
    (IMAGES, gzip.compress(idx(PIXELS[:9])), r"has sizes \(11,\), but .*train-images-idx3-ubyte.gz has 9 images"),
    (LABELS, gzip.compress(idx(np.full(11, 10, np.uint8))), "has the label 10, but there are 10 classes, from 0"),
  ],
  ids=range(10),
)
def test_a_wrong_file_is_one_line_and_nothing_is_written(folder, tmp_path, name, content, message):
  (folder / name).unlink()
  if content is not None:
    (folder / name).write_bytes(content)
  with pytest.raises(UserError, match=message) as raised:
    prepare(folder, tmp_path / "data")
  assert "\n" not in str(raised.value)
  assert not (tmp_path / "data").exists()


def test_too_few_images_are_not_those_of_the_set(folder, tmp_path, monkeypatch):
  monkeypatch.setattr(fashion_mnist, "validation_indexes", lambda: (3, 11))
  with pytest.raises(UserError, match="has 11 images, but must have 60,000; fetch it again"):
    prepare(folder, tmp_path / "data")
