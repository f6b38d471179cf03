import contextlib
import io
import pickle
import threading

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import Image

from convattn.data import (
  ArraySource,
  BrokenPicture,
  Dataset,
  FolderSource,
  HostAugmentation,
  Skipped,
  Workers,
  augmented_batch,
  evaluation_batches,
  load,
  train_batch,
)
from convattn.data.broken import IN_A_ROW, first_readable, readable
from convattn.data.loading import skipping
from convattn.pretrained import Preprocessing

SMALL = Preprocessing((4, 4), (0.5,) * 3, (0.5,) * 3)
SPOILS = {
  "truncated": lambda content: content[: len(content) // 2],
  "empty": lambda content: b"",
  "text": lambda content: b"no picture",
  "gone": None,
}
PLACE = {"batch_size": 7, "seed": 1, "step": 2}


@pytest.fixture
def root(tmp_path):
  """Five JPEGs to train on, of which number 4 and 0 of the validation part are broken."""
  for split, count in (("train", 5), ("validation", 3)):
    for i in range(count):
      path = tmp_path / split / "cat" / f"{i}.jpg"
      path.parent.mkdir(parents=True, exist_ok=True)
      pixels = np.random.default_rng(10 * len(split) + i).integers(0, 255, (12 + i, 15 - i, 3), np.uint8)
      Image.fromarray(pixels).save(path)
  spoil(tmp_path / "train" / "cat" / "4.jpg", "truncated")
  spoil(tmp_path / "validation" / "cat" / "0.jpg", "truncated")
  return tmp_path


def spoil(path, how):
  path.write_bytes(SPOILS[how](path.read_bytes())) if SPOILS[how] else path.unlink()


def test_the_next_one_that_can_be_read_takes_its_place_in_training(root, capsys):
  stopping, skips = (load("folder", str(root), image_size=6, broken=broken) for broken in ("stop", "skip"))
  with pytest.raises(BrokenPicture, match=r"train/cat/4\.jpg"):
    train_batch(stopping.train, **PLACE)
  images = [stopping.train[index]["image"] for index in range(4)]
  expected = [*images, images[0]]  # behind the last comes the first
  for batch_size in (1, 5, 12):
    for step in range(4):
      batch = train_batch(skips.train, batch_size=batch_size, seed=3, step=step)
      twin = train_batch(_numbered(5), batch_size=batch_size, seed=3, step=step)
      np.testing.assert_array_equal(batch["image"], [expected[index] for index in twin["image"][:, 0, 0, 0]])
  assert skips.skipped() == 1 and stopping.skipped() == 0
  said = capsys.readouterr().err.splitlines()
  assert len(said) == 1 and said[0].startswith("skipped: ") and str(root / "train" / "cat" / "4.jpg") in said[0]


def _numbered(size):
  return ArraySource(np.broadcast_to(np.arange(size, dtype=np.uint8)[:, None, None, None], (size, 1, 1, 1)), [0] * size)


@pytest.mark.parametrize("how", SPOILS)
def test_an_evaluation_leaves_it_out(root, how, capsys):
  dataset = load("folder", str(root), image_size=6, broken="skip")
  spoil(root / "validation" / "cat" / "2.jpg", how)
  kept = load("folder", str(root), image_size=6).validation[1]["image"]
  (batch,) = evaluation_batches(dataset.validation, 4)
  assert batch["mask"].tolist() == [0, 1, 0, 0] and batch["mask"].dtype == np.float32
  np.testing.assert_array_equal(batch["image"][1], kept)
  assert not batch["image"][[0, 2, 3]].any() and batch["label"].tolist() == [0] * 4
  assert dataset.skipped() == 2
  list(evaluation_batches(dataset.test, 2))  # the same files once more
  assert dataset.skipped() == 2 and len(capsys.readouterr().err.splitlines()) == 2


def test_a_batch_of_nothing_but_broken_pictures_has_the_shape_of_the_others(root):
  dataset = load("folder", str(root), image_size=6, broken="skip")
  first, *_ = evaluation_batches(dataset.validation, 1)
  assert first["image"].shape == (1, 6, 6, 3) and first["mask"].tolist() == [0]


def test_augmentation_of_the_one_in_its_place_has_the_draws_of_the_row(root):
  dataset = load("folder", str(root), image_size=6, broken="skip")
  changes = HostAugmentation(resized_crop_area=0.3, randaugment_layers=1, randaugment_magnitude=5)
  batch = augmented_batch(dataset, changes, **PLACE)
  # Where picture 4 is a copy of picture 0, nothing is left out and the batch is the same.
  (root / "train" / "cat" / "4.jpg").write_bytes((root / "train" / "cat" / "0.jpg").read_bytes())
  whole = load("folder", str(root), image_size=6)
  np.testing.assert_array_equal(batch["image"], augmented_batch(whole, changes, **PLACE)["image"])
  assert dataset.skipped() == 1


def test_a_part_of_the_data_counts_with_the_whole(root):
  dataset = load("folder", str(root), image_size=6, images_per_class=5, broken="skip")
  train_batch(dataset.train, **PLACE)
  assert dataset.skipped() == 1


def test_a_picture_in_an_unknown_mode_is_left_out_too(root):
  Image.fromarray(np.zeros((3, 3), np.float32)).save(root / "train" / "cat" / "1.tif")
  dataset = load("folder", str(root), image_size=6, broken="skip")
  for step in range(2):
    augmented_batch(dataset, HostAugmentation(resized_crop_area=0.5), batch_size=6, seed=0, step=step)
  assert dataset.skipped() == 2


def test_a_disk_that_has_gone_stops_the_run(tmp_path):
  skipped, tried = Skipped(aloud=False), []

  def fail(index):
    tried.append(index)
    raise BrokenPicture(f"{index} is not there", str(index))

  with pytest.raises(BrokenPicture, match=f"{IN_A_ROW} pictures in a row .*disk.* 42 is not there"):
    first_readable(fail, 143, 200, skipped)
  assert tried == [*range(143, 200), *range(43)] and len(skipped) == IN_A_ROW
  with pytest.raises(BrokenPicture, match="^7 pictures in a row"):
    first_readable(fail, 3, 7, skipped)
  assert readable(fail, 1, skipped) is None
  for read in (lambda: first_readable(fail, 3, 7, None), lambda: readable(fail, 3, None)):
    with pytest.raises(BrokenPicture, match="^3 is not there"):
      read()


def gone(tmp_path, size, there=()):
  """A source of `size` pictures, of which only those of these numbers are there."""
  Image.fromarray(np.zeros((5, 5, 3), np.uint8)).save(tmp_path / "there.png")
  names = [str(tmp_path / ("there.png" if i in there else f"{i}.png")) for i in range(size)]
  return FolderSource(np.array(names, object), np.zeros(size, np.int32), SMALL, Skipped(aloud=False))


@pytest.mark.parametrize("batch_size", [3, 64, 1000])
def test_an_evaluation_of_a_disk_that_has_gone_stops_too(tmp_path, batch_size):
  for size in (7, IN_A_ROW + 60):
    wanted = f"{min(size, IN_A_ROW)} pictures in a row .*disk"
    with pytest.raises(BrokenPicture, match=wanted):
      list(evaluation_batches(gone(tmp_path, size), batch_size))
  scattered = gone(tmp_path, IN_A_ROW + 60, there=(IN_A_ROW - 1,))  # never so many in a row
  assert sum(batch["mask"].sum() for batch in evaluation_batches(scattered, batch_size)) == 1
  late = gone(tmp_path, IN_A_ROW + 60, there=range(50))  # a row that runs over several batches
  with pytest.raises(BrokenPicture, match=f"{IN_A_ROW} pictures in a row"):
    list(evaluation_batches(late, batch_size))


def test_processes_that_evaluate_a_disk_that_has_gone_stop_too(tmp_path):
  source, half = gone(tmp_path, 7), (0.5,) * 3
  dataset = Dataset(source, source, source, ("cat",), (4, 4, 3), half, half)
  with contextlib.closing(Workers(dataset, HostAugmentation(), 1)) as workers:
    batches = workers.evaluation_batches("test", 3)
    with pytest.raises(BrokenPicture, match="^7 pictures in a row"):
      list(batches)


def test_other_errors_are_not_taken_for_broken_pictures():
  def fail(index):
    raise ValueError("ours")

  for read in (lambda: first_readable(fail, 0, 5, Skipped()), lambda: readable(fail, 0, Skipped())):
    with pytest.raises(ValueError, match="ours"):
      read()


def test_each_is_counted_once_by_many_threads(monkeypatch):
  pieces, stderr = [], io.StringIO()
  monkeypatch.setattr(stderr, "write", pieces.append)
  monkeypatch.setattr("sys.stderr", stderr)
  skipped = Skipped()

  def meet():
    for i in range(50):
      skipped.add(BrokenPicture(f"number {i}", str(i)))

  threads = [threading.Thread(target=meet) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  # Each line is one piece: between two pieces of one thread may stand those of another.
  assert len(skipped) == 50 and sorted(pieces) == sorted(f"skipped: number {i}\n" for i in range(50))


def test_a_copy_in_another_process_is_empty_and_quiet_and_hands_over_what_it_meets(capsys):
  skipped = Skipped()
  skipped.add(BrokenPicture("here", "a"))
  copy = pickle.loads(pickle.dumps(skipped))
  capsys.readouterr()
  copy.add(BrokenPicture("there", "b"))
  assert capsys.readouterr().err == "" and len(copy) == 1
  (met,) = pickle.loads(pickle.dumps(copy.taken()))
  assert (str(met), met.picture, len(copy)) == ("there", "b", 0)


def test_images_in_memory_are_left_as_they_are(tmp_path):
  digits = load("digits", str(tmp_path), broken="skip")
  assert digits.skipped() == 0 and skipping(digits).train is digits.train


def test_another_word_is_refused(tmp_path):
  with pytest.raises(ValueError, match="broken must be one of 'stop', 'skip', got 'ignore'"):
    load("digits", str(tmp_path), broken="ignore")


def encoded(kind):
  stream = io.BytesIO()
  pixels = np.random.default_rng(0).integers(0, 255, (9, 11, 3), np.uint8)
  Image.fromarray(pixels).save(stream, kind)
  return stream.getvalue()


@hypothesis.settings(max_examples=150)
@hypothesis.given(
  kind=st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"]),
  changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
  kept=st.one_of(st.just(5000), st.integers(0, 400)),
)
def test_whatever_bytes_a_file_holds_it_is_an_image_or_a_broken_picture(tmp_path_factory, kind, changes, kept):
  content = bytearray(encoded(kind)[:kept])
  for place, value in changes:
    if content:
      content[place % len(content)] = value
  path = tmp_path_factory.getbasetemp() / "fuzzed.jpg"
  path.write_bytes(content)
  source = FolderSource(np.array([str(path)], object), np.zeros(1, np.int32), SMALL)
  changed = HostAugmentation(resized_crop_area=0.5, randaugment_layers=1)
  half = (0.5,) * 3
  dataset = Dataset(source, source, source, ("cat",), (4, 4, 3), half, half)
  for read in (
    lambda: source[0]["image"],
    lambda: augmented_batch(dataset, changed, batch_size=1, seed=0, step=0)["image"][0],
  ):
    try:
      error = None if read().shape == (4, 4, 3) else "another shape"
    except BrokenPicture as caught:
      error = None if str(path) in str(caught) and "\n" not in str(caught) else str(caught)
    assert error is None
