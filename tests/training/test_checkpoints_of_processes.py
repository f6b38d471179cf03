"""Checkpoints of two processes with two devices each, on one disk."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from convattn.training import checkpoints as module
from convattn.training.manifest import verify

ROOT = Path(module.__file__).parents[2]
PROGRAM = """
import pathlib, sys
import jax, numpy as np
from convattn.training.checkpoints import Checkpoints
from convattn.training.config import Checkpoint
from convattn.training.state import TrainState, no_nonfinite, sha256
from convattn.training.task import Ranking

jax.distributed.initialize(f"localhost:{sys.argv[2]}", 2, int(sys.argv[1]))
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))

def put(value, *axes):
  value, sharding = np.asarray(value), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
  return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

def state(step):
  values = np.arange(28, dtype=np.float32).reshape(4, 7) + step
  counts = jax.tree.map(put, no_nonfinite())
  return TrainState(put(np.int32(step)), {"w": put(values, "data")}, {}, (), {}, {}, counts)

template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state(0))
with Checkpoints(pathlib.Path(sys.argv[3]), Checkpoint(keep_newest=2), Ranking("validation/accuracy")) as checkpoints:
  restored = checkpoints.restore(template)
  first = 0 if restored is None else int(restored.step)
  for shard in [] if restored is None else restored.params["w"].addressable_shards:
    wanted = np.arange(28, dtype=np.float32).reshape(4, 7)[shard.index] + first
    np.testing.assert_array_equal(shard.data, wanted)
  print(checkpoints.steps(), checkpoints.best())
  for step in range(first + 1, first + 4):
    checkpoints.save(step, state(step), {}, {"validation/accuracy": 0.75 if step == 2 else 0.5})
  print(checkpoints.steps(), checkpoints.best())
"""


def _both(folder):
  """What each of the processes printed: (stdout, stderr)."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = str(free.getsockname()[1])
  environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", PROGRAM, str(index), port, str(folder)],
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(2)
  ]
  printed = [process.communicate(timeout=900) for process in processes]
  assert [process.returncode for process in processes] == [0, 0], printed
  return printed


def _said(out):
  """The lines of a process, without those of the library that joins CPUs."""
  return [line for line in out.splitlines() if "[Gloo]" not in line]


@pytest.mark.slow
def test_two_processes_agree_on_what_counts_and_only_the_first_moves_and_signs(tmp_path):
  folder = tmp_path / "run"
  for out, _ in _both(folder):
    assert _said(out)[-2:] == ["[] None", "[2, 3] (2, 0.75)"]
  assert [verify(folder / name) for name in ("2", "3")] == [None, None]
  (folder / "3" / "commit_success.txt").write_text("")
  printed = _both(folder)
  for out, _ in printed:
    assert _said(out)[-2:] == ["[2] (2, 0.75)", "[2, 4, 5] (2, 0.75)"]
  assert ["does not count" in errors for _, errors in printed] == [True, False]
  assert sorted(path.name for path in folder.iterdir()) == ["2", "4", "5", "damaged"]
