"""Metrics of a whole split, from sums."""

import operator
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from convattn.errors import UserError
from convattn.training.feeding import local_rows, put_rows
from convattn.training.records import Largest, merged
from convattn.training.state import TrainState
from convattn.training.task import Task

Arrays = dict[str, Any]
"""By name, each sum that is an array (NumPy), and each `Largest` of the whole split."""

_AT_ONCE = 64
"""Batches whose standing out examples are put together at a time, so that no batch is waited for."""


def empty_split(split: str) -> UserError:
  return UserError(f"split {split!r} has no examples; give it some, or leave it out of the task's evaluation_splits.")


def evaluate(
  program: Any,
  task: Task,
  params: Any,
  model_state: dict[str, Any],
  split: str,
  before_batch: Callable[[], None] = lambda: None,
) -> tuple[dict[str, float], Arrays]:
  """Adds up the metric sums of every batch of `split`; divides once, at the end.

  Args:
    program: its `eval_step` and `mesh` are used (see program.Program).
    task: supplies the batches; this host asks for the rows that its own devices hold.
    params, model_state: the weights.
    split: the name of one of the task's evaluation splits.
    before_batch: called before each batch; what it raises ends the evaluation.

  Returns:
    ({metric: mean over the examples, "count": their number}, {name: sum} of the sums that are no scalars).

  Raises:
    UserError: the split has no examples, or none with mask 1.
  """
  totals: dict[str, jax.Array] | None = None
  kept: list[tuple[int, dict[str, Largest]]] = []
  size = task.evaluation_batch_size
  for number, rows in enumerate(task.evaluation_rows(split, local_rows(program.mesh, size))):
    before_batch()
    batch = put_rows(rows, program.mesh, size)
    # One after another, as training steps are by themselves: where several devices share a few cores, batches that are
    # computed together wait for each other's collectives until XLA ends the process.
    jax.block_until_ready(totals)
    found = program.eval_step(params, model_state, batch)
    kept.append((number * size, {name: each for name, each in found.items() if isinstance(each, Largest)}))
    kept = [(0, merged(kept))] if len(kept) == _AT_ONCE else kept
    sums = {name: each for name, each in found.items() if not isinstance(each, Largest)}
    totals = sums if totals is None else jax.tree.map(operator.add, totals, sums)
  if totals is None:
    raise empty_split(split)
  fetched = jax.device_get(totals)
  count = int(fetched["count"])
  if not count:
    raise UserError(f"the masks of split {split!r} are all 0; set them to 1 for examples and to 0 for padding.")
  means = {name: float(fetched[name]) / count for name in task.metric_names}
  arrays = {name: np.asarray(value) for name, value in fetched.items() if np.ndim(value)}
  return {**means, "count": count}, arrays | merged(kept)


def score(
  program: Any, task: Task, state: TrainState, split: str, before_batch: Callable[[], None] = lambda: None
) -> tuple[dict[str, float], Arrays]:
  """`evaluate` of the weights on `split` and, where there is one, of their running average.

  Returns:
    (numbers such as "test/loss" and "test_ema/loss", the sums of the weights themselves that are no scalars).
  """
  means, arrays = evaluate(program, task, state.params, state.model_state, split, before_batch)
  numbers = {f"{split}/{name}": value for name, value in means.items()}
  if state.ema:
    means, _ = evaluate(program, task, state.ema["params"], state.ema["model_state"], split, before_batch)
    numbers |= {f"{split}_ema/{name}": value for name, value in means.items()}
  return numbers, arrays
