"""One of several processes that train together; run as a script by test_processes.py, which starts them all.

usage: python process.py rows | python process.py train WORKDIR STALL_STEP OPTION ..: STALL_STEP's batch (from 0) never
comes, and the file stalled.PROCESS beside WORKDIR says that it is awaited | python process.py leave WORKDIR AT OPTION
..: the last process gets SIGTERM while it makes validation batch AT, counted from 1 without the one that is looked at
before the run; the options are those of train.py
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np

from convattn.training import distributed


def rows():
  """Prints what this process holds of a batch and of a state that is divided over all processes."""
  from convattn.training.feeding import local_rows, put_rows
  from convattn.training.sharding import gather, make_mesh, put_batch, state_shardings
  from convattn.training.state import sha256

  batch = {"image": np.arange(16 * 6).reshape(16, 6).astype(np.float32), "label": np.arange(16)}
  mesh = make_mesh(fsdp=4)
  mine = local_rows(mesh, 16)
  placed, whole = put_rows({name: array[mine] for name, array in batch.items()}, mesh, 16), put_batch(batch, mesh)
  for name, array in placed.items():
    for one, other in zip(array.addressable_shards, whole[name].addressable_shards, strict=True):
      np.testing.assert_array_equal(one.data, other.data)
  state = {"kernel": np.arange(2**13, dtype=np.float32).reshape(64, 128), "bias": np.ones(3, np.float32)}
  divided = jax.jit(lambda tree: tree, out_shardings=state_shardings(state, mesh))(state)
  print(
    json.dumps(
      {
        "process": jax.process_index(),
        "devices": jax.device_count(),
        "rows": [mine.start, mine.stop],
        "sum": float(placed["image"].sum()),
        "addressable": divided["kernel"].is_fully_addressable,
        "gathered": bool((gather(divided["kernel"]) == state["kernel"]).all()),
        "same_sha256": sha256(divided) == sha256(state),
      }
    )
  )


def train(workdir, stall_step, *options):
  """Trains as train.py would, but stops for ever at a step."""
  from convattn.commands.options import split_options
  from convattn.commands.train import parse
  from convattn.training import ImageClassification, run
  from convattn.training.classification import load_dataset

  class Stalled(ImageClassification):
    def train_rows(self, step, rows):
      if step == int(stall_step):
        Path(workdir).with_name(f"stalled.{jax.process_index()}").touch()
        threading.Event().wait()
      return super().train_rows(step, rows)

  experiment, _ = parse(split_options([f"--workdir={workdir}", *options]))
  run(experiment, workdir, task=Stalled(load_dataset(experiment, None), experiment))


def leave(workdir, at, *options):
  """Trains as train.py would, but is asked to end in the middle of a validation."""
  from convattn.commands.options import split_options
  from convattn.commands.train import parse
  from convattn.training import ImageClassification, run
  from convattn.training.classification import load_dataset

  made = [-1]

  class Asked(ImageClassification):
    def evaluation_rows(self, split, rows):
      for batch in super().evaluation_rows(split, rows):
        made[0] += split == "validation"
        if made[0] == int(at) and split == "validation" and jax.process_index() == jax.process_count() - 1:
          os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)  # a batch of real pictures takes as long; the processes agree meanwhile
        yield batch

  experiment, _ = parse(split_options([f"--workdir={workdir}", *options]))
  try:
    run(experiment, workdir, task=Asked(load_dataset(experiment, None), experiment))
  finally:
    print(f"made {made[0]} validation batches", flush=True)


if __name__ == "__main__":
  distributed.initialize()
  {"rows": rows, "train": train, "leave": leave}[sys.argv[1]](*sys.argv[2:])
