import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convattn.commands.predict import find_pictures
from convattn.data import (
  BrokenPicture,
  HostAugmentation,
  augmented_batch,
  evaluation_batches,
  in_memory,
  load,
  train_batch,
)
from convattn.data.picture_source import PREPROCESSING
from convattn.pretrained import Preprocessing, open_picture, synset_names
from convattn.pretrained.picture_files import SUFFIXES

TURNED = dataclasses.replace(PREPROCESSING, exif=True)
SMALL = Preprocessing((6, 8), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 0.8, "center", "bilinear")


def save(path, seed=0, size=(13, 9), mode="RGB"):
  path.parent.mkdir(parents=True, exist_ok=True)
  channels = {"RGB": 3, "L": 1, "RGBA": 4}[mode]
  pixels = np.random.default_rng(seed).integers(0, 255, (*size, channels), np.uint8)
  Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(path)
  return pixels


@pytest.fixture
def root(tmp_path):
  """Two classes; sizes and kinds of files differ."""
  for number, name in enumerate(("b.png", "a.png", "deep/er/c.PNG", "A.bmp")):
    save(tmp_path / "train" / "dog" / name, number, size=(7 + number, 20 - number))
  save(tmp_path / "train" / "cat" / "1.png", 10)
  save(tmp_path / "train" / "cat" / "2.png", 11, mode="L")
  save(tmp_path / "validation" / "dog" / "v.png", 20)
  save(tmp_path / "test" / "cat" / "t.png", 30)
  save(tmp_path / "test" / "dog" / "t.png", 31)
  return tmp_path


def relative(source, root):
  return [os.path.relpath(file, root) for file in source.files]


def test_classes_and_files_are_sorted_and_found_at_any_depth(root):
  dataset = load("folder", str(root))
  assert dataset.class_names == ("cat", "dog")
  dogs = ["train/dog/A.bmp", "train/dog/a.png", "train/dog/b.png", "train/dog/deep/er/c.PNG"]
  assert relative(dataset.train, root) == ["train/cat/1.png", "train/cat/2.png", *dogs]
  assert dataset.train.labels.tolist() == [0, 0, 1, 1, 1, 1] and dataset.train.labels.dtype == np.int32
  assert relative(dataset.validation, root) == ["validation/dog/v.png"]
  assert dataset.validation.labels.tolist() == [1]
  assert relative(dataset.test, root) == ["test/cat/t.png", "test/dog/t.png"]


def test_its_preprocessing_is_that_of_most_pretrained_weights(root):
  dataset = load("folder", str(root))
  assert dataset.preprocessing == TURNED == dataset.train.preprocessing
  assert dataset.preprocessing == Preprocessing((224, 224), (0.5,) * 3, (0.5,) * 3, 0.95, "center", "bicubic", True)
  assert dataset.image_shape == (224, 224, 3) == dataset.test[0]["image"].shape


def test_images_are_made_from_the_files_by_the_preprocessing_of_the_model(root):
  dataset = load("folder", str(root), preprocessing=SMALL)
  assert dataset.preprocessing == SMALL and dataset.image_shape == (6, 8, 3)
  for source in (dataset.train, dataset.validation, dataset.test):
    for index, file in enumerate(source.files):
      item = source[index]
      with Image.open(file) as picture:
        np.testing.assert_array_equal(item["image"], SMALL.pixels(picture))
      assert item["image"].dtype == np.uint8 and item["label"] == source.labels[index]


def test_an_image_size_goes_before_that_of_the_model(root):
  dataset = load("folder", str(root), image_size=5, preprocessing=SMALL)
  assert dataset.preprocessing == dataclasses.replace(SMALL, image_size=(5, 5))
  assert dataset.test[1]["image"].shape == (5, 5, 3)
  assert load("folder", str(root), image_size=5).preprocessing == dataclasses.replace(TURNED, image_size=(5, 5))


def test_a_model_for_grey_images_gets_grey_ones(root):
  grey = dataclasses.replace(SMALL, mean=(0.5,), std=(0.5,))
  dataset = load("folder", str(root), preprocessing=grey)
  assert dataset.image_shape == (6, 8, 1) == dataset.train[0]["image"].shape


def test_batches_hold_the_images_one_by_one(root):
  source = load("folder", str(root), preprocessing=SMALL).train
  slow, fast = (train_batch(each, batch_size=8, seed=3, step=1) for each in (in_memory(source), source))
  for name in slow:
    np.testing.assert_array_equal(slow[name], fast[name])
  (batch,) = evaluation_batches(source, 7)
  np.testing.assert_array_equal(batch["image"][:6], in_memory(source).images)
  assert batch["mask"].tolist() == [1] * 6 + [0]


