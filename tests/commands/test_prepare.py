"""The prepare command."""

import importlib.util
import pathlib
import shutil
import sys

import PIL.Image
import pytest

from convattn.commands import main
from convattn.data import fashion_mnist, stock

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "data"))
import record_sets


def test_it_prints_place_and_counts_and_prepares_once(tmp_path, capsys):
  assert main(["prepare", f"--data_dir={tmp_path}"]) == 0
  first = capsys.readouterr().out
  assert first.splitlines() == [str(tmp_path / "digits"), "train 1293", "validation 144", "test 360"]
  written = {path: path.stat().st_mtime_ns for path in (tmp_path / "digits").rglob("*") if path.is_file()}
  assert written
  assert main(["prepare", "digits", "--data_dir", str(tmp_path)]) == 0
  assert capsys.readouterr().out == first
  assert {path: path.stat().st_mtime_ns for path in (tmp_path / "digits").rglob("*") if path.is_file()} == written


def test_an_unknown_data_set_gives_the_nearest(tmp_path, capsys):
  assert main(["prepare", "digit", f"--data_dir={tmp_path}"]) == 2
  said = capsys.readouterr().err
  assert (
    said.startswith("convattn prepare: unknown data set 'digit'; did you mean 'digits'? Known: ")
    and said.count("\n") == 1
  )
  assert "Known: digits, folder, and TFDS's own" in said


def test_one_data_set_at_a_time_and_no_other_options(capsys):
  assert main(["prepare", "digits", "folder"]) == 2
  assert main(["prepare", "digits", "--dir=x"]) == 2
  first, second = capsys.readouterr().err.splitlines()
  assert "expected one data set, got 'digits' 'folder'" in first and "did you mean --data_dir" in second


def test_the_help_names_what_it_takes(capsys):
  assert main(["prepare", "--help"]) == 0
  assert {"NAME", "--data_dir", "--manual_dir"} <= set(capsys.readouterr().out.split())


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is installed")
def test_a_stock_data_set_takes_tensorflow(tmp_path, capsys):
  assert main(["prepare", "cifar10", f"--data_dir={tmp_path}"]) == 2
  assert "pip install '.[prepare]'" in capsys.readouterr().err
  assert not list(tmp_path.iterdir())


def test_a_stock_data_set_is_prepared_with_its_manual_directory_and_counted(tmp_path, monkeypatch, capsys):
  asked = []

  def prepare(name, root, manual_dir):
    asked.append((name, str(root), manual_dir))
    record_sets.write(root, name, {"train": record_sets.examples(10), "test": record_sets.examples(3)})

  monkeypatch.setattr(stock, "prepare_stock", prepare)
  assert main(["prepare", "mnist", f"--data_dir={tmp_path}", "--manual_dir=here"]) == 0
  assert asked == [("mnist", str(tmp_path), "here")]
  assert capsys.readouterr().out.splitlines() == [str(tmp_path / "mnist"), "train 9", "validation 1", "test 3"]


def test_fashion_mnist_is_made_of_its_files_without_tensorflow(tmp_path, monkeypatch, capsys):
  made = []
  monkeypatch.setitem(sys.modules, "tensorflow", None)
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
  monkeypatch.setattr(
    fashion_mnist,
    "prepare",
    lambda folder, root: (
      made.append(folder) or record_sets.write(root, "fashion_mnist", {"train": record_sets.examples(10)})
    ),
  )
  command = ["prepare", "fashion_mnist", f"--data_dir={tmp_path / 'data'}"]
  assert main(command) == 2
  assert "Or give the folder of its four files with --manual_dir=DIR, or install Debian's" in capsys.readouterr().err
  assert main([*command, f"--manual_dir={tmp_path / 'own'}"]) == 0
  shutil.rmtree(tmp_path / "data")
  monkeypatch.setattr(fashion_mnist, "files_in", lambda folder: {})
  assert main(command) == 0
  assert made == [tmp_path / "own", tmp_path / "debian"]


def test_of_a_folder_the_pictures_are_counted(tmp_path, capsys):
  for place in ("train/cat/1.png", "train/cat/2.png", "train/dog/1.png", "val/dog/1.png"):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (3, 2)).save(tmp_path / place)
  assert main(["prepare", "folder", f"--data_dir={tmp_path}"]) == 0
  assert capsys.readouterr().out.splitlines() == [str(tmp_path), "train 3", "validation 1", "test 1"]
  assert main(["prepare", "folder"]) == 2
  assert "'folder' needs the folder's name" in capsys.readouterr().err
