"""The folder of a run's checkpoints: which of them count, and what becomes of the others.

A checkpoint is a folder named by its step. It counts if its manifest verifies. What a process left that was killed
while it saved or deleted has a longer name.
"""

import json
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from convattn.training.manifest import MANIFEST, verify

DAMAGED = "damaged"
METRICS = "metrics"
RANKED_BY = "validation/accuracy"

_UNFINISHED = re.compile(r"\d+\.(orbax-checkpoint-tmp.*|deleted)")


def step_folders(folder: Path) -> list[tuple[int, Path]]:
  """(step, folder) of every checkpoint, whether it counts or not, by step."""
  if not folder.is_dir():
    return []
  return sorted((int(child.name), child) for child in folder.iterdir() if child.name.isdecimal() and child.is_dir())


def is_unsigned(step_folder: Path) -> bool:
  """Whether it is of a version of convattn that wrote no manifests; a lost one is not taken for that."""
  # There Orbax's manager wrote the metrics, under another name.
  return not (step_folder / MANIFEST).exists() and (step_folder / METRICS / METRICS).is_file()


def newest_verified(folder: Path, *, show: bool = False) -> Path | None:
  """The newest checkpoint that counts or is of a version without manifests; None if there is none. Changes nothing.

  Args:
    folder: that of the checkpoints.
    show: one line on stderr for each damaged one that is newer, and for one without a manifest.
  """
  for _, child in reversed(step_folders(folder)):
    unsigned = is_unsigned(child)
    problem = None if unsigned else verify(child)
    if unsigned and show:
      warn_of_unsigned(child)
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


def accuracy(step_folder: Path) -> float | None:
  """The validation accuracy that was saved with a checkpoint that counts."""
  return json.loads((step_folder / METRICS / "metadata").read_bytes()).get(RANKED_BY)


def kept(accuracies: Mapping[int, float | None], newest: int, best: int) -> set[int]:
  """The newest steps and, of those with an accuracy, the best (of equals the later)."""
  ranked = sorted((value, step) for step, value in accuracies.items() if value is not None)
  return {*sorted(accuracies)[-newest:], *(step for _, step in ranked[len(ranked) - min(best, len(ranked)) :])}


def warn_of_unsigned(step_folder: Path) -> None:
  warn(f"the checkpoint {step_folder} is of a version of convattn that wrote no digests: it is read unverified.")


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
