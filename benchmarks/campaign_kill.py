"""A training run that kills itself: `python -m benchmarks.campaign_kill POINT COUNT ARGUMENTS-OF-TRAIN`.

When it comes to POINT (a key of `POINTS`) for the COUNT-th time, it sends itself SIGKILL, as the kernel or a scheduler
does: nothing is cleaned up, nothing is flushed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

Reach = Callable[[], None]


def _before(owner: Any, name: str, reach: Reach, when: Callable[..., bool] = lambda *_, **__: True) -> None:
  """Calls `reach` before each call of owner.name whose arguments `when` accepts."""
  original = getattr(owner, name)

  def wrapped(*arguments: Any, **options: Any) -> Any:
    if when(*arguments, **options):
      reach()
    return original(*arguments, **options)

  setattr(owner, name, wrapped)


def _preparing(reach: Reach) -> None:
  from tensorflow_datasets.core import writer

  _before(writer.Writer, "finalize", reach)


def _compiling(reach: Reach) -> None:
  import jax

  def heard(event: str, seconds: float, **details: Any) -> None:
    # Told when the program has been lowered, just before XLA gets it.
    if event.endswith("jaxpr_to_mlir_module_duration") and "train_step" in str(details.get("fun_name")):
      reach()

  jax.monitoring.register_event_duration_secs_listener(heard)


def _saving(reach: Reach) -> None:
  from orbax.checkpoint import JsonCheckpointHandler

  _before(JsonCheckpointHandler, "async_save", reach)  # beside the arrays, which are being written


def _committing(reach: Reach) -> None:
  from orbax.checkpoint._src.checkpointers import async_checkpointer

  _before(async_checkpointer, "_on_commit_callback", reach)


def _signing(reach: Reach) -> None:
  from convattn.training import checkpoints

  _before(checkpoints, "write_manifest", reach)


def _renaming_manifest(reach: Reach) -> None:
  from pathlib import Path

  _before(Path, "replace", reach, lambda path, *_: path.name == ".manifest.json.partial")


def _deleting(reach: Reach) -> None:
  import shutil

  _before(shutil, "rmtree", reach, lambda path, *_, **__: str(path).endswith(".deleted"))


def _evaluating(reach: Reach) -> None:
  from convattn.training import evaluation

  _before(evaluation, "put_rows", reach)


def _writing_result(reach: Reach) -> None:
  from pathlib import Path

  _before(Path, "replace", reach, lambda path, *_: path.name == ".result.json.partial")


POINTS: dict[str, Callable[[Reach], None]] = {
  "preparing data": _preparing,
  "compiling the training step": _compiling,
  "inside a save, writing files": _saving,
  "inside a save, before the commit": _committing,
  "between commit and manifest": _signing,
  "before the manifest is in place": _renaming_manifest,
  "deleting an old checkpoint": _deleting,
  "inside an evaluation": _evaluating,
  "writing the result": _writing_result,
}


def main(arguments: list[str]) -> int:
  from convattn.commands import main as command

  point, left, lock = arguments[0], [int(arguments[1])], threading.Lock()

  def reach() -> None:
    with lock:
      left[0] -= 1
      if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

  POINTS[point](reach)
  return command(["train", *arguments[2:]])


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
