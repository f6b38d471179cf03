"""Metrics of a whole split, from sums."""

import operator
from typing import Any

import jax
import numpy as np

from convattn.training.program import Program
from convattn.training.sharding import put_batch
from convattn.training.task import Task


def evaluate(
  program: Program, task: Task, params: Any, model_state: dict[str, Any], split: str
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
  """Adds up the metric sums of every batch of `split`; divides once, at the end.

  Returns:
    ({metric: mean over the examples, "count": their number}, {name: sum} of the sums that are arrays).

  Raises:
    ValueError: the split has no examples.
  """
  totals: dict[str, jax.Array] | None = None
  for batch in task.evaluation_batches(split):
    sums = program.eval_step(params, model_state, put_batch(batch, program.mesh))
    totals = sums if totals is None else jax.tree.map(operator.add, totals, sums)
  if totals is None:
    raise ValueError(f"split {split!r} has no examples; give it some, or leave it out of the task's evaluation_splits.")
  fetched = jax.device_get(totals)
  count = int(fetched["count"])
  means = {name: float(fetched[name]) / count for name in task.metric_names}
  arrays = {name: np.asarray(value) for name, value in fetched.items() if np.ndim(value)}
  return {**means, "count": count}, arrays
