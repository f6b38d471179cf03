"""Where the lines of metrics.jsonl go besides: TensorBoard, where it is installed, and Weights & Biases."""

import importlib
import importlib.util
import math
import secrets
from pathlib import Path
from typing import Any, Protocol

from convattn.training.workdir import write_text

WANDB_ID = "wandb_id"
"""The file in a workdir that holds the name of its run at Weights & Biases."""

Line = dict[str, Any]


class Sink(Protocol):
  """Takes lines in order: {"step": int, name: number or None}."""

  def write(self, line: Line) -> None: ...

  def close(self) -> None: ...


class TensorBoard:
  """Events in `folder`, the only ones there: those of a run that was killed are written late, and some are lost."""

  def __init__(self, folder: Path):
    from tensorboardX import SummaryWriter  # optional

    for path in folder.glob("events.out.tfevents.*"):
      path.unlink()
    self._events = SummaryWriter(str(folder))

  def write(self, line: Line) -> None:
    for name, value in line.items():
      if name != "step":
        self._events.add_scalar(name, math.nan if value is None else value, line["step"])

  def close(self) -> None:
    self._events.close()


class WeightsAndBiases:
  """One run of `project`, the same one when the workdir's run is continued; it has the lines up to `step` already."""

  def __init__(self, project: str, folder: Path, step: int, settings: dict[str, Any]):
    wandb = importlib.import_module("wandb")
    path = folder / WANDB_ID
    if not path.exists():
      write_text(path, secrets.token_hex(4))
    self._run = wandb.init(
      project=project, id=path.read_text(), resume="allow", name=folder.name, dir=str(folder), config=settings
    )
    self._step = step

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
