"""Places that cannot be written: one line each, before the work is done where that can be known."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from convattn.commands.options import output_file
from convattn.errors import UserError
from convattn.files import check_writable, write_whole

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["/proc/p.json", "x" * 250])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(name):
  with pytest.raises(UserError, match=r"^--out=.* cannot be written \(.*\); name another file.$"):
    output_file("out", name)


def test_the_check_leaves_nothing_behind_and_nothing_changed(tmp_path):
  path = tmp_path / "a.json"
  path.write_text("old")
  check_writable(path)
  check_writable(tmp_path / "b.json")
  assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
  assert path.read_text() == "old"


def test_a_device_is_written_into_and_stays(tmp_path):
  reading, writing = os.pipe()
  write_whole({Path(f"/proc/self/fd/{writing}"): b"there"})
  assert os.read(reading, 9) == b"there"
  with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
    write_whole({Path("/dev/full"): b"1", tmp_path / "a": b"2"})
  assert Path("/dev/full").is_char_device()
  assert list(tmp_path.iterdir()) == []
  os.close(reading)
  os.close(writing)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_no_file(tmp_path):
  (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/loss": 2.5}\n')
  code = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    "from convattn.commands import main; sys.exit(main(sys.argv[1:]))"
  )
  command = [sys.executable, "-c", code, "report", f"--workdir={tmp_path}"]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
  assert done.returncode == 2
  assert done.stderr.count("\n") == 1
  assert "curves.png could not be drawn: [Errno 27] File too large" in done.stderr
  assert [each.name for each in tmp_path.iterdir()] == ["metrics.jsonl"]
