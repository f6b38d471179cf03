"""The prepare command."""

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
    capsys.readouterr().err == "convattn prepare: unknown data set 'digit'; did you mean 'digits'? Known: digits.\n"
  )
