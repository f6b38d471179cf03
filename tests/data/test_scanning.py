"""What lies about in folders: hidden, foreign and empty files, names that are no text, links that lead back."""

import collections
import os

import pytest
from PIL import Image

from convattn.commands.predict import find_pictures
from convattn.data import Workers, evaluation_batches, load
from convattn.data.host_augmentation import HostAugmentation
from convattn.data.scanning import class_folders, passed_over, pictures_below


def put(*paths):
  for path in paths:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 7), (200, 0, 0)).save(path, "PNG")


def test_other_files_are_counted_by_suffix_and_hidden_ones_are_not(tmp_path):
  put(tmp_path / "cat" / "1.JPG", tmp_path / "cat" / "deep" / "2.jpe", tmp_path / "dog" / "3.png")
  put(tmp_path / "loose.png", tmp_path / "dog" / ".thumbs" / "x.png", tmp_path / ".cache" / "x.png")
  for name in ("cat/a.txt", "cat/deep/b.TXT", "dog/c.heic", "dog/README", "list.csv", "cat/.DS_Store", "cat/._1.JPG"):
    (tmp_path / name).write_text("")
  found = class_folders(tmp_path)
  assert found.pictures == {
    "cat": [f"{tmp_path}/cat/1.JPG", f"{tmp_path}/cat/deep/2.jpe"],
    "dog": [f"{tmp_path}/dog/3.png"],
  }
  assert found.others == {".txt": 2, ".heic": 1, "": 1, ".csv": 1} and found.loose == 1
  assert passed_over([found]) == [
    "passed over: 2 .txt, 1 without a suffix, 1 .csv, 1 .heic, 1 picture in no class folder"
  ]
  assert passed_over([found, found])[0].startswith("passed over: 4 .txt, 2 without")


def test_of_many_kinds_the_most_frequent_are_told(tmp_path):
  put(tmp_path / "cat" / "1.png")
  for kind in range(8):
    for i in range(kind + 1):
      (tmp_path / "cat" / f"{i}.k{kind}").write_text("")
  (text,) = passed_over([class_folders(tmp_path)])
  assert text == "passed over: 8 .k7, 7 .k6, 6 .k5, 5 .k4, 4 .k3, 6 of other kinds"


def test_a_folder_of_nothing_but_pictures_has_no_remark(tmp_path):
  put(*(tmp_path / split / "cat" / "1.png" for split in ("train", "val", "test")))
  assert load("folder", str(tmp_path)).remarks == ()


def test_the_parts_of_a_folder_are_counted_together(tmp_path):
  put(*(tmp_path / split / "cat" / "1.png" for split in ("train", "val")))
  for split in ("train", "val"):
    (tmp_path / split / "cat" / "a.xml").write_text("")
  (tmp_path / "README.md").write_text("")  # beside the parts, no part of the data
  assert load("folder", str(tmp_path)).remarks == (
    "there is no test folder, validation stands in",
    "passed over: 2 .xml",
  )


@pytest.fixture
def odd(tmp_path):
  """A folder whose class and picture have names that are not UTF-8."""
  name = os.fsdecode(b"caf\xe9")
  try:
    put(*(tmp_path / split / name / f"{i}{name}.png" for split in ("train", "val") for i in range(2)))
  except (OSError, UnicodeError):
    pytest.skip("this file system takes no such names")
  return tmp_path


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_names_that_are_no_text_are_read(odd, workers):
  dataset = load("folder", str(odd), image_size=6)
  assert dataset.class_names == ("caf\udce9",)
  if workers:
    made = Workers(dataset, HostAugmentation(), workers)
    (batch,) = made.evaluation_batches("validation", 2)
    made.close()
  else:
    (batch,) = evaluation_batches(dataset.validation, 2)
  assert batch["image"][0, 0, 0].tolist() == [200, 0, 0] and batch["mask"].tolist() == [1, 1]
  assert len(find_pictures([str(odd)])) == 4


def test_a_link_that_leads_back_is_one_line_to_train_and_to_predict(tmp_path):
  put(*(tmp_path / name / f"{i}.png" for name in ("cat", "dog") for i in range(5)))
  (tmp_path / "cat" / "up").symlink_to(tmp_path)
  for read in (lambda: load("folder", str(tmp_path)), lambda: find_pictures([str(tmp_path)])):
    with pytest.raises(ValueError, match="once more, through a symbolic link; remove the link") as caught:
      read()
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to the superuser")
def test_a_folder_that_is_closed_is_one_line(tmp_path):
  put(tmp_path / "cat" / "1.png", tmp_path / "cat" / "shut" / "2.png")
  (tmp_path / "cat" / "shut").chmod(0)
  with pytest.raises(ValueError, match="cannot read .*shut: Permission denied; make it readable, or remove it"):
    pictures_below(tmp_path)
  (tmp_path / "cat" / "shut").chmod(0o700)


def test_predicting_passes_over_what_training_does(tmp_path):
  put(tmp_path / "b.png", tmp_path / "a" / "c.jfif", tmp_path / ".hidden" / "d.png")
  for name in ("._b.png", "x.txt"):
    (tmp_path / name).write_text("")
  (tmp_path / "linked").symlink_to(tmp_path / "a")
  kinds = collections.Counter()
  with pytest.raises(ValueError, match="once more"):  # the same folder twice, which would count its pictures twice
    pictures_below(tmp_path, kinds)
  (tmp_path / "linked").unlink()
  assert [path.name for path in find_pictures([str(tmp_path)])] == ["c.jfif", "b.png"]
