"""benchmarks.input: the pictures, the turns, and what it prints; the peer is made up where it can be."""

import json
import re

import pytest
from PIL import Image

from benchmarks import input as input_benchmark, turns

SIDE = """
import json, sys
side = next(word.split("=")[1] for word in sys.argv if word.startswith("--side="))
stage = next(word.split("=")[1] for word in sys.argv if word.startswith("--stage="))
print(json.dumps({"library": side + "'s"}), flush=True)
for line in sys.stdin:
  speed = {"decode": 100, "augmentation": 200, "delivery": 300}[stage] * (2 if side == "torch" else 1) * int(line)
  print(json.dumps({"images_per_second": speed}), flush=True)
"""


def test_pictures_are_of_the_size_of_real_ones_and_always_the_same(tmp_path):
  sizes = [input_benchmark.make_pictures(tmp_path / name, 5) for name in ("one", "other")]
  assert sizes[0] == sizes[1] and 70_000 < sizes[0] < 160_000
  files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one" / "train").rglob("*.jpg"))
  assert len(files) == 5 and len({file.parent for file in files}) == input_benchmark.CLASSES
  for file in files:
    assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()
    with Image.open(tmp_path / "one" / file) as picture:
      assert picture.size == (500, 375) and picture.mode == "RGB"


@pytest.fixture
def made_up(tmp_path, monkeypatch):
  (tmp_path / "benchmarks").mkdir()
  (tmp_path / "benchmarks" / "input_side.py").write_text(SIDE)
  monkeypatch.setattr(turns, "ROOT", tmp_path)
  return tmp_path


def test_made_up_sides_are_compared(made_up, monkeypatch, capsys):
  monkeypatch.setattr(input_benchmark, "has_peer", lambda python: True)
  arguments = ["--pictures=3", "--rounds=2", "--batches=5", "--workers=4", f"--out={made_up / 'runs' / 'found.json'}"]
  result = input_benchmark.main(arguments)
  assert json.loads((made_up / "runs" / "found.json").read_text()) == result
  assert [row["stage"] for row in result["rows"]] == list(input_benchmark.STAGES)
  assert result["rows"][2]["images_per_second"] == {"ours": [1500, 1500], "torch": [3000, 3000]}
  shown = capsys.readouterr().out
  assert "| delivery | ours's | 1500 | 1500 to 1500 | 375 | 0.50 (0.50 to 0.50) |" in shown
  assert "| decode | torch's | 1000 | 1000 to 1000 | 1000 | – |" in shown


def test_without_a_peer_ours_is_measured_alone(made_up, monkeypatch, capsys):
  monkeypatch.setattr(input_benchmark, "has_peer", lambda python: False)
  result = input_benchmark.main(
    ["--pictures=2", "--rounds=1", f"--out={made_up / 'found.json'}", "--peer-python=/none"]
  )
  assert all(list(row["images_per_second"]) == ["ours"] for row in result["rows"])
  said = capsys.readouterr()
  assert "/none has no torch and torchvision" in said.err and "torch's" not in said.out


def test_a_side_that_stops_says_why(made_up):
  (made_up / "benchmarks" / "input_side.py").write_text("raise SystemExit('no such picture')")
  with pytest.raises(SystemExit, match="side ours stopped:\nno such picture"):
    input_benchmark.main(["--pictures=1", "--rounds=1", f"--out={made_up / 'found.json'}"])


@pytest.mark.slow
def test_ours_is_measured_stage_by_stage(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(input_benchmark, "has_peer", lambda python: False)
  small = ["--pictures=8", "--batch=4", "--batches=1", "--rounds=1", "--workers=2", "--size=32"]
  result = input_benchmark.main([*small, f"--out={tmp_path / 'found.json'}"])
  assert all(row["images_per_second"]["ours"][0] > 0 for row in result["rows"])
  shown = capsys.readouterr().out
  assert len(re.findall(r"^\| (decode|augmentation|delivery) \| convattn, Pillow", shown, re.MULTILINE)) == 3
