"""Metrics of a whole split, from sums."""

import dataclasses
import operator
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from convattn.training.feeding import knows_rows
from convattn.training.program import Program
from convattn.training.sharding import local_rows, put_batch, put_rows
from convattn.training.state import TrainState
from convattn.training.task import Task
from convattn.training.validation import SettingsError


def empty_split(split: str) -> ValueError:
  return ValueError(f"split {split!r} has no examples; give it some, or leave it out of the task's evaluation_splits.")


class EvaluationLeft(Exception):
  """An evaluation was asked to end before its end; it has no scores."""


def _never() -> bool:
  return False


def evaluate(
  program: Program,
  task: Task,
  params: Any,
  model_state: dict[str, Any],
  split: str,
  is_due: Callable[[], bool] = _never,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
  """Adds up the metric sums of every batch of `split`; divides once, at the end.

  Args:
    program: its eval_step and mesh are used.
    task: supplies the batches.
    params, model_state: the weights.
    split: the name of one of the task's evaluation splits.
    is_due: asked before each batch; when it says so, the evaluation is left.

  Returns:
    ({metric: mean over the examples, "count": their number}, {name: sum} of the sums that are arrays).

  Raises:
    ValueError: the split has no examples, or none with mask 1.
    EvaluationLeft: see `is_due`.
  """
  totals: dict[str, jax.Array] | None = None
  for batch in _on_devices(task, split, program.mesh):
    if is_due():
      raise EvaluationLeft
    sums = program.eval_step(params, model_state, batch)
    totals = sums if totals is None else jax.tree.map(operator.add, totals, sums)
  if totals is None:
    raise empty_split(split)
  fetched = jax.device_get(totals)
  count = int(fetched["count"])
  if not count:
    raise SettingsError(f"the masks of split {split!r} are all 0; set them to 1 for examples and to 0 for padding.")
  means = {name: float(fetched[name]) / count for name in task.metric_names}
  arrays = {name: np.asarray(value) for name, value in fetched.items() if np.ndim(value)}
  return {**means, "count": count}, arrays


def _on_devices(task: Any, split: str, mesh: Mesh) -> Iterator[dict[str, Any]]:
  """Its batches; this host makes only the rows that its own devices hold, if the task can."""
  if not knows_rows(task, "evaluation_rows", "evaluation_batches"):
    for batch in task.evaluation_batches(split):
      yield put_batch(batch, mesh)
    return
  size = task.evaluation_batch_size
  for rows in task.evaluation_rows(split, local_rows(mesh, size)):
    yield put_rows(rows, mesh, size)


@dataclasses.dataclass(frozen=True)
class Scores:
  """What a split said: numbers such as "test/loss" and "test_ema/loss", and the confusion counts if there are some."""

  numbers: dict[str, float]
  confusion: np.ndarray | None


def score(program: Program, task: Task, state: TrainState, split: str, is_due: Callable[[], bool] = _never) -> Scores:
  """Evaluates the weights on `split` and, where there is one, their running average; see `evaluate`."""
  means, arrays = evaluate(program, task, state.params, state.model_state, split, is_due)
  numbers = {f"{split}/{name}": value for name, value in means.items()}
  if state.ema:
    means, _ = evaluate(program, task, state.ema["params"], state.ema["model_state"], split, is_due)
    numbers |= {f"{split}_ema/{name}": value for name, value in means.items()}
  return Scores(numbers, arrays.get("confusion"))
