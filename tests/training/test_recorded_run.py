"""The numbers of the first steps of the default experiment, by the command line, as they were recorded."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from convattn.training.writer import read_metrics

ROOT = Path(__file__).resolve().parents[2]
VERSION = "0.10.2"
"""Of jax, which draws and compiles otherwise in others."""
RECORDED = {
  "train/accuracy": 0.2734375,
  "train/gradient_norm": 3.1431446,
  "train/learning_rate": 5.5450005e-4,
  "train/loss": 2.0377296,
  "train/parameter_norm": 79.121887,
  "train/update_norm": 0.10840402,
}
"""Of steps 11 to 20, on one CPU device. The bits of the parameters differ from CPU to CPU, these numbers by 1e-6."""


@pytest.mark.slow
@pytest.mark.skipif(jax.__version__ != VERSION, reason=f"recorded with jax {VERSION}")
def test_the_first_steps_of_the_digits_are_those_that_were_recorded(tmp_path):
  settings = {"num_steps": 20, "optimizer.warmup_steps": 10, "explore": 0, "data.dir": tmp_path / "data"}
  command = [ROOT / "train.py", f"--config={ROOT / 'configs' / 'digits.py'}", f"--workdir={tmp_path / 'run'}"]
  command += [f"--config.{name}={value}" for name, value in settings.items()]
  plain = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
  done = subprocess.run(
    [sys.executable, *command], env={**plain, "JAX_PLATFORMS": "cpu"}, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr
  line = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]
  assert {name: line[name] for name in RECORDED} == pytest.approx(RECORDED, rel=1e-5)
