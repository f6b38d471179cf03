"""Two processes with two devices each train as one with four does, and notice when the other is gone."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

pytestmark = pytest.mark.usefixtures("cache")

PROCESS = Path(__file__).with_name("process.py")
ROOT = PROCESS.parents[2]
HEARTBEAT, PATIENCE = 10, 300
"""Seconds after which a process that is not heard of counts as dead: where one is to die, and where none is."""

# The digits preset, with all that couples the devices or the steps.
OPTIONS = (
  "--config.num_steps=20", "--config.batch_size=16", "--config.micro_batches=2", "--config.eval_batch_size=60",
  "--config.eval_every=10", "--config.checkpoint.every=10", "--config.optimizer.warmup_steps=5",
  "--config.optimizer.epsilon=0.001", "--config.explore=0",
)  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  """What the processes compile is kept for the next ones."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    yield


# What the library that joins CPUs prints without being asked, from several threads at once, so that lines are torn.
GLOO = re.compile(
  r"\[Gloo\]|Rank|is connected to|peer ranks\.|Expected number of|connected peer ranks is :", re.IGNORECASE
)


class Processes:
  """`count` processes that run `arguments` with four devices between them."""

  def __init__(self, count, *arguments, heartbeat=PATIENCE):
    with socket.socket() as free:
      free.bind(("127.0.0.1", 0))
      port = free.getsockname()[1]
    flags = f"--xla_force_host_platform_device_count={4 // count} --xla_backend_optimization_level=0"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    if count > 1:
      environment |= {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(count),
        "CONVATTN_HEARTBEAT_TIMEOUT": str(heartbeat),
        "CONVATTN_SHUTDOWN_TIMEOUT": str(heartbeat),
      }
    self.all = [
      subprocess.Popen(
        [sys.executable, *arguments],
        env=environment | ({"JAX_PROCESS_ID": str(index)} if count > 1 else {}),
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
      )
      for index in range(count)
    ]

  def outputs(self):
    """What each printed, when all have ended well."""
    texts = [process.communicate(timeout=900) for process in self.all]
    for process, (_, errors) in zip(self.all, texts, strict=True):
      assert process.returncode == 0, errors[-4000:]
    return [text for text, _ in texts]

  def wait_for_step(self, folder, step):
    """Returns when the line of `step` is there."""
    path = folder / "metrics.jsonl"
    while not path.exists() or f'"step": {step},' not in path.read_text():
      assert all(process.poll() is None for process in self.all), [process.communicate() for process in self.all]
      time.sleep(0.1)

  def __enter__(self):
    return self

  def __exit__(self, *_):
    for process in self.all:
      process.kill()
      process.communicate()


def test_each_process_puts_its_rows_and_gathers_a_state_that_is_divided_over_all():
  with Processes(2, PROCESS, "rows") as processes:
    said = [json.loads(text.splitlines()[-1]) for text in processes.outputs()]
  for index, seen in enumerate(said):
    assert seen == {
      "process": index,
      "devices": 4,
      "rows": [8 * index, 8 * index + 8],
      "sum": sum(range(96)),
      "addressable": False,
      "gathered": True,
      "same_sha256": True,
    }


def trained(folder, count, *options):
  with Processes(count, "train.py", f"--workdir={folder}", *OPTIONS, *options) as processes:
    outputs = processes.outputs()
  for text in outputs[1:]:  # the first speaks for all
    assert not re.search("[A-Za-z]", GLOO.sub("", text)), text
  return folder


@pytest.fixture(scope="module")
def single(cache, tmp_path_factory):
  """What one process with four devices leaves."""
  return trained(tmp_path_factory.mktemp("single") / "run", 1)


@pytest.fixture(scope="module")
def double(cache, tmp_path_factory):
  """What two processes with two devices each leave, with the page that the first of them writes."""
  return trained(tmp_path_factory.mktemp("double") / "run", 2, "--config.explore=2")


def at_step_10(folder, copy):
  """A copy of a run as it was when its checkpoint of step 10 had been written."""
  shutil.copytree(folder, copy)
  (copy / "result.json").unlink()
  shutil.rmtree(copy / "checkpoints" / "20")
  return copy


def saved(folder, step):
  """All of the state of a checkpoint, as NumPy."""
  handler, path = ocp.PyTreeCheckpointHandler(), folder / "checkpoints" / str(step) / "state"
  tree = handler.metadata(path).tree
  as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
  return handler.restore(path, args=ocp.args.PyTreeRestore(tree, restore_args=as_numpy))


def assert_same_end(one, other):
  ends = [saved(folder, 20) for folder in (one, other)]

  def check(path, ours, theirs):
    np.testing.assert_allclose(ours, theirs, 1e-5, 1e-5, err_msg=jax.tree_util.keystr(path))

  for part in ("params", "model_state", "ema"):
    jax.tree.map_with_path(check, *(end[part] for end in ends))
  lines = [
    [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in (one, other)
  ]
  assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]] == [10, 20]
  for ours, theirs in zip(*lines, strict=True):
    for name in ("train/loss", "train/gradient_norm", "validation/loss"):
      assert ours[name] == pytest.approx(theirs[name], rel=1e-4)


@pytest.mark.slow
def test_two_processes_end_as_one(single, double):
  assert_same_end(single, double)
  moved = jax.tree.map(
    lambda one, other: float(np.abs(one - other).max()), saved(single, 10)["params"], saved(single, 20)["params"]
  )
  assert max(jax.tree.leaves(moved)) > 1e-3  # a hundred times what they may differ by
  ours, theirs = (json.loads((folder / "mistakes.json").read_text()) for folder in (single, double))
  assert len(ours["score"]) == 16 and ours["score"] == pytest.approx(theirs["score"], rel=1e-3)
  assert [(folder / "explore.html").exists() for folder in (single, double)] == [False, True]
  assert len({*ours["row"]} & {*theirs["row"]}) >= 15  # the last place may be another's, by rounding


