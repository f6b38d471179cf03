"""Compiled programs are kept from one command to the next, and from one process to the next."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from convattn.commands import main

ROOT = Path(__file__).resolve().parents[2]


def predict(checkpoint, out):
  assert main(["predict", f"--checkpoint={checkpoint}", f"--out={out}", str(out.parent / "picture.png")]) == 0
  return out.read_bytes()


def test_a_command_keeps_its_programs(digits_run, programs, events, tmp_path, capfd):
  from PIL import Image

  Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "picture.png")
  first = predict(digits_run, tmp_path / "predictions.json")
  assert "misses" in events
  entries = sorted(programs.glob("*-cache"))
  events.clear()
  assert predict(digits_run, tmp_path / "predictions.json") == first
  assert set(events) == {"hits"}
  for entry in entries:
    entry.write_bytes(entry.read_bytes()[:-3])
  assert predict(digits_run, tmp_path / "predictions.json") == first
  events.clear()
  assert predict(digits_run, tmp_path / "predictions.json") == first
  assert set(events) == {"hits"}
  assert capfd.readouterr().err == ""


FRESH = """
import sys, types
from convattn import commands
probe = types.ModuleType("convattn.commands.report")
def run(arguments):
  assert "jax" not in sys.modules
  import jax, numpy
  def listen(event, **_):
    if "/cache_" in event: print(event.rpartition("/cache_")[2])
  jax.monitoring.register_event_listener(listen)
  print(jax.jit(lambda x: jax.numpy.tanh(x @ x).sum())(numpy.ones((4, 4), "float32")))
probe.run = run
sys.modules["convattn.commands.report"] = probe
status = commands.main(["report"])
import jax, os
assert jax.config.jax_compilation_cache_dir is None
assert not any(name.startswith("JAX_COMPILATION") or name.endswith("XLA_CACHES") for name in os.environ)
sys.exit(status)
"""


def begin(home, **variables):
  """A fresh process that computes in a command and says what it did with the cache."""
  own = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
  own |= {"XDG_CACHE_HOME": str(home), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", **variables}
  command = [sys.executable, "-c", FRESH]
  return subprocess.Popen(command, cwd=ROOT, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process):
  out, err = process.communicate()
  assert (process.returncode, err) == (0, "")
  *seen, result = out.splitlines()
  return set(seen), result


def test_fresh_processes_share_and_may_start_at_once(tmp_path):
  together = [begin(tmp_path) for _ in range(2)]
  results = {end(each)[1] for each in together}
  assert end(begin(tmp_path)) == ({"hits"}, *results)
  (tmp_path / "convattn" / "jax").rename(tmp_path / "moved")
  assert end(begin(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false")) == (set(), *results)
  assert not any((tmp_path / "convattn").iterdir())


@pytest.mark.slow
def test_a_training_is_the_same_from_the_cache(programs, events, tmp_path, capfd):
  def train(name):
    jax.clear_caches()
    settings = (
      "num_steps=3",
      "batch_size=8",
      "eval_every=3",
      "log_every=1",
      "checkpoint.every=3",
      "optimizer.warmup_steps=1",
      "explore=0",
    )
    arguments = [f"--workdir={tmp_path / name}", *(f"--config.{setting}" for setting in settings)]
    assert main(["train", *arguments, f"--config.data.dir={tmp_path / 'data'}"]) == 0
    result = (tmp_path / name / "result.json").read_bytes()
    return hashlib.sha256(b"".join(line for line in result.splitlines() if b"sha256" in line)).hexdigest()

  first = train("cold")
  events.clear()
  assert train("warm") == first
  assert "hits" in events
  assert "misses" not in events
