"""Figures in a workdir."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from convattn.viz import draw

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def workdir(tmp_path):
  lines = [{"step": step, "train/loss": 2 / step, "train/accuracy": 1 - 1 / step} for step in (2, 4, 6)]
  (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  (tmp_path / "confusion.json").write_text(json.dumps({"class_names": ["a", "b"], "counts": [[3, 0], [1, 2]]}))
  return tmp_path


def test_both_figures_are_drawn_and_nothing_else_is_left(workdir):
  assert draw(workdir) == [workdir / "curves.png", workdir / "confusion.png"]
  names = {"metrics.jsonl", "confusion.json", "curves.png", "confusion.png"}
  assert {path.name for path in workdir.iterdir()} == names


def test_the_same_files_give_the_same_bytes_and_drawing_leaves_no_global_state(workdir):
  first = [path.read_bytes() for path in draw(workdir)]
  assert [path.read_bytes() for path in draw(workdir)] == first
  code = "import sys, pathlib; from convattn.viz import draw; draw(pathlib.Path(sys.argv[1])); print(*sys.modules)"
  elsewhere = {**os.environ, "PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo"}
  command = [sys.executable, "-c", code, workdir]
  done = subprocess.run(command, check=True, cwd=ROOT, env=elsewhere, capture_output=True, text=True)
  assert [(workdir / name).read_bytes() for name in ("curves.png", "confusion.png")] == first
  assert "matplotlib.figure" in done.stdout.split()
  assert "matplotlib.pyplot" not in done.stdout.split()


def test_other_numbers_give_other_bytes(workdir):
  first = [path.read_bytes() for path in draw(workdir)]
  (workdir / "metrics.jsonl").write_text('{"step": 2, "train/loss": 1.5}\n')
  (workdir / "confusion.json").write_text(json.dumps({"class_names": ["a", "b"], "counts": [[3, 0], [0, 3]]}))
  assert all(path.read_bytes() != before for path, before in zip(draw(workdir), first, strict=True))


def test_a_run_that_has_not_ended_has_curves_only(workdir):
  (workdir / "confusion.json").unlink()
  assert draw(workdir) == [workdir / "curves.png"]


def test_a_picture_that_cannot_be_written_leaves_nothing_behind(workdir, monkeypatch):
  def full(descriptor):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "fsync", full)
  with pytest.raises(OSError, match="No space"):
    draw(workdir)
  assert {path.name for path in workdir.iterdir()} == {"metrics.jsonl", "confusion.json"}
