"""Metrics of a whole split, from sums."""

import dataclasses
import operator
from typing import Any

import jax
import numpy as np

from convattn.training.program import Program
from convattn.training.sharding import put_batch
from convattn.training.state import TrainState
from convattn.training.task import Task


def empty_split(split: str) -> ValueError:
  return ValueError(f"split {split!r} has no examples; give it some, or leave it out of the task's evaluation_splits.")


def evaluate(
  program: Program, task: Task, params: Any, model_state: dict[str, Any], split: str
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
  """Adds up the metric sums of every batch of `split`; divides once, at the end.

  Returns:
    ({metric: mean over the examples, "count": their number}, {name: sum} of the sums that are arrays).

  Raises:
    ValueError: the split has no examples, or none with mask 1.
  """
  totals: dict[str, jax.Array] | None = None
  for batch in task.evaluation_batches(split):
    sums = program.eval_step(params, model_state, put_batch(batch, program.mesh))
    totals = sums if totals is None else jax.tree.map(operator.add, totals, sums)
  if totals is None:
    raise empty_split(split)
  fetched = jax.device_get(totals)
  count = int(fetched["count"])
  if not count:
    raise ValueError(f"the masks of split {split!r} are all 0; set them to 1 for examples and to 0 for padding.")
  means = {name: float(fetched[name]) / count for name in task.metric_names}
  arrays = {name: np.asarray(value) for name, value in fetched.items() if np.ndim(value)}
  return {**means, "count": count}, arrays


@dataclasses.dataclass(frozen=True)
class Scores:
  """What a split said: numbers such as "test/loss" and "test_ema/loss", and the confusion counts if there are some."""

  numbers: dict[str, float]
  confusion: np.ndarray | None


def score(program: Program, task: Task, state: TrainState, split: str) -> Scores:
  """Evaluates the weights on `split` and, where there is one, their running average."""
  means, arrays = evaluate(program, task, state.params, state.model_state, split)
  numbers = {f"{split}/{name}": value for name, value in means.items()}
  if state.ema:
    means, _ = evaluate(program, task, state.ema["params"], state.ema["model_state"], split)
    numbers |= {f"{split}_ema/{name}": value for name, value in means.items()}
  return Scores(numbers, arrays.get("confusion"))
