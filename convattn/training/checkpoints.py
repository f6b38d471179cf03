"""Orbax checkpoints: the newest and the best, written while training goes on."""

import math
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from convattn.training.config import Checkpoint
from convattn.training.state import TrainState
from convattn.training.workdir import WorkdirError

RANKED_BY = "validation/accuracy"


def _rank(metrics: dict[str, float]) -> float:
  return metrics.get(RANKED_BY, float("-inf"))


class Checkpoints:
  """The checkpoints in a directory, each with the state and with what it takes to rebuild the model (`description`).

  The newest `keep_newest` and, of those saved with a validation accuracy, the best `keep_best` are kept (of equals the
  later). A checkpoint that a killed run did not finish is invisible and removed here.
  """

  def __init__(self, directory: Path, settings: Checkpoint):
    newest, best = policies.LatestN(settings.keep_newest), policies.BestN(get_metric_fn=_rank, n=settings.keep_best)
    options = ocp.CheckpointManagerOptions(
      preservation_policy=policies.AnyPreservationPolicy([newest, best]),
      best_fn=_rank,  # without it the metrics are not written
      cleanup_tmp_directories=True,
      enable_async_checkpointing=True,
    )
    self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

  def save(self, step: int, state: TrainState, description: dict[str, Any], metrics: dict[str, float]) -> None:
    """Starts to write the checkpoint of `step`; the arrays may be donated as soon as this returns.

    Raises:
      WorkdirError: Orbax declined, or a checkpoint of that step or a later one is already there.
    """
    # Orbax logs a warning where metrics is None; an empty dictionary ranks last, which is what is meant. An accuracy
    # that is not a number has no rank.
    ranked = {RANKED_BY: metrics[RANKED_BY]} if math.isfinite(metrics.get(RANKED_BY, math.nan)) else {}
    items = ocp.args.Composite(state=ocp.args.StandardSave(state), description=ocp.args.JsonSave(description))
    latest = self.latest_step()
    if (latest is not None and latest >= step) or not self._manager.save(step, args=items, metrics=ranked, force=True):
      raise WorkdirError(
        f"no checkpoint of step {step} was saved in {self._manager.directory}, whose latest is {latest}; "
        f"delete those that are not of this run, or use another workdir."
      )

  def restore(self, template: TrainState, step: int | None = None) -> TrainState | None:
    """The state of `step`, or of the latest checkpoint; None where there is none. `template` gives the shardings."""
    step = self.latest_step() if step is None else step
    if step is None:
      return None
    items = ocp.args.Composite(state=ocp.args.StandardRestore(template))
    return self._manager.restore(step, args=items)["state"]

  def description(self, step: int) -> dict[str, Any]:
    """What was saved with the state of `step`."""
    return self._manager.restore(step, args=ocp.args.Composite(description=ocp.args.JsonRestore()))["description"]

  def steps(self) -> list[int]:
    return sorted(self._manager.all_steps())

  def latest_step(self) -> int | None:
    return self._manager.latest_step()

  def wait(self) -> None:
    """Returns when everything that was saved is complete on the disk."""
    self._manager.wait_until_finished()

  def best(self) -> tuple[int, float] | None:
    """(step, validation accuracy) of the best checkpoint, of equals the latest; None if none was validated."""
    self.wait()
    metrics = {step: self._manager.metrics(step) or {} for step in self.steps()}
    validated = [(metrics[step][RANKED_BY], step) for step in metrics if RANKED_BY in metrics[step]]
    if not validated:
      return None
    accuracy, step = max(validated)
    return step, accuracy

  def __enter__(self) -> Self:
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
  ) -> None:
    self._manager.close()  # waits for what is being written
