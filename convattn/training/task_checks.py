"""What a run will ask of its task until the end, asked before the first update."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convattn.errors import UserError, nearest
from convattn.training import workdir as files
from convattn.training.evaluation import empty_split
from convattn.training.manifest import MANIFEST
from convattn.training.program import Program
from convattn.training.steps import WINDOW_NAMES
from convattn.training.task import ALL_ROWS, Batch, Task, host_numbers, ranking_of


def first_batches(task: Task) -> dict[str, Batch]:
  """The first batch of "train" and of every evaluation split.

  Raises:
    UserError: an evaluation split without examples, or one that is called "train".
  """
  if "train" in task.evaluation_splits:
    raise UserError("an evaluation split must not be called 'train', as the training metrics are; rename it.")
  batches = {"train": task.train_rows(0, ALL_ROWS)}
  for split in task.evaluation_splits:
    batch = next(iter(task.evaluation_rows(split, ALL_ROWS)), None)
    if batch is None:
      raise empty_split(split)
    batches[split] = batch
  return batches


def check_task(program: Program, task: Task, batches: dict[str, Batch], batch_size: int) -> None:
  """Everything that the loop will ask of the task until the end, on the first batch of each split.

  Raises:
    UserError: names that collide or name no file, batches that do not divide over the devices, masks or sums that are
      missing, confusion counts without class names, or a ranking by what is never reported; one line.
  """
  reserved = {*WINDOW_NAMES, "count"} & set(task.metric_names)
  if reserved or "loss" not in task.metric_names:
    wanted = f"must hold 'loss' and none of {', '.join(map(repr, (*WINDOW_NAMES, 'count')))}"
    raise UserError(f"the task's metric_names {wanted}, got {', '.join(map(repr, task.metric_names))}.")
  for split, batch in batches.items():
    rows = {name: np.shape(array)[:1] for name, array in batch.items()}
    name, size, parts = "evaluation_batch_size", task.evaluation_batch_size, 1
    if split == "train":
      name, size, parts = "batch_size", batch_size, program.micro_batches
    if set(rows.values()) != {(size,)} or size % (program.mesh.size * parts):
      sizes = ", ".join(f"{each}: {shape[0] if shape else 'none'}" for each, shape in rows.items())
      product = f" times {parts} micro_batches" if parts > 1 else ""
      raise UserError(
        f"arrays of a batch of {split!r} must have {name} = {size} rows, a multiple of the {program.mesh.size} "
        f"devices{product}, got {sizes}."
      )
    if split != "train":
      _check_evaluation(program, task, split, batch)
  _check_ranking(program, task)


def _check_ranking(program: Program, task: Task) -> None:
  ranking, own = ranking_of(task), host_numbers(task)
  splits = [*task.evaluation_splits, *(f"{split}_ema" for split in task.evaluation_splits if program.template.ema)]
  reported = [f"{split}/{name}" for split in splits for name in (*task.metric_names, "count")]
  reported += [*(f"train/{name}" for name in program.template.window if name != "steps"), *own]
  if ranking is not None and ranking.score not in reported:
    near = " or ".join(map(repr, nearest(str(ranking.score), reported)))
    raise UserError(f"the task ranks checkpoints by {ranking.score!r}, which is never reported; did you mean {near}?")


def _check_evaluation(program: Program, task: Task, split: str, batch: dict[str, Any]) -> None:
  if "mask" not in batch or np.ndim(batch["mask"]) != 1 or not np.any(batch["mask"]):
    raise UserError(f"a batch of {split!r} must have a mask [b] that is 1 for examples and 0 for padding, not all 0.")
  sums = jax.eval_shape(program.eval_step, program.template.params, program.template.model_state, batch)
  for name in (*task.metric_names, "count"):
    if name not in sums or getattr(sums[name], "shape", None) != ():
      found = f"one of shape {getattr(sums[name], 'shape', None)}" if name in sums else f"only {', '.join(sums)}"
      raise UserError(f"metric_sums of {split!r} must have a scalar {name!r}, got {found}.")
  for name, total in sums.items():
    for leaf in jax.tree.leaves(total):  # of one that is a Largest there are several
      if leaf.shape:
        _check_array(split, name, leaf.dtype)
  if "confusion" in sums:
    classes = task.metadata.get("class_names")
    if classes is None or sums["confusion"].shape != (len(classes),) * 2:
      names = "no" if classes is None else len(classes)
      raise UserError(
        f"a task that counts 'confusion' must have metadata['class_names'], one for each row and column, got {names} "
        f"names for counts of shape {sums['confusion'].shape}."
      )


def _check_array(split: str, name: str, dtype: Any) -> None:
  what = f"metric_sums of {split!r} has an array {name!r}"
  if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{,99}", name):
    raise UserError(f"{what}, which is to be written as NAME.json; name it by letters, digits and '_', '-' or '.'.")
  # Some disks take small and capital letters for the same.
  if name != "confusion" and f"{name}.json".lower() in (files.CONFIG, files.RESULT, files.CONFUSION, MANIFEST):
    raise UserError(f"{what}, but {name.lower()}.json is the run's own; rename it.")
  if not any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
    raise UserError(f"{what} of {dtype}, which JSON does not hold; make real numbers of it.")
