"""What is printed in other encodings, and into an output that nobody reads."""

import io
import os
import sys

import pytest

from convattn.commands import main
from convattn.training import output

TEXT = "8 × 8 … \udcff 猫\n"


@pytest.mark.parametrize(
  ("encoding", "seen"),
  [
    ("ascii", "8 x 8 ... \\xff \\u732b\n"),
    ("latin-1", "8 × 8 ... \\xff \\u732b\n"),
    ("utf-8", "8 × 8 … \\xff 猫\n"),
    ("utf-16", "8 × 8 … \\xff 猫\n"),
  ],
)
def test_what_an_encoding_lacks_is_replaced(monkeypatch, encoding, seen):
  content = io.BytesIO()
  monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding=encoding))
  before = sys.stdout
  with output.guarded():
    sys.stdout.write(TEXT)
  assert content.getvalue().decode(encoding) == seen
  assert sys.stdout is before and sys.stdout.errors == "strict"


@pytest.fixture
def unread(monkeypatch):
  """A function that makes stdout a pipe whose reader has ended, and returns it."""
  streams = []

  def put():
    reading, writing = os.pipe()
    os.close(reading)
    streams.append(os.fdopen(writing, "w"))
    monkeypatch.setattr(sys, "stdout", streams[0])
    return streams[0]

  yield put
  streams[0].close()


def test_work_that_goes_on_outlives_its_reader(unread, capsys):
  unread()
  with output.guarded(goes_on=True), output.guarded():
    for _ in range(3):
      print("step", flush=True)
  assert capsys.readouterr().err == "note: the output takes no more (Broken pipe); the work goes on without it.\n"


def test_other_work_ends_there(unread):
  stream = unread()
  with pytest.raises(output.OutputLost) as raised, output.guarded():
    print("class", flush=True)
  assert raised.value.is_left
  stream.flush()  # nothing waits there for the end of the process


def test_a_command_whose_reader_has_ended_ends_like_one_of_a_pipe(unread, capsys):
  unread()
  assert main(["--help"]) == 141
  assert capsys.readouterr().err == ""


def test_a_full_disk_under_the_output_is_one_line(monkeypatch, capsys):
  with open("/dev/full", "w") as full:
    monkeypatch.setattr(sys, "stdout", full)
    assert main(["--help"]) == 2
  assert capsys.readouterr().err == "convattn --help: cannot write the output (No space left on device).\n"


def test_a_closed_output_is_none(monkeypatch):
  monkeypatch.setattr(sys, "stdout", None)
  with output.guarded():
    print("nowhere", flush=True)
    assert not sys.stdout.isatty()
  assert sys.stdout is None


def test_nothing_on_stderr_raises(monkeypatch):
  with open("/dev/full", "w") as full:
    monkeypatch.setattr(sys, "stderr", full)
    with output.guarded():
      print("warning", file=sys.stderr, flush=True)
