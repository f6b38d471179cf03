"""Exact numbers of a trained model on data: a classifier on a data set, a model of any task on that task."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax

from convattn.analysis import Classification, Outcomes, classify, join_outcomes, outcomes
from convattn.data import ArraySource, Dataset, HostAugmentation, Workers, evaluation_batches
from convattn.errors import UserError
from convattn.inference.logits import logits_of, placed, precision
from convattn.training.evaluation import Arrays, evaluate as evaluate_weights
from convattn.training.restoring import Classifier, Restored
from convattn.training.steps import make_eval_step
from convattn.training.task import Task


def evaluate(restored: Restored, task: Task, split: str) -> tuple[dict[str, float], Arrays]:
  """The metrics of a task on one of its splits, as the loop computes them, on as many devices as divide its batches.

  Returns:
    ({metric: mean over the examples, "count": their number}, {name: sum} of the sums that are arrays, and each
    `training.records.Largest` of the whole split).

  Raises:
    UserError: the task has no such split, or no examples in it.
  """
  if split not in task.evaluation_splits:
    raise UserError(f"the task has no split {split!r}; choose one of {', '.join(task.evaluation_splits) or 'none'}.")
  mesh, variables = placed(restored, task.evaluation_batch_size)
  program = SimpleNamespace(mesh=mesh, eval_step=jax.jit(make_eval_step(restored.model, task)))
  params, model_state = variables["params"], {k: v for k, v in variables.items() if k != "params"}
  with jax.default_matmul_precision(precision(restored)):
    return evaluate_weights(program, task, params, model_state, split)


def classification(
  restored: Classifier,
  dataset: Dataset,
  split: str,
  *,
  batch_size: int = 128,
  workers: int = 0,
  advance: Callable[[int], Any] = lambda count: None,
) -> Classification:
  """Accuracy, top-5 accuracy, loss, calibration and confusion of a classifier on a split of a data set.

  Args:
    restored: the classifier.
    dataset: of the classes of the model, in its order; see `match_classes`.
    split: "train", "validation" or "test".
    batch_size: images per call of the model; the result does not depend on it.
    workers: processes that decode pictures; 0: this one.
    advance: called with the number of images that have been scored since the last call.

  Raises:
    UserError: the split has no images, or a picture that cannot be read.
    FloatingPointError: logits that are not finite.
  """
  found = outcomes_of(restored, dataset, split, batch_size=batch_size, workers=workers, advance=advance)
  return classify(found, len(restored.class_names))


def outcomes_of(
  restored: Classifier,
  dataset: Dataset,
  split: str,
  *,
  batch_size: int = 128,
  workers: int = 0,
  advance: Callable[[int], Any] = lambda count: None,
) -> Outcomes:
  """What became of each image of a split, in their order; arguments and errors are those of `classification`."""
  source = getattr(dataset, split)
  if not len(source):
    raise UserError(f"the {split} split has no images; choose another --split.")
  pieces = []
  with contextlib.ExitStack() as stack:
    if workers and not isinstance(source, ArraySource):
      pool = stack.enter_context(contextlib.closing(Workers(dataset, HostAugmentation(), workers)))
      made = pool.evaluation_batches(split, batch_size)
    else:
      made = evaluation_batches(source, batch_size)
    for logits, batch in logits_of(restored, ((batch["image"], batch) for batch in made), batch_size):
      real = batch["mask"] > 0
      pieces.append(outcomes(logits[real], batch["label"][real]))
      advance(int(real.sum()))
  return join_outcomes(pieces)
