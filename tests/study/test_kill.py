"""Studies that are killed by the kernel, or asked to end, as a command of their own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.study.test_running import timeless

TOY = Path(__file__).with_name("toy_study.py")
ROOT = TOY.parents[2]

pytestmark = pytest.mark.slow


def start(folder):
  # One device, a compiler in a hurry, and programs that are compiled once.
  environment = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0", "PYTHONPATH": str(ROOT)}
  environment["JAX_COMPILATION_CACHE_DIR"] = str(folder.parent / "compiled")
  environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  environment["TOY_STUDY_DATA"] = str(folder.parent / "data")
  command = [sys.executable, "-m", "convattn", "study", f"{TOY}:tuned", f"--workdir={folder}"]
  return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(process, path):
  deadline = time.monotonic() + 1200
  while not path.exists():
    assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
    time.sleep(0.002)


def finished(process):
  output, _ = process.communicate()
  assert process.returncode == 0, output
  assert "Traceback" not in output
  return output


def contents(folder):
  """study.json without its times and the command that gave it, and which test images each run was right about."""
  result = timeless(json.loads((folder / "study.json").read_text()))
  kept = {path.relative_to(folder): path.read_bytes() for path in folder.glob("scores/*/*.npz")}
  return {**result, "command": None}, kept


def test_after_sigkill_the_same_command_ends_equal(tmp_path):
  straight, killed = tmp_path / "straight", tmp_path / "killed"
  output = finished(start(straight))
  assert output.count(" left\n") == 13 and max(map(len, output.splitlines())) <= max(120, len(str(straight)) + 90)
  for place in (
    "runs/wide/tuning_0.003/checkpoints",  # while it trains
    "runs/begun/seed_0/result.json",  # when it has ended, while it is scored
    "scores/drawn/seed_0.npz",  # between the two files of a score
    "runs/wide/seed_1/metrics.jsonl",
  ):
    process = start(killed)
    wait_for(process, killed / place)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not json.loads((killed / "study.json").read_text())["finished"]
  assert ", 11 of them done; " in finished(start(killed)).splitlines()[0]
  assert contents(killed) == contents(straight)
  assert re.search(r"^!\[Narrow or wide\]\(study.png\)$", (killed / "study.md").read_text(), re.MULTILINE)
  assert (killed / "study.png").stat().st_size > 10_000
  assert "14 of them done" in finished(start(killed))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_study_that_is_asked_to_end_saves_the_run_and_goes_on(tmp_path, number, status):
  process = start(tmp_path / "study")
  wait_for(process, tmp_path / "study" / "runs" / "narrow" / "tuning_0.03" / "config.json")
  process.send_signal(number)
  output, _ = process.communicate()
  assert process.returncode == status, output
  assert "Traceback" not in output
  assert "1/14  narrow tuning, 0.003: validation" in output
  assert ("the same command" in output) or status == 130
  assert not json.loads((tmp_path / "study" / "study.json").read_text())["finished"]
