"""benchmarks.compare: the turns, the sums, and what it prints; its workers are made up where they can be."""

import json
import re

import pytest

from benchmarks import compare, turns

WORKER = """
import json, sys
side = next(word.split("=")[1] for word in sys.argv if word.startswith("--side="))
seconds = {"ours": 0.5, "timm-eager": 2.0, "timm-compile": 1.0, "limits": 0.1}[side]
facts = {"library": side, "device": "made up", "lower_seconds": 1.0, "compile_seconds": 2.0, "flops": 8e9, "bytes": 4e9,
  "flops_per_second": 32e9, "bytes_per_second": 10e9}
print(json.dumps(facts), flush=True)
for line in sys.stdin:
  print(json.dumps({"seconds": [9.0] + [seconds] * (int(line) - 1), "peak_bytes": 2**30, **facts}), flush=True)
"""


def test_the_ratio_is_to_the_fastest_peer_by_its_median():
  speeds = {"ours": [4.0, 6.0, 8.0], "timm-eager": [1.0, 2.0, 9.0], "timm-compile": [4.0, 3.0, 2.0]}
  assert compare.ratios(speeds) == ("timm-compile", [1.0, 2.0, 4.0])


def test_sides_take_turns():
  asked = []

  class Made:
    def __init__(self, name, seconds):
      self.name, self.seconds = name, seconds

    def ask(self, number):
      asked.append(self.name)
      return {"seconds": [99.0] + [self.seconds] * (number - 1)}

  speeds = compare.alternate([Made("a", 0.5), Made("b", 2.0)], rounds=2, steps=3, images=8)
  assert asked == ["a", "b", "a", "b"]
  assert speeds == {"a": [16.0, 16.0], "b": [4.0, 4.0]}


def test_made_up_workers_are_compared(tmp_path, monkeypatch, capsys):
  (tmp_path / "benchmarks").mkdir()
  (tmp_path / "benchmarks" / "worker.py").write_text(WORKER)
  monkeypatch.setattr(turns, "ROOT", tmp_path)
  arguments = ["--batch=4", "--dtype=float32", "--rounds=2", "--steps=3", f"--output={tmp_path / 'runs' / 'found'}"]
  result = compare.main(arguments)
  assert result["images_per_second"] == {"ours": [8.0, 8.0], "timm-eager": [2.0, 2.0], "timm-compile": [4.0, 4.0]}
  assert (result["fastest_peer"], result["ratios"]) == ("timm-compile", [2.0, 2.0])
  assert (result["flops_per_second"], result["bytes_per_second"]) == (16e9, 8e9)
  assert json.loads((tmp_path / "runs" / "found.json").read_text()) == result
  assert (tmp_path / "runs" / "found.png").stat().st_size > 5000
  shown = capsys.readouterr().out
  assert "ours / timm-compile: 2.00 (2.00 to 2.00)" in shown
  assert re.search(r"ours: 16 GFLOP/s.* 50% of .*32$", shown, re.MULTILINE)
  assert re.search(r"ours: 8 GB/s.* 80% of .*10$", shown, re.MULTILINE)


def test_a_worker_that_stops_says_why(tmp_path, monkeypatch):
  (tmp_path / "benchmarks").mkdir()
  stops = "import sys\nprint('{}', flush=True)\nsys.stdin.readline()\nraise SystemExit('out of memory')"
  (tmp_path / "benchmarks" / "worker.py").write_text(stops)
  monkeypatch.setattr(turns, "ROOT", tmp_path)
  with pytest.raises(SystemExit, match=r"side ours stopped:\nout of memory"):
    compare.main(["--dtype=float32", "--sides=ours", f"--output={tmp_path / 'found'}"])


@pytest.mark.slow
def test_ours_alone_on_a_tiny_model(tmp_path, capsys):
  chosen = ["--model=test_coatnet", "--batch=2", "--size=64", "--task=train", "--dtype=float32", "--sides=ours"]
  result = compare.main([*chosen, "--rounds=1", "--steps=1", f"--output={tmp_path / 'found'}"])
  assert list(result["images_per_second"]) == ["ours"]
  assert (result["fastest_peer"], result["ratios"]) == ("", [])
  assert result["flops_per_second"] > 0 and result["limits"]["flops_per_second"] > 0
  assert "ours / " not in capsys.readouterr().out
