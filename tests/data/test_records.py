import concurrent.futures
import contextlib
import io
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convattn.data import (
  BrokenPicture,
  HostAugmentation,
  augmented_batch,
  evaluation_batches,
  load,
  records,
  train_batch,
)
from convattn.data.picture_source import PREPROCESSING
from convattn.pretrained import Preprocessing, synset_names

sys.path.insert(0, str(Path(__file__).parent))
import record_sets

tfds = pytest.importorskip("tensorflow_datasets")
LABEL = tfds.features.ClassLabel(names=["cat", "dog", "eel"])
SMALL = Preprocessing((6, 8), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 0.8, "center", "bilinear")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  """'pets' with train and test, beside what other tests need."""
  directory = tmp_path_factory.mktemp("records")
  record_sets.write(directory, "pets", {"train": record_sets.examples(23), "test": record_sets.examples(5, 2)})
  return directory


def pixels(example):
  return Image.open(io.BytesIO(example["image"]))


def of(source):
  """The number of each example, told by its image: `record_sets.examples` has no two alike."""
  made = {SMALL.pixels(pixels(example)).tobytes(): i for i, example in enumerate(record_sets.examples(23))}
  return [made[source[i]["image"].tobytes()] for i in range(len(source))]


def test_pictures_of_any_size_are_made_by_the_preprocessing_of_the_model(root):
  dataset = load("pets", str(root), preprocessing=SMALL)
  assert dataset.preprocessing == SMALL and dataset.image_shape == (6, 8, 3)
  assert dataset.class_names == ("cat", "dog", "eel")
  for i, example in enumerate(record_sets.examples(5, 2)):
    item = dataset.test[i]
    np.testing.assert_array_equal(item["image"], SMALL.pixels(pixels(example)))
    assert item["label"] == example["label"]
  own = load("pets", str(root))
  assert own.preprocessing == PREPROCESSING and own.image_shape == (224, 224, 3)
  assert load("pets", str(root), image_size=5).test[0]["image"].shape == (5, 5, 3)


def test_a_tenth_of_train_is_the_validation_part_where_there_is_none(root):
  dataset = load("pets", str(root), preprocessing=SMALL)
  train, validation = of(dataset.train), of(dataset.validation)
  assert len(validation) == 2 and sorted([*train, *validation]) == list(range(23)) and train == sorted(train)
  assert validation == sorted(np.random.default_rng(0).permutation(23)[:2].tolist())
  assert dataset.train.labels.tolist() == [i % 3 for i in train] and len(dataset.test) == 5


@pytest.mark.parametrize(
  "splits, sizes",
  [
    ({"train": 7, "validation": 3, "test": 2}, (7, 3, 2)),
    ({"train": 7, "validation": 3}, (7, 3, 3)),
    ({"train": 20}, (18, 2, 2)),
    ({"test": 4}, (0, 4, 4)),
    ({"validation": 4}, (0, 4, 4)),
    ({"train": 3, "validation": 2, "test": 2, "unlabelled": 5}, (3, 2, 2)),
  ],
)
def test_splits_are_those_there_are(tmp_path, splits, sizes):
  record_sets.write(tmp_path, "some", {split: record_sets.examples(count) for split, count in splits.items()})
  dataset = load("some", str(tmp_path), image_size=4)
  assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == sizes
  batches = list(evaluation_batches(dataset.test, 3))
  assert sum(batch["mask"].sum() for batch in batches) == sizes[2]


def test_a_test_part_without_labels_is_no_test_part(tmp_path):
  hidden = [{**example, "label": -1} for example in record_sets.examples(6)]
  parts = {"train": record_sets.examples(3), "validation": record_sets.examples(2), "test": hidden}
  record_sets.write(tmp_path, "some", parts)
  assert len(load("some", str(tmp_path)).test) == 2
  record_sets.write(tmp_path, "none", {"test": hidden, "extra": hidden})
  with pytest.raises(ValueError, match="has the splits extra, test; it needs train, validation, or test with labels"):
    load("none", str(tmp_path))


def test_images_of_one_size_keep_it(tmp_path):
  grey = [{"image": record_sets.encoded(i, (5, 7), channels=1), "label": i % 3} for i in range(4)]
  image = tfds.features.Image(shape=(5, 7, 1))
  record_sets.write(tmp_path, "grey", {"train": grey, "test": grey}, {"image": image, "label": LABEL})
  dataset = load("grey", str(tmp_path))
  assert dataset.preprocessing == Preprocessing((5, 7), (0.5,), (0.5,))
  for i, example in enumerate(grey):
    np.testing.assert_array_equal(dataset.test[i]["image"][..., 0], np.asarray(pixels(example)))


