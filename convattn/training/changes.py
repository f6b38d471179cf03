"""A run that goes on with other settings than it had: whether it can, what is told of it, and its history."""

import dataclasses
from pathlib import Path
from typing import Any

from convattn.errors import UserError
from convattn.training import workdir as files
from convattn.training.checkpoint_folder import newest_verified
from convattn.training.config import Experiment
from convattn.training.description import describe_data
from convattn.training.distributed import is_main
from convattn.training.optimizer import learning_rate_schedule
from convattn.training.readme import keep_readme
from convattn.training.settings import changing
from convattn.training.task_checks import first_batches


def is_finished(recorded: files.Recorded | None, now: Experiment, result: dict[str, Any] | None) -> bool:
  """Whether the workdir holds the result of a run with the settings `now`, but for those that change freely.

  A result of fewer steps is left of a run that was killed just as it began to go on for more.
  """
  return result is not None and result["step"] >= now.num_steps and not _is_continued(recorded, now)


def check_steps(folder: Path, recorded: files.Recorded | None, now: Experiment, result: dict[str, Any] | None) -> None:
  """Whether what lies in `folder` can go on for as many steps as `now` says; nothing is asked where nothing changes.

  Raises:
    UserError: more updates have been applied than are wanted, or as many and the run has ended; or a finished run whose
      last checkpoint is gone. One line.
  """
  if recorded is None or not _is_continued(recorded, now):
    return
  newest = newest_verified(folder / files.CHECKPOINTS)
  step = 0 if newest is None else int(newest.name)
  if result is not None and step < result["step"]:
    raise UserError(
      f"{folder} has a result.json but no whole checkpoint of step {result['step']} to go on from; delete "
      f"{folder / files.RESULT} to go on from step {step}, or give another --workdir (WORKDIR= with make)."
    )
  has_ended = result is not None and result["step"] >= recorded.experiment.num_steps
  if now.num_steps < step + has_ended:
    raise UserError(
      f"num_steps must be {'above' if has_ended else 'at least'} {step}, the updates that the run in {folder} has "
      f"applied already, for it to go on, got {now.num_steps}."
    )


def data_before(task: Any, recorded: files.Recorded | None, now: Experiment) -> dict[str, Any] | None:
  """What the workdir knows the data by, were its settings still those that it records: sizes of batches, augmentation.

  None where nothing changed, or the task has no field `experiment` that could be put back.
  """
  if recorded is None or recorded.experiment == now or "experiment" not in getattr(task, "__dataclass_fields__", {}):
    return None
  data = dataclasses.replace(now.data, workers=0)  # where they lie now; processes would start with the first batch
  then: Any = dataclasses.replace(task, experiment=dataclasses.replace(recorded.experiment, data=data))
  return describe_data(then.metadata, first_batches(then))


@dataclasses.dataclass(frozen=True)
class Change:
  """A run that begins or goes on in `folder` with the settings `now` and the descriptions `identity`.

  `recorded` and `result` are what lies there: its settings, and the result of an earlier end.
  """

  folder: Path
  recorded: files.Recorded | None
  now: Experiment
  identity: dict[str, Any]
  result: dict[str, Any] | None

  def record(self, step: int) -> None:
    """Writes config.json with its history, then moves the earlier result; done again after a kill, it ends alike."""
    if not is_main():
      return
    files.write_config(self.folder, files.Recorded(self.now, self.identity, self.history(step)))
    if self.result is not None and self.result["step"] < self.now.num_steps:
      keep_readme(self.folder, files.earlier(self.folder, self.result["step"]))
      files.keep_result(self.folder, self.result["step"])

  def history(self, step: int) -> list[dict[str, Any]]:
    """That of a run that goes on from `step`; the same again where nothing changed.

    Where checkpoints were lost, an earlier change counts from the step that the run goes on from.
    """
    if self.recorded is None:
      return []
    earlier = [{**each, "step": min(each["step"], step)} for each in self.recorded.history]
    changed = {name: {"from": old, "to": new} for name, (old, new) in _changes(self.recorded, self.now).items()}
    return [*earlier, {"step": step, "changed": changed}] if changed else earlier

  def line(self, step: int, applied: int) -> str | None:
    """What changes after `step`, up to which `applied` updates were not left out, and which schedule follows."""
    if self.recorded is None:
      return None
    before, now = self.recorded.experiment, self.now
    differing = files.differences(dataclasses.asdict(before), dataclasses.asdict(now))
    if not _is_continued(self.recorded, now):
      return f"changed after step {step}: {differing}" if differing else None
    was, rate = (float(learning_rate_schedule(each.optimizer, each.num_steps)(applied)) for each in (before, now))
    return (
      f"changed after step {step}: {differing}; the learning rate goes on at {rate:.3g} instead of {was:.3g}, "
      f"{now.optimizer.schedule} up to step {now.num_steps}"
    )


def _changes(recorded: files.Recorded | None, now: Experiment) -> dict[str, tuple[Any, Any]]:
  before = now if recorded is None else recorded.experiment
  return files.changes(dataclasses.asdict(before), dataclasses.asdict(now))


def _is_continued(recorded: files.Recorded | None, now: Experiment) -> bool:
  """Whether a setting changed that does not change freely."""
  kinds = changing(now)
  return any(kinds.get(name) != "freely" for name in _changes(recorded, now))
