"""No process is left behind by a benchmark that a signal has ended, stopped ones and their own included."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A side that starts a process of its own, and says who they are.
SIDE = """
import json, os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
print(json.dumps({"pids": [os.getpid(), child.pid]}), flush=True)
time.sleep(600)
"""
# A shell has a job in the background ignore SIGINT, and nohup SIGHUP, and so what they start.
PARENT = """
import signal, sys, time
for each in (signal.SIGINT, signal.SIGHUP):
  signal.signal(each, signal.SIG_DFL)
from benchmarks.turns import Side
side = Side("one", [sys.executable, "-S", "-c", sys.argv[1]])
print(*side.facts["pids"], flush=True)
time.sleep(600)
"""


def _is_there(pid):
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc are Linux's")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGINT])
def test_sides_end_with_a_benchmark_that_a_signal_ends(number):
  command = [sys.executable, "-c", PARENT, SIDE]
  parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
  pids = [int(pid) for pid in parent.stdout.readline().split()]
  assert len(pids) == 2 and all(map(_is_there, pids))
  parent.send_signal(number)
  parent.communicate()
  deadline = time.monotonic() + 10
  while any(map(_is_there, pids)) and time.monotonic() < deadline:
    time.sleep(0.02)
  left = [pid for pid in pids if _is_there(pid)]
  for pid in left:
    os.kill(pid, signal.SIGKILL)
  assert left == []
