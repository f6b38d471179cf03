"""Progress on stderr, results on stdout."""

import io

import pytest

from convattn.commands import counting
from convattn.commands.counting import Counting


@pytest.fixture
def clock(monkeypatch):
  """A list whose one number is the time in seconds."""
  now = [100.0]
  monkeypatch.setattr(counting.time, "perf_counter", lambda: now[0])
  return now


def test_without_a_terminal_a_line_comes_at_most_every_five_seconds(clock, capsys):
  with Counting(300) as progress:
    for second in range(1, 13):
      clock[0] = 100.0 + second
      progress.advance(10)
      progress.write(f"result {second}")
  out, err = capsys.readouterr()
  assert out.splitlines() == [f"result {second}" for second in range(1, 13)]
  assert err.splitlines() == ["60/300 images, 0:24 left", "120/300 images, 0:18 left"]


def test_a_line_is_written_in_one_piece_so_that_no_thread_writes_into_it(clock, monkeypatch):
  pieces, stderr = [], io.StringIO()
  monkeypatch.setattr(stderr, "write", pieces.append)
  monkeypatch.setattr("sys.stderr", stderr)
  with Counting(20) as progress:
    clock[0] = 110.0
    progress.advance(10)
  assert pieces == ["10/20 images, 0:10 left\n"]


def test_what_was_told_of_ends_where_it_ends(clock, capsys):
  for parts, last in ((1, "1/3 parts, 0:20 left"), (2, "2/3 parts, 0:10 left"), (3, "3/3 parts, 0:00 left")):
    with Counting(3, "parts") as progress:
      for part in range(1, 4):
        clock[0] += 10.0 if part <= parts else 0.0
        progress.advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[parts - 1] == last
    assert lines[parts:] == ["3/3 parts"] * (parts < 3)


def test_a_short_count_says_nothing(clock, capsys):
  with Counting(20) as progress:
    progress.advance(20)
  assert capsys.readouterr() == ("", "")


def test_on_a_terminal_results_stay_on_stdout_and_the_bar_on_stderr(monkeypatch, capsys):
  monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
  with Counting(20, "pictures") as progress:
    progress.write("cat")
    progress.advance(20)
  out, err = capsys.readouterr()
  assert out == "cat\n"
  assert "0/20" in err and " pictures" in err
