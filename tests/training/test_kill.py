"""Runs that are killed by the kernel."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convattn.training import workdir as files
from convattn.training.writer import read_metrics

ROOT = Path(files.__file__).parents[2]


def _start(folder, *command):
  # One device, and a compiler in a hurry.
  environment = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
  environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
  environment["JAX_COMPILATION_CACHE_DIR"] = str(folder.parent / "compiled")
  environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  return subprocess.Popen(
    [sys.executable, *map(str, command)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
  )


def _toy(folder, *arguments):
  return _start(folder, Path(__file__).with_name("toy.py"), folder, *arguments)


def _train(folder, num_steps=12, *flags):
  settings = {"num_steps": num_steps, "batch_size": 8, "log_every": 2, "eval_every": 4, "checkpoint.every": 4}
  settings |= {"optimizer.warmup_steps": 2, "explore": 0, "data.dir": folder.parent / "data"}
  return _start(
    folder, ROOT / "train.py", f"--workdir={folder}", *flags, *(f"--config.{k}={v}" for k, v in settings.items())
  )


def _finished(process, folder):
  """What a run printed that must end by itself."""
  output, _ = process.communicate()
  assert (folder / files.RESULT).exists(), output
  assert process.returncode == 0, output
  return output


def _wait_for_line(process, folder, step):
  deadline = time.monotonic() + 1200
  while not any(line["step"] == step for line in read_metrics(folder / files.METRICS)):
    assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
    time.sleep(0.002)


def _killed(process, folder, step):
  """Kills the run as soon as the line of `step` is there, while its checkpoint is being written."""
  _wait_for_line(process, folder, step)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert process.returncode == -signal.SIGKILL


def test_after_sigkill_the_same_command_ends_as_if_it_had_never_been_killed(toy, tmp_path):
  straight, killed = tmp_path / "straight", tmp_path / "killed"
  _finished(_toy(straight), straight)
  _killed(_toy(killed, 4), killed, 4)
  _killed(_toy(killed, 16), killed, 16)
  with (killed / files.METRICS).open("a") as file:
    file.write(json.dumps({"step": 20})[:7])  # and in the middle of a line
  assert "continues after step" in _finished(_toy(killed), killed)
  assert toy.lines(killed) == toy.lines(straight)
  assert toy.result(killed) == toy.result(straight)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_process_that_is_asked_to_end_saves_where_it_is(toy, tmp_path, number, status):
  process = _train(tmp_path / "run", num_steps=400)
  _wait_for_line(process, tmp_path / "run", 4)
  process.send_signal(number)
  output, _ = process.communicate()
  assert process.returncode == status, output
  (told,) = [line for line in output.splitlines() if "stopped after step" in line]
  assert "Traceback" not in output
  step = int(re.search(r"stopped after step (\d+) of 400", told).group(1))
  assert str(step) in [path.name for path in (tmp_path / "run" / files.CHECKPOINTS).iterdir()]
  assert not (tmp_path / "run" / files.RESULT).exists()


@pytest.mark.slow
def test_train_py_may_be_killed(toy, tmp_path):
  straight, killed = tmp_path / "straight", tmp_path / "killed"
  _finished(_train(straight), straight)
  _killed(_train(killed), killed, 10)  # the checkpoint of step 4 is complete, that of step 8 may be
  assert "continues after step" in _finished(_train(killed), killed)
  assert toy.lines(killed) == toy.lines(straight)
  assert toy.result(killed) == toy.result(straight)
  assert {"test/loss", "test_ema/loss", "state_sha256"} <= set(toy.result(killed))


@pytest.mark.slow
def test_a_run_that_goes_on_for_longer_may_be_killed(toy, tmp_path):
  straight, killed = tmp_path / "straight", tmp_path / "killed"
  _finished(_train(straight, 8), straight)
  shutil.copytree(straight, killed)
  assert "changed after step 8: num_steps: 8 there, 16 now; the learning rate goes on at" in _finished(
    _train(straight, 16, "--continue"), straight
  )
  _killed(_train(killed, 16, "--continue"), killed, 14)
  assert "changed after" not in _finished(_train(killed, 16), killed)
  assert toy.lines(killed) == toy.lines(straight)
  assert toy.result(killed) == toy.result(straight)
  assert files.read_config(killed) == files.read_config(straight)
  assert toy.result(killed / files.EARLIER / "8") == toy.result(straight / files.EARLIER / "8")