def test_some_classes_and_images_are_chosen_without_reading_any(root):
  (root / "train" / "dog" / "a.png").write_text("broken")
  part = load("folder", str(root), classes="1", images_per_class=3, subset_seed=2)
  assert part.class_names == ("dog",) and part.train.labels.tolist() == [0, 0, 0]
  whole = load("folder", str(root))
  kept = set(part.train.files)
  assert kept < set(whole.train.files) and len(kept) == 3 and list(part.train.files) == sorted(kept)
  assert relative(part.test, root) == ["test/dog/t.png"] and part.test.labels.tolist() == [0]


def test_val_is_a_name_of_validation_and_stands_in_for_a_missing_test(root):
  (root / "validation").rename(root / "val")
  for name in ("cat", "dog"):
    (root / "test" / name / "t.png").unlink()
    (root / "test" / name).rmdir()
  (root / "test").rmdir()
  dataset = load("folder", str(root))
  assert relative(dataset.validation, root) == relative(dataset.test, root) == ["val/dog/v.png"]


def test_hidden_files_and_other_files_are_passed_over_and_links_followed(root, tmp_path_factory):
  before = relative(load("folder", str(root)).train, root)
  (root / "train" / "dog" / "._a.jpg").write_text("resource fork")
  (root / "train" / ".cache").mkdir()
  save(root / "train" / "dog" / ".thumbnails" / "x.png")
  (root / "train" / "notes.txt").write_text("")
  (root / "train" / "dog" / "list.csv").write_text("")
  assert relative(load("folder", str(root)).train, root) == before
  elsewhere = tmp_path_factory.mktemp("elsewhere")
  save(elsewhere / "eel" / "1.png")
  (root / "train" / "eel").symlink_to(elsewhere / "eel")
  assert load("folder", str(root)).class_names == ("cat", "dog", "eel")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_that_pillow_writes_is_found_and_read_to_train_and_to_predict(tmp_path, suffix):
  for split in ("train", "val"):
    save(tmp_path / split / "cat" / f"kind{suffix.upper()}", size=(5, 7))
  (path,) = find_pictures([str(tmp_path / "train")])
  item = load("folder", str(tmp_path), preprocessing=SMALL).train[0]
  np.testing.assert_array_equal(item["image"], SMALL.pixels(open_picture(path)))


STRAIGHT = Preprocessing((6, 8), (0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
  "given, preprocessing, turned",
  [(None, None, True), (False, None, False), (None, STRAIGHT, False), (True, STRAIGHT, True)],
)
def test_an_orientation_is_followed_unless_the_model_or_the_setting_says_otherwise(root, given, preprocessing, turned):
  picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8))
  exif = Image.Exif()
  exif[0x0112] = 3  # upside down
  picture.save(root / "validation" / "dog" / "v.png", exif=exif)
  dataset = load("folder", str(root), exif=given, preprocessing=preprocessing)
  assert dataset.preprocessing.exif is turned
  straight = dataclasses.replace(STRAIGHT, exif=dataset.preprocessing.exif)
  pixels = dataset.validation.processed(straight)[0]["image"]
  np.testing.assert_array_equal(pixels, np.asarray(picture)[::-1, ::-1] if turned else np.asarray(picture))


def test_turned_pictures_make_the_batches_of_pictures_that_lie_upright(tmp_path):
  """Random crops too, whose boxes go by a picture's width and height."""
  turns = {2: "FLIP_LEFT_RIGHT", 5: "TRANSPOSE", 6: "ROTATE_90", 8: "ROTATE_270"}  # how each lies in its file
  for orientation, turn in turns.items():
    upright = tmp_path / "upright" / "train" / "cat" / f"{orientation}.png"
    save(upright, orientation, size=(20, 9))
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = Path(str(upright).replace("upright", "turned"))
    turned.parent.mkdir(parents=True, exist_ok=True)
    Image.open(upright).transpose(Image.Transpose[turn]).save(turned, exif=exif)
  batches = []
  for name in ("upright", "turned"):
    shutil.copytree(tmp_path / name / "train", tmp_path / name / "val")
    dataset = load("folder", str(tmp_path / name), image_size=7)
    changes = HostAugmentation(resized_crop_area=0.1, randaugment_layers=1)
    batches.append(augmented_batch(dataset, changes, batch_size=4, seed=0, step=0)["image"])
    batches.append(train_batch(dataset.train, batch_size=4, seed=0, step=0)["image"])
  np.testing.assert_array_equal(batches[0], batches[2])
  np.testing.assert_array_equal(batches[1], batches[3])


def test_imagenet_identifiers_get_their_names_in_imagenet_order(tmp_path):
  wnids = list(synset_names())
  chosen = [wnids[5], wnids[2], wnids[700]]
  for split in ("train", "val"):
    for wnid in chosen:
      save(tmp_path / split / wnid / "1.png")
  assert load("folder", str(tmp_path)).class_names == tuple(synset_names()[wnids[i]] for i in (2, 5, 700))
  save(tmp_path / "train" / "n99999999" / "1.png")  # not one of the thousand
  assert load("folder", str(tmp_path)).class_names == (*sorted(chosen), "n99999999")