@pytest.mark.slow
@pytest.mark.parametrize("before, after", [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(single, double, tmp_path, before, after):
  folder = at_step_10({1: single, 2: double}[before], tmp_path / "run")
  assert_same_end(trained(folder, after), single)


@pytest.mark.slow
def test_two_processes_go_on_for_longer_and_record_it_once(double, tmp_path):
  folder = shutil.copytree(double, tmp_path / "run")
  trained(folder, 2, "--continue", "--config.num_steps=24", "--config.compute.fsdp=4")
  changed = {"num_steps": {"from": 20, "to": 24}, "explore": {"from": 2, "to": 0}, "compute.fsdp": {"from": 1, "to": 4}}
  assert json.loads((folder / "config.json").read_text())["history"] == [{"step": 20, "changed": changed}]
  assert json.loads((folder / "result.json").read_text())["step"] == 24
  assert (folder / "earlier" / "20" / "result.json").read_bytes() == (double / "result.json").read_bytes()
  assert int(saved(folder, 24)["step"]) == 24


@pytest.mark.slow
def test_a_state_that_is_divided_over_both_processes_ends_as_a_whole_one(single, tmp_path):
  assert_same_end(trained(tmp_path / "run", 2, "--config.compute.fsdp=4"), single)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [1, 0])  # 0: the one that the others ask who is there
def test_a_process_that_dies_ends_the_other_with_an_error_and_the_restart_goes_on(double, tmp_path, victim):
  folder = at_step_10(double, tmp_path / "run")
  with Processes(2, PROCESS, "train", folder, "15", *OPTIONS, heartbeat=HEARTBEAT) as processes:
    first, second = processes.all
    # Each waits for the batch of step 15 ahead of time, while it is in the updates up to there.
    while len(list(tmp_path.glob("stalled.*"))) < 2:
      assert all(process.poll() is None for process in processes.all), [each.communicate() for each in processes.all]
      time.sleep(0.1)
    assert first.poll() is None and second.poll() is None
    processes.all[victim].send_signal(signal.SIGKILL)
    # That HEARTBEAT arrives where it is counted is test_distributed.py's to see.
    processes.all[1 - victim].wait(timeout=900)
    assert processes.all[1 - victim].returncode != 0
    processes.all[victim].wait()
    assert "continues after step 10" in first.stdout.read()
  assert not (folder / "checkpoints" / "20").exists()
  assert_same_end(trained(folder, 2), double)


@pytest.mark.slow
def test_all_processes_stop_at_the_same_step_when_one_is_asked_to(tmp_path):
  folder = tmp_path / "run"
  options = [option for option in OPTIONS if "num_steps" not in option]
  with Processes(2, "train.py", f"--workdir={folder}", "--config.num_steps=100000", *options) as processes:
    processes.wait_for_step(folder, 10)
    processes.all[1].send_signal(signal.SIGTERM)
    first, second = processes.outputs()  # both end with 0
  step = int(re.search(r"stopped after step (\d+) of 100000, which is saved", first).group(1))
  assert step >= 10
  assert "stopped" not in second  # the first speaks for all
  assert int(saved(folder, step)["step"]) == step
  assert (folder / "checkpoints" / str(step) / "manifest.json").exists()
  assert not (folder / "result.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("asked", [(0, 1), (1,)])  # as a terminal or srun asks all of them, or somebody one
def test_ctrl_c_in_any_process_ends_all_of_them_at_one_step_with_a_line_each(tmp_path, asked):
  folder = tmp_path / "run"
  options = [option for option in OPTIONS if "num_steps" not in option]
  with Processes(2, "train.py", f"--workdir={folder}", "--config.num_steps=100000", *options) as processes:
    processes.wait_for_step(folder, 10)
    for index in asked:
      processes.all[index].send_signal(signal.SIGINT)
    errors = [process.communicate(timeout=900)[1] for process in processes.all]
    assert [process.returncode for process in processes.all] == [130, 130], errors
  lines = [[line for line in text.splitlines() if line.startswith("convattn train: ")] for text in errors]
  assert [len(each) for each in lines] == [1, 1]
  assert lines[0] == lines[1] and not any("Traceback" in text for text in errors)
  step = int(re.search(r"stopped after step (\d+) of 100000, which is saved", lines[0][0]).group(1))
  assert int(saved(folder, step)["step"]) == step >= 10
  assert (folder / "checkpoints" / str(step) / "manifest.json").exists()


@pytest.mark.slow
def test_all_processes_leave_an_evaluation_at_the_same_batch_when_one_is_asked_to(double, tmp_path):
  folder = tmp_path / "run"
  smaller = [option for option in OPTIONS if "eval_batch_size" not in option] + ["--config.eval_batch_size=12"]
  with Processes(2, PROCESS, "leave", folder, "3", *smaller) as processes:
    made = [int(re.search(r"made (\d+) validation", text).group(1)) for text in processes.outputs()]
  assert made[0] == made[1]
  assert 3 <= made[0] < 2 * 144 // 12  # for the weights and for their average
  assert not (folder / "metrics.jsonl").read_text().count('"step": 10,')
  assert int(saved(folder, 10)["step"]) == 10
  with Processes(2, "train.py", f"--workdir={folder}", *smaller) as processes:
    processes.outputs()
  assert_same_end(folder, double)
