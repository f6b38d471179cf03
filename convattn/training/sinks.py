"""Where the lines of metrics.jsonl go besides: TensorBoard, where it is installed, and Weights & Biases."""

import importlib
import importlib.util
import math
import secrets
import time
from pathlib import Path
from typing import Any, Protocol

from convattn.training.validation import SettingsError
from convattn.training.workdir import write_text

WANDB_ID = "wandb_id"
"""The file in a workdir that holds the name of its run at Weights & Biases."""

Line = dict[str, Any]


class Sink(Protocol):
  """Takes lines in order: {"step": int, name: number or None}."""

  def write(self, line: Line) -> None: ...

  def close(self) -> None: ...


class TensorBoard:
  """Events in `folder`, the only ones there: those of a run that was killed are written late, and some are lost.

  They are written at once and by the caller, who so learns of a full disk; tensorboardX's own writer does it in a
  thread, which dies of it and leaves the run waiting.
  """

  def __init__(self, folder: Path):
    from tensorboardX.event_file_writer import EventsWriter  # optional

    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("events.out.tfevents.*"):
      path.unlink()
    self._events = EventsWriter(str(folder / "events"))

  def write(self, line: Line) -> None:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.summary import scalar

    for name, value in line.items():
      if name != "step":
        summary = scalar(name, math.nan if value is None else value)
        self._events.write_event(Event(wall_time=time.time(), step=line["step"], summary=summary))
    self._events.flush()

  def close(self) -> None:
    self._events.close()


class WeightsAndBiases:
  """One run of `project`, the same one when the workdir's run is continued; it has the lines up to `step` then.

  Raises:
    SettingsError: it does not start, for lack of a key or of a network.
  """

  def __init__(self, project: str, folder: Path, step: int, settings: dict[str, Any]):
    wandb = importlib.import_module("wandb")
    path = folder / WANDB_ID
    self._step = step if path.exists() else -1
    if not path.exists():
      write_text(path, secrets.token_hex(4))
    try:
      self._run = wandb.init(
        project=project, id=path.read_text(), resume="allow", name=folder.name, dir=str(folder), config=settings
      )
    except Exception as error:  # of its own kinds
      reason = " ".join(str(error).split())
      raise SettingsError(
        f"wandb_project is {project!r}, but Weights & Biases does not start ({reason}); set WANDB_API_KEY, or "
        "WANDB_MODE=offline."
      ) from error

  def write(self, line: Line) -> None:
    if line["step"] > self._step:
      self._run.log({name: value for name, value in line.items() if name != "step"}, step=line["step"])

  def close(self) -> None:
    self._run.finish()


def open_sinks(folder: Path, step: int = 0, project: str = "", settings: dict[str, Any] | None = None) -> list[Sink]:
  """TensorBoard where tensorboardX is installed; Weights & Biases where a `project` is named.

  Raises:
    ModuleNotFoundError: a project without wandb.
  """
  sinks: list[Sink] = []
  if importlib.util.find_spec("tensorboardX"):
    sinks.append(TensorBoard(folder / "tensorboard"))
  if project:
    sinks.append(WeightsAndBiases(project, folder, step, settings or {}))
  return sinks
