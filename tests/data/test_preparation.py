import os
import pathlib
import subprocess
import sys

import pytest

from convattn.data import digits, load
from convattn.data.preparation import data_root


def start(code, directory):
  return subprocess.Popen(
    [sys.executable, "-c", code, str(directory)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )


def test_the_directory_is_the_argument_then_the_variable_then_home(monkeypatch, tmp_path):
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.setenv("TFDS_DATA_DIR", "~/variable")
  assert data_root("~/argument") == tmp_path / "argument"
  assert data_root() == tmp_path / "variable"
  monkeypatch.delenv("TFDS_DATA_DIR")
  assert data_root() == tmp_path / "tensorflow_datasets"
  assert data_root("here") == pathlib.Path.cwd() / "here"


# Where TensorFlow is installed it must stay unused; where it is not, using it would fail.
# A log handler, such as any import may add, must have nothing to say either.
ALONE = """
import logging, socket, sys
logging.basicConfig()
def refuse(*args, **kwargs):
  raise AssertionError(f"network: {args}")
socket.socket.connect = socket.getaddrinfo = refuse
import convattn.data
for _ in range(2):
  dataset = convattn.data.load("digits", sys.argv[1])
  assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (1293, 144, 360)
assert "tensorflow" not in sys.modules
"""


def test_preparing_and_reading_need_no_tensorflow_and_no_network_and_print_nothing(tmp_path):
  process = start(ALONE, tmp_path / "made" / "on the way")
  assert process.communicate(timeout=900) == ("", "")
  assert process.returncode == 0
  stored = [path.name for path in (tmp_path / "made" / "on the way" / "digits" / "1.0.0").iterdir()]
  assert sum("array_record" in name for name in stored) == 3


# Each process waits inside its preparation until the other one is inside its own.
RACE = """
import os, pathlib, sys, time
import convattn.data
from convattn.data import digits
root = pathlib.Path(sys.argv[1])
generators = digits.Digits._split_generators
def meet(self, dl_manager):
  (root / f"{os.getpid()}.inside").touch()
  until = time.monotonic() + 600
  while len(list(root.glob("*.inside"))) < 2:
    assert time.monotonic() < until
    time.sleep(0.01)
  return generators(self, dl_manager)
digits.Digits._split_generators = meet
dataset = convattn.data.load("digits", sys.argv[1])
print(len(dataset.train), int(dataset.test.images.sum()))
"""


def test_two_processes_that_prepare_at_once_both_end_well(tmp_path):
  processes = [start(RACE, tmp_path) for _ in range(2)]
  results = [process.communicate(timeout=900) for process in processes]
  assert [error for _, error in results] == ["", ""]
  assert results[0] == results[1] and results[0][0].startswith("1293 ")
  assert len(list(tmp_path.glob("*.inside"))) == 2
  assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1.0.0"]  # nothing half-made stays


def test_data_that_another_process_finishes_meanwhile_is_used(tmp_path, monkeypatch):
  def overtaken(self):
    with monkeypatch.context() as patch:
      patch.setattr(digits.Digits, "download_and_prepare", prepare)
      load("digits", str(tmp_path))
    prepare(self)

  prepare = digits.Digits.download_and_prepare
  monkeypatch.setattr(digits.Digits, "download_and_prepare", overtaken)
  assert len(load("digits", str(tmp_path)).train) == 1293


def test_a_preparation_that_fails_leaves_nothing_that_looks_ready(tmp_path, monkeypatch):
  def torn(self, indexes):
    yield from list(complete(self, indexes))[:3]
    raise KeyboardInterrupt

  complete = digits.Digits._generate_examples
  with monkeypatch.context() as patch:
    patch.setattr(digits.Digits, "_generate_examples", torn)
    with pytest.raises(KeyboardInterrupt):
      load("digits", str(tmp_path))
  assert not (tmp_path / "digits" / "1.0.0").exists()
  assert len(load("digits", str(tmp_path)).train) == 1293


def test_prepared_data_is_not_written_again(tmp_path, monkeypatch):
  def stamps():
    return {path: path.stat().st_mtime_ns for path in (tmp_path / "digits").rglob("*")}

  load("digits", str(tmp_path))
  before = stamps()
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  assert len(load("digits").test) == 360
  assert stamps() == before and len(before) > 3


@pytest.mark.parametrize("place", ["file", "file/below", "nowhere"])
def test_a_directory_that_cannot_be_written_gives_one_clear_line(tmp_path, place):
  (tmp_path / "file").write_text("in the way")
  directory = "/proc/nowhere" if place == "nowhere" else str(tmp_path / place)
  with pytest.raises(ValueError) as caught:
    load("digits", directory)
  message = str(caught.value)
  assert repr(directory) in message and "--config.data.dir" in message and "\n" not in message


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_read_only_directory_gives_one_clear_line(tmp_path):
  tmp_path.chmod(0o555)
  with pytest.raises(ValueError, match="Permission denied"):
    load("digits", str(tmp_path))


def test_a_directory_that_holds_something_else_is_named(tmp_path):
  (tmp_path / "digits" / "1.0.0").mkdir(parents=True)
  with pytest.raises(ValueError, match="holds no prepared 'digits'; delete it"):
    load("digits", str(tmp_path))