def test_crops_are_taken_from_the_whole_picture(root):
  place = {"batch_size": 5, "seed": 0, "step": 1}
  tiny = load("pets", str(root), preprocessing=SMALL)
  changes = HostAugmentation(resized_crop_area=0.2)
  changed = augmented_batch(tiny, changes, **place)
  np.testing.assert_array_equal(changed["label"], train_batch(tiny.train, **place)["label"])
  again = augmented_batch(load("pets", str(root), preprocessing=SMALL), changes, **place)
  np.testing.assert_array_equal(changed["image"], again["image"])
  centre = Preprocessing((6, 8), SMALL.mean, SMALL.std, 0.1, "center", "bilinear")
  other = augmented_batch(load("pets", str(root), preprocessing=centre), changes, **place)
  np.testing.assert_array_equal(changed["image"], other["image"])  # the centre crop has no part in it


def test_classes_are_selected_by_a_pass_over_the_records_without_decoding(tmp_path, monkeypatch):
  broken = [{"image": b"no picture", "label": i % 3} for i in range(9)]
  record_sets.write(tmp_path, "some", {"train": broken, "validation": broken, "test": broken})
  part = load("some", str(tmp_path), classes="2,0", images_per_class=2)
  assert part.class_names == ("eel", "cat") and sorted(part.train.labels) == [0, 0, 1, 1]
  assert part.test.labels.tolist() == [1, 0, 1, 0, 1, 0]
  # Without a selection nobody asks.
  monkeypatch.setattr(type(part.train), "labels", property(lambda self: pytest.fail("all records were read")))
  assert len(load("some", str(tmp_path), image_size=3).train) == 9


def test_of_a_selection_images_and_labels_stay_together(root):
  part = load("pets", str(root), preprocessing=SMALL, classes="1,2", images_per_class=3)
  whole = {0: 1, 1: 2}
  for number, item in zip(of(part.train), (part.train[i] for i in range(6)), strict=True):
    assert number % 3 == whole[item["label"]]


def test_a_broken_record_is_named_by_its_place_or_left_out(tmp_path):
  examples = record_sets.examples(4)
  examples[2]["image"] = examples[2]["image"][:-40]
  folder = record_sets.write(tmp_path, "some", {"train": examples, "test": examples})
  stopping, skips = (load("some", str(tmp_path), preprocessing=SMALL, broken=how) for how in ("stop", "skip"))
  with pytest.raises(BrokenPicture, match="damaged") as caught:
    list(evaluation_batches(stopping.test, 4))
  assert caught.value.picture == f"{folder}: test[2]" and caught.value.picture in str(caught.value)
  (batch,) = evaluation_batches(skips.test, 4)
  assert batch["mask"].tolist() == [1, 1, 0, 1] and skips.skipped() == 1


