"""The prepare command."""

import PIL.Image

from convattn.commands import main


def test_it_prints_place_and_counts_and_prepares_once(tmp_path, capsys):
  assert main(["prepare", f"--dir={tmp_path}"]) == 0
  first = capsys.readouterr().out
  assert first.splitlines() == [str(tmp_path / "digits"), "train 1293", "validation 144", "test 360"]
  written = {path: path.stat().st_mtime_ns for path in (tmp_path / "digits").rglob("*") if path.is_file()}
  assert written
  assert main(["prepare", "--name=digits", "--dir", str(tmp_path)]) == 0
  assert capsys.readouterr().out == first
  assert {path: path.stat().st_mtime_ns for path in (tmp_path / "digits").rglob("*") if path.is_file()} == written


def test_an_unknown_data_set_gives_the_nearest(capsys):
  assert main(["prepare", "--name=digit"]) == 2
  assert (
    capsys.readouterr().err
    == "convattn prepare: unknown data set 'digit'; did you mean 'digits'? Known: digits, folder.\n"
  )


def test_of_a_folder_the_pictures_are_counted(tmp_path, capsys):
  for place in ("train/cat/1.png", "train/cat/2.png", "train/dog/1.png", "val/dog/1.png"):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (3, 2)).save(tmp_path / place)
  assert main(["prepare", "--name=folder", f"--dir={tmp_path}"]) == 0
  assert capsys.readouterr().out.splitlines() == [str(tmp_path), "train 3", "validation 1", "test 1"]
  assert main(["prepare", "--name=folder"]) == 2
  assert "'folder' needs the folder's name" in capsys.readouterr().err