def remove(path):
  for each in sorted(path.rglob("*"), reverse=True):
    each.rmdir() if each.is_dir() else each.unlink()
  path.rmdir()


@pytest.mark.parametrize(
  "spoil, message",
  [
    (
      lambda root: [remove(root / name) for name in ("train", "validation", "test")],
      "ROOT has no folders; put its pictures into one folder per class, such as ROOT/cat/1.jpg",
    ),
    (lambda root: remove(root), r"cannot read ROOT: No such file .*; .* or CLASS/\*.jpg alone, in data.dir\.$"),
    (
      lambda root: ((root / "train" / "eel").mkdir(), (root / "train" / "eel" / "1.HEIC").write_text("")),
      r"ROOT/train/eel holds no picture \(.*\) but 1 .heic; add some",
    ),
    (
      lambda root: remove(root / "validation"),
      "ROOT/train makes ROOT one that is sorted into parts, but there is no folder validation .* if it is a class.$",
    ),
    (
      lambda root: (remove(root / "train"), (root / "train").write_text("")),
      r"cannot read ROOT/train: Not a directory",
    ),
    (lambda root: (remove(root / "train"), (root / "train").mkdir()), "ROOT/train has no folders; .* ROOT/train/cat/"),
    (lambda root: (remove(root / "test"), save(root / "test" / "t.png")), "ROOT/test has no folders; put its pictures"),
    (
      lambda root: (root / "train" / "eel").mkdir(),
      r"ROOT/train/eel holds no picture \(.apng, .bmp, .*\); add some, or remove",
    ),
    (lambda root: (root / "test" / "cat" / "t.png").unlink(), "ROOT/test/cat holds no picture"),
    (
      lambda root: save(root / "validation" / "eel" / "1.png"),
      "ROOT/validation/eel is a class that ROOT/train lacks; ",
    ),
    (lambda root: save(root / "val" / "dog" / "1.png"), "ROOT has both validation and val; keep one"),
    (
      lambda root: (root / "train" / "dog" / "x").symlink_to(root / "train"),
      "ROOT/train/dog/x/dog is ROOT/train/dog once more, through a symbolic link; remove",
    ),
  ],
)
def test_a_folder_of_another_form_is_one_line_with_path_and_remedy(root, spoil, message):
  spoil(root)
  with pytest.raises(ValueError, match=message.replace("ROOT", str(root))) as caught:
    load("folder", str(root))
  assert "\n" not in str(caught.value)


def test_without_a_train_part_a_model_can_be_scored_not_trained(root):
  remove(root / "train")
  dataset = load("folder", str(root))
  assert dataset.class_names == ("cat", "dog")
  assert dataset.validation.labels.tolist() == [1] and dataset.test.labels.tolist() == [0, 1]
  assert next(evaluation_batches(dataset.validation, 1))["label"].tolist() == [1]
  with pytest.raises(ValueError, match="no images to train on; .* train/CLASS"):
    train_batch(dataset.train, batch_size=1, seed=0, step=0)


def test_the_folder_must_be_named():
  with pytest.raises(ValueError, match="needs the folder's name.*--config.data.dir=DIR"):
    load("folder")


@pytest.mark.parametrize("spoil", ["truncated", "text", "gone", "float"])
def test_a_broken_picture_is_one_line_with_its_path(root, spoil):
  dataset = load("folder", str(root), preprocessing=SMALL)
  path = root / "train" / "dog" / "b.png"
  content = path.read_bytes()
  if spoil == "float":
    Image.fromarray(np.zeros((3, 3), np.float32)).save(path, format="tiff")
  elif spoil == "gone":
    path.unlink()
  else:
    path.write_bytes(content[: len(content) // 2] if spoil == "truncated" else b"no picture")
  for read in (lambda: in_memory(dataset.train), lambda: train_batch(dataset.train, batch_size=6, seed=0, step=0)):
    with pytest.raises(BrokenPicture, match="b.png") as caught:
      read()
    assert isinstance(caught.value, ValueError) and "\n" not in str(caught.value)


def test_a_home_directory_is_found(root, monkeypatch):
  monkeypatch.setenv("HOME", str(root.parent))
  assert load("folder", f"~/{root.name}").train.files[0] == str(root / "train" / "cat" / "1.png")


def test_scanning_a_folder_imports_neither_pillow_nor_tfds(root):
  code = (
    "import sys, convattn.data; convattn.data.load('folder', sys.argv[1]); "
    "print([name for name in ('PIL', 'tensorflow_datasets') if name in sys.modules])"
  )
  done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == "[]"