def test_records_that_are_damaged_are_one_line(tmp_path):
  folder = record_sets.write(tmp_path, "some", {"train": record_sets.examples(4), "test": record_sets.examples(4)})
  dataset = load("some", str(tmp_path), image_size=3)
  (file,) = folder.glob("*test*array_record*")
  content = bytearray(file.read_bytes())
  places = [place for place, byte in enumerate(content) if byte]  # most of the file is padding
  content[places[len(places) // 2]] ^= 255
  file.write_bytes(content)
  with pytest.raises(BrokenPicture, match=r"test\[\d\]' cannot be read \(") as caught:
    list(evaluation_batches(dataset.test, 4))
  assert "\n" not in str(caught.value)
  dataset = load("some", str(tmp_path), image_size=3, broken="skip")
  (batch,) = evaluation_batches(dataset.test, 4)
  assert 0 < batch["mask"].sum() < 4 and batch["mask"].sum() + dataset.skipped() == 4


def test_the_newest_version_is_taken_unless_one_is_named(tmp_path):
  for version, count in (("1.0.0", 2), ("10.0.0", 3), ("9.0.0", 4)):
    record_sets.write(tmp_path, "some", {"test": record_sets.examples(count)}, version=version)
  assert len(load("some", str(tmp_path)).test) == 3
  assert len(load("some/9.0.0", str(tmp_path)).test) == 4


def test_of_several_configurations_one_must_be_named(tmp_path):
  for config, count in (("fog", 2), ("snow", 3)):
    record_sets.write(tmp_path / "weather", config, {"test": record_sets.examples(count)})
  with pytest.raises(ValueError, match="'weather' has several .*: weather/fog, weather/snow; name one"):
    load("weather", str(tmp_path))
  assert len(load("weather/snow", str(tmp_path)).test) == 3
  for name in ("", ".", "..", "/"):
    with pytest.raises(ValueError, match="unknown data set"):
      load(name, str(tmp_path))


@pytest.mark.parametrize(
  "features, message",
  [
    ({"picture": tfds.features.Text(), "label": LABEL}, "label: ClassLabel, picture: Text; name another"),
    ({"image": tfds.features.Text(), "label": LABEL}, "image: Text, label: ClassLabel"),
    ({"image": tfds.features.Image(), "label": tfds.features.Text()}, "image: Image, label: Text"),
    (
      {"image": tfds.features.Image(shape=(None, None, 1), dtype=np.uint16, encoding_format="png"), "label": LABEL},
      "must be uint8 with 1, 3 or 4 channels, .* uint16",
    ),
  ],
)
def test_other_features_are_listed(tmp_path, features, message):
  texts = {"Text": "x", "Image": record_sets.encoded(0), "ClassLabel": 0}
  example = {name: texts[type(feature).__name__] for name, feature in features.items()}
  record_sets.write(tmp_path, "some", {"train": [example]}, features)
  with pytest.raises(ValueError, match=message) as caught:
    load("some", str(tmp_path))
  assert "\n" not in str(caught.value)


def test_a_format_that_is_read_in_order_only_is_named(root, tmp_path):
  folder = root / "pets" / "1.0.0"
  other = tmp_path / "pets" / "1.0.0"
  other.mkdir(parents=True)
  for name in ("features.json", "dataset_info.json"):
    text = (folder / name).read_text().replace("array_record", "tfrecord")
    (other / name).write_text(text)
  for file in folder.glob("label*"):
    (other / file.name).write_bytes(file.read_bytes())
  with pytest.raises(ValueError, match="holds tfrecord, which .* convattn prepare, which writes array_record"):
    load("pets", str(tmp_path))


def test_records_are_opened_by_one_thread_at_a_time_and_once(root, monkeypatch):
  inside, seen = threading.Semaphore(0), []

  @contextlib.contextmanager
  def watched():  # the real one redirects stdout for the whole process
    inside.release()
    time.sleep(0.05)
    seen.append(inside._value)
    yield
    inside.acquire()

  dataset = load("pets", str(root), preprocessing=SMALL)
  records._open.cache_clear()
  monkeypatch.setattr(records, "quiet", watched)
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(dataset.test.example, range(4)))
  assert seen == [1]


@pytest.mark.parametrize("name", ["features.json", "dataset_info.json"])
@pytest.mark.parametrize("content", ["", "{}", '{"name"', "[1]", None])
def test_a_damaged_description_is_one_line(tmp_path, name, content):
  folder = record_sets.write(tmp_path, "some", {"test": record_sets.examples(2)})
  if content is None:
    (folder / name).unlink()
  else:
    (folder / name).write_text(content)
  with pytest.raises(ValueError) as caught:
    load("some", str(tmp_path))
  assert "\n" not in str(caught.value) and ("some" in str(caught.value))


def test_imagenet_identifiers_get_their_names(tmp_path):
  wnids = list(synset_names())[:2]
  features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=wnids)}
  record_sets.write(tmp_path, "some", {"test": record_sets.examples(2, 2)}, features)
  assert load("some", str(tmp_path)).class_names == tuple(synset_names()[wnid] for wnid in wnids)


ALONE = """
import sys, convattn.data
dataset = convattn.data.load("pets", sys.argv[1], image_size=4)
assert convattn.data.train_batch(dataset.train, batch_size=3, seed=0, step=0)["image"].shape == (3, 4, 4, 3)
print([name for name in ("tensorflow", "jax") if name in sys.modules])
"""


def test_reading_imports_neither_tensorflow_nor_jax_and_prints_nothing(root):
  done = subprocess.run([sys.executable, "-c", ALONE, str(root)], capture_output=True, text=True, check=True)
  assert (done.stdout, done.stderr) == ("[]\n", "")
