"""The folder of a run's checkpoints: which of them count, what becomes of the others, and what lies in one.

A checkpoint is a folder named by its step. It counts if its manifest verifies. What a process left that was killed
while it saved or deleted has a longer name. Everything is read without the program that wrote it, on any devices.
"""

import json
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

from convattn.errors import UserError, one_line
from convattn.training.config import Checkpoint
from convattn.training.manifest import verify
from convattn.training.task import Ranking

DAMAGED = "damaged"
METRICS = "metrics"

_UNFINISHED = re.compile(r"\d+\.(orbax-checkpoint-tmp.*|deleted)")


def step_folders(folder: Path) -> list[tuple[int, Path]]:
  """(step, folder) of every checkpoint, whether it counts or not, by step."""
  if not folder.is_dir():
    return []
  return sorted((int(child.name), child) for child in folder.iterdir() if child.name.isdecimal() and child.is_dir())


def newest_verified(folder: Path, *, show: bool = False) -> Path | None:
  """The newest checkpoint that counts; None if there is none. Changes nothing.

  Args:
    folder: that of the checkpoints.
    show: one line on stderr for each damaged one that is newer.
  """
  for _, child in reversed(step_folders(folder)):
    problem = verify(child)
    if problem is None:
      return child
    if show:
      warn(f"the checkpoint {child} is damaged ({problem}); the one before it is used.")
  return None


def set_aside(folder: Path) -> bool:
  """Moves each checkpoint that does not verify to damaged/, with one line on stderr, and removes unfinished ones.

  Returns:
    Whether one was moved.
  """
  moved = False
  for child in folder.iterdir():
    if _UNFINISHED.fullmatch(child.name):
      shutil.rmtree(child)
  for step, child in step_folders(folder):
    problem = verify(child)
    if problem is not None:
      target = _free(folder / DAMAGED, str(step))
      target.parent.mkdir(exist_ok=True)
      child.rename(target)
      moved = True
      warn(f"the checkpoint {child} is damaged ({problem}); it is now {target} and does not count.")
  return moved


def remove(step_folder: Path) -> None:
  """Deletes a checkpoint; if the process is killed meanwhile, `set_aside` does the rest."""
  deleted = step_folder.with_name(f"{step_folder.name}.deleted")
  step_folder.rename(deleted)
  shutil.rmtree(deleted)


def score_of(step_folder: Path, ranking: Ranking | None) -> float | None:
  """The score that was saved with a checkpoint that counts; None where there is none of that name."""
  saved = json.loads((step_folder / METRICS / "metadata").read_bytes())
  return None if ranking is None else saved.get(ranking.score)


def ranked(scores: Mapping[int, float | None], ranking: Ranking | None) -> list[int]:
  """The steps that have a score, the best one last (of equals the later)."""
  sign = -1 if ranking is not None and not ranking.higher_is_better else 1
  return [step for _, step in sorted((sign * score, step) for step, score in scores.items() if score is not None)]


def kept(scores: Mapping[int, float | None], settings: Checkpoint, ranking: Ranking | None) -> set[int]:
  """The newest steps, of those with a score the best, and every `keep_every`-th."""
  order, apart = ranked(scores, ranking), settings.keep_every * settings.every
  best = order[len(order) - min(settings.keep_best, len(order)) :]
  return {*sorted(scores)[-settings.keep_newest :], *best, *(step for step in scores if apart and step % apart == 0)}


def warn(line: str) -> None:
  print(f"warning: {line}", file=sys.stderr, flush=True)


def keep_under_another_name(path: Path) -> Path:
  """Renames a file to NAME.1, NAME.2, ..., the first that is free, and returns that."""
  target = _free(path.parent, path.name)
  path.rename(target)
  return target


def _free(folder: Path, name: str) -> Path:
  """A path in `folder` at which there is nothing yet: NAME, NAME.1, ..."""
  path, number = folder / name, 0
  while path.exists():
    number += 1
    path = folder / f"{name}.{number}"
  return path


_DAMAGE = (ValueError, KeyError, OSError)
"""What Orbax and TensorStore raise on broken and missing files."""


def _damaged(folder: Path, reason: str) -> UserError:
  return UserError(f"the checkpoint {folder} is damaged ({reason}); name another, such as the one before it.")


def check_files(folder: Path) -> None:
  """Compares the files of a checkpoint with its manifest.

  Raises:
    UserError: it does not verify; one line.
  """
  problem = verify(folder)
  if problem is not None:
    raise _damaged(folder, problem)


def read_description(folder: Path) -> dict[str, Any]:
  """What lies beside the state: {"model", "experiment"} and the task's metadata.

  Raises:
    UserError: it is damaged; one line.
  """
  try:
    description = ocp.JsonCheckpointHandler().restore(folder.absolute() / "description", args=ocp.args.JsonRestore())
    if not (isinstance(description, dict) and {"model", "experiment"} <= set(description)):
      raise ValueError("its description has no model or no experiment")
  except _DAMAGE as error:
    raise _damaged(folder, f"{type(error).__name__}: {one_line(error, 200)}") from error
  return description


def read_weights(folder: Path, *, raw: bool = False) -> dict[str, Any]:
  """{"step", "ema", "params", "model_state"} on the default device: averages ("ema") where there are some, else those
  of the last update, the others {}; `raw` leaves averages out.

  Raises:
    UserError: they are damaged; one line.
  """
  path, handler = folder.absolute() / "state", ocp.PyTreeCheckpointHandler()
  try:
    names = _readable_parts(path, raw)
    saved = handler.metadata(path).tree
    wanted = {name: saved[name] for name in names}
    # As NumPy: the shardings that were saved speak of devices that may not be here.
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    state = handler.restore(path, args=ocp.args.PyTreeRestore(wanted, restore_args=as_numpy, partial_restore=True))
  except _DAMAGE as error:
    raise _damaged(folder, f"{type(error).__name__}: {one_line(error, 200)}") from error
  return {"ema": {}, "params": {}, "model_state": {}, **jax.tree.map(jnp.asarray, state)}


def _readable_parts(path: Path, raw: bool) -> tuple[str, ...]:
  """The parts of the state to restore, after the bytes of each of their arrays have been read once.

  Orbax reads all arrays at once; when one fails, those on their way print tracebacks from other threads.
  """
  store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{path}/"}).result()
  keys = [key.decode() for key in store.list().result()]
  averaged = not raw and any(key.startswith("ema.") for key in keys)
  names = ("step", "ema") if averaged else ("step", "params", "model_state")
  wanted = [key for key in keys if re.split(r"[./]", key)[0] in names or key.endswith((".zarray", "zarr.json"))]
  for key, reading in [(key, store.read(key)) for key in wanted]:
    if not reading.result().value:  # so TensorStore gives what lay in a file that is gone
      raise ValueError(f"the bytes of {key} are missing")
  return names
