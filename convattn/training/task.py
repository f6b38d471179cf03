"""A task supplies batches, losses and metric sums; the loop knows nothing else about the data."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from convattn.errors import UserError

Batch = dict[str, Any]

ALL_ROWS = slice(None)

SKIPPED_PICTURES = "skipped_pictures"
"""A number of the host: different files that could not be read, of this process and its workers since their start."""

MEASURED = ("seconds", "images_per_second", "tflop_per_second", "waiting_for_data", "device_gib")
"""Numbers of the host that the loop measures itself."""


class Ranking(NamedTuple):
  """The number that ranks checkpoints, by its name in a line of metrics.jsonl: "validation/accuracy"."""

  score: str
  higher_is_better: bool = True


class Task(Protocol):
  """What the loop asks of a task. Methods that take jax arrays are traced into the steps; the others run on the host.

  Any object with these members is one. It may have more of them, which the functions below look for:

  - `ranking: Ranking | None`: which score ranks checkpoints, see `ranking_of`.
  - `host_numbers() -> dict[str, float]`: numbers of this host for each line of training metrics, by names that the
    loop does not write itself.
  - `experiment: Experiment`: the settings that it is made of, which must be the run's. Where a run goes on with others,
    its data are known by the batches that a dataclass makes with the earlier ones put back (`dataclasses.replace`).
  - `pictures(split, rows) -> uint8 [k, h, w, c]`: what the examples at these places of a split look like, for the
    record of those that stand out.
  - `close()`: ends what the task has started; called once, when the run ends, however that is.

  Attributes:
    metric_names: keys of the scalar sums of `metric_sums`, "loss" among them; not "count", "steps",
      "learning_rate", "gradient_norm", "update_norm" or "parameter_norm", which the loop reports itself. A run may
      be continued with others.
    evaluation_splits: "test" is scored once, with the final weights, the others at each validation.
    evaluation_batch_size: rows of each evaluation batch, over all hosts.
    num_classes: width of the model's output, for a model that `run` creates by name.
    metadata: what it takes to use the model later, such as class names and preprocessing; must be JSON. A run is
      continued only with equal metadata and data. "class_names" are needed where "confusion" is counted.
    example_inputs: model inputs of the right shape and dtype, [1, ...]: the model is initialised with them.
  """

  @property
  def metric_names(self) -> tuple[str, ...]: ...

  @property
  def evaluation_splits(self) -> tuple[str, ...]: ...

  @property
  def evaluation_batch_size(self) -> int: ...

  @property
  def num_classes(self) -> int: ...

  @property
  def metadata(self) -> dict[str, Any]: ...

  @property
  def example_inputs(self) -> Any: ...

  def train_rows(self, step: int, rows: slice) -> Batch:
    """The rows `rows` of the batch of update `step` (from 0): NumPy arrays, a pure function of the arguments.

    `ALL_ROWS` is the whole batch, batch_size rows over all hosts; each host asks for those that its devices hold.
    """
    ...

  def evaluation_rows(self, split: str, rows: slice) -> Iterator[Batch]:
    """The rows `rows` of each batch of `split`, all of one shape, each with "mask" [b], 0 for padding."""
    ...

  def prepare_train(self, key: jax.Array, batch: Batch) -> tuple[Any, Any]:
    """(model inputs, targets); here is where augmentation happens."""
    ...

  def prepare_eval(self, batch: Batch) -> tuple[Any, Any]:
    """(model inputs, targets), with nothing random."""
    ...

  def losses(self, outputs: Any, targets: Any) -> jax.Array:
    """One loss per example, [b]. Training minimises their mean over the batch."""
    ...

  def metric_sums(self, outputs: Any, targets: Any, mask: jax.Array) -> dict[str, Any]:
    """Sums over the examples with mask 1: a scalar for each of `metric_names`, and "count".

    Arrays may be added: their sums over the test split are written to NAME.json, which may not be a file of the run. So
    may be a `records.largest`, of the examples with the largest of some score: those of the whole split are written.
    """
    ...


def ranking_of(task: Any) -> Ranking | None:
  """The task's `ranking`; without one, by "accuracy" of "validation" where it has both, else none.

  Raises:
    UserError: it is something else.
  """
  if hasattr(task, "ranking"):
    ranking: Ranking | None = task.ranking
    if not isinstance(ranking, Ranking | None):
      raise UserError(f"the task's ranking must be None or such as Ranking('validation/accuracy'), got {ranking!r}.")
    return ranking
  has_both = "validation" in task.evaluation_splits and "accuracy" in task.metric_names
  return Ranking("validation/accuracy") if has_both else None


def host_numbers(task: Any) -> dict[str, float]:
  """What the task says of this host, as Python's numbers; {} where it says nothing.

  Raises:
    UserError: a name that the loop writes itself, or something else than a real number; one line.
  """
  numbers: dict[str, float] = {}
  for name, value in (task.host_numbers() if hasattr(task, "host_numbers") else {}).items():
    splits = ("train", *task.evaluation_splits, *(f"{split}_ema" for split in task.evaluation_splits))
    if name in ("step", "skipped_steps", *MEASURED) or str(name).partition("/")[0] in splits:
      raise UserError(f"the task's host_numbers() has {name!r}, which the loop writes itself; rename it.")
    array = np.asarray(value)
    if array.ndim or array.dtype.kind not in "biuf":
      raise UserError(f"the task's host_numbers() must be real numbers by name, got {value!r} for {name!r}.")
    numbers[name] = array.item()
  return numbers


def close(task: Any) -> None:
  """Lets the task end what it has started, if it can."""
  if hasattr(task, "close"):
    task.close()
