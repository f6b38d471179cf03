"""What a task gets wrong is told before the first step, not after the last."""

import dataclasses
from typing import Any

import jax
import numpy as np

from convattn.training.config import Experiment
from convattn.training.differences import differences
from convattn.training.evaluation import empty_split
from convattn.training.program import Program
from convattn.training.steps import WINDOW_NAMES
from convattn.training.task import Task

Batches = dict[str, dict[str, np.ndarray]]


def first_batches(task: Task) -> Batches:
  """The first batch of "train" and of every evaluation split.

  Raises:
    ValueError: an evaluation split without examples, or one that is called "train".
  """
  if "train" in task.evaluation_splits:
    raise ValueError("an evaluation split must not be called 'train', as the training metrics are; rename it.")
  batches = {"train": task.train_batch(0)}
  for split in task.evaluation_splits:
    batch = next(iter(task.evaluation_batches(split)), None)
    if batch is None:
      raise empty_split(split)
    batches[split] = batch
  return batches


def check_experiment(task: Task, experiment: Experiment) -> None:
  """A task that was made from an experiment must be made from the one that runs.

  Raises:
    ValueError: the two differ; one line lists the settings.
  """
  its_own = getattr(task, "experiment", None)
  if isinstance(its_own, Experiment) and its_own != experiment:
    differing = differences(dataclasses.asdict(its_own), dataclasses.asdict(experiment))
    raise ValueError(f"the task was made from other settings ({differing}); make it from the experiment that runs.")


def check_task(program: Program, task: Task, batches: Batches) -> None:
  """Everything that the loop will ask of the task until the end, on the first batch of each split.

  Raises:
    ValueError: names that collide, batches that do not divide over the devices, masks or sums that are missing, or
      confusion counts without class names; one line.
  """
  reserved = {*WINDOW_NAMES, "count"} & set(task.metric_names)
  if reserved or "loss" not in task.metric_names:
    wanted = f"must hold 'loss' and none of {', '.join(map(repr, (*WINDOW_NAMES, 'count')))}"
    raise ValueError(f"the task's metric_names {wanted}, got {', '.join(map(repr, task.metric_names))}.")
  for split, batch in batches.items():
    rows = {name: np.shape(array)[:1] for name, array in batch.items()}
    parts = program.micro_batches if split == "train" else 1
    factor = program.mesh.size * parts
    if len(set(rows.values())) != 1 or not all(size and size[0] % factor == 0 for size in rows.values()):
      sizes = ", ".join(f"{name}: {size[0] if size else 'none'}" for name, size in rows.items())
      product = f" times {parts} micro_batches" if parts > 1 else ""
      raise ValueError(
        f"arrays of a batch of {split!r} must have the same number of rows, a multiple of the {program.mesh.size} "
        f"devices{product}, got {sizes}."
      )
    if split != "train":
      _check_evaluation(program, task, split, batch)


def _check_evaluation(program: Program, task: Task, split: str, batch: dict[str, Any]) -> None:
  if "mask" not in batch or np.ndim(batch["mask"]) != 1 or not np.any(batch["mask"]):
    raise ValueError(f"a batch of {split!r} must have a mask [b] that is 1 for examples and 0 for padding, not all 0.")
  sums = jax.eval_shape(program.eval_step, program.template.params, program.template.model_state, batch)
  for name in (*task.metric_names, "count"):
    if name not in sums or sums[name].shape:
      found = f"one of shape {sums[name].shape}" if name in sums else f"only {', '.join(sums)}"
      raise ValueError(f"metric_sums of {split!r} must have a scalar {name!r}, got {found}.")
  if "confusion" in sums:
    classes = task.metadata.get("class_names")
    if classes is None or sums["confusion"].shape != (len(classes),) * 2:
      names = "no" if classes is None else len(classes)
      raise ValueError(
        f"a task that counts 'confusion' must have metadata['class_names'], one for each row and column, got {names} "
        f"names for counts of shape {sums['confusion'].shape}."
      )
