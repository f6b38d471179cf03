"""metrics.jsonl, one JSON object a line, one line a step; and where its lines go besides: TensorBoard and W&B."""

import dataclasses
import importlib
import importlib.util
import json
import math
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from convattn.errors import UserError, one_line
from convattn.files import write_whole
from convattn.training.checkpoint_folder import keep_under_another_name, warn
from convattn.training.config import Experiment
from convattn.training.task import MEASURED, SKIPPED_PICTURES
from convattn.training.workdir import METRICS, finite

TIMES = (*MEASURED, SKIPPED_PICTURES)
"""The only keys of a line that differ between two runs of the same experiment on the same machine."""


def read_metrics(path: Path) -> list[dict[str, float]]:
  """The lines of a metrics.jsonl, without a last one that was cut off while it was written.

  Raises:
    UserError: another line is damaged; one line with its number.
  """
  if not path.exists():
    return []
  return [_parsed(path, number, line) for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1)]


def _parsed(path: Path, number: int, text: bytes) -> dict[str, float]:
  try:
    line = json.loads(text)
  except ValueError:
    line = None
  numbers = isinstance(line, dict) and all(isinstance(value, int | float | None) for value in line.values())
  if not (numbers and type(line.get("step")) is int):
    raise UserError(
      f"line {number} of {path} is damaged; delete that line, or the file: a run that goes on writes the rest anew."
    )
  return line


def column(folder: Path, name: str) -> dict[int, float]:
  """{step: number} of one name in the lines of a run; steps at which there is none, or null, are left out."""
  lines = read_metrics(folder / METRICS)
  return {int(line["step"]): line[name] for line in lines if line.get(name) is not None}


def keep_record(folder: Path) -> None:
  """Of a run that must start again, keeps what it measured: its lines would be written anew, one by one."""
  record = folder / METRICS
  if record.exists():
    warn(f"no checkpoint is left: the run starts again, and its lines are now in {keep_under_another_name(record)}.")


def last_times(path: Path, step: int) -> dict[str, float]:
  """The newest of each of `TIMES` among the lines up to `step`, for a run that continues after it."""
  times: dict[str, float] = {}
  for line in read_metrics(path):
    if line["step"] <= step:
      times |= {name: line[name] for name in TIMES if line.get(name) is not None}
  return times


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
    UserError: it does not start, for lack of a key or of a network.
  """

  def __init__(self, project: str, folder: Path, step: int, settings: dict[str, Any]):
    wandb = importlib.import_module("wandb")
    path = folder / WANDB_ID
    self._step = step if path.exists() else -1
    if not path.exists():
      write_whole({path: secrets.token_hex(4).encode()})
    try:
      self._run = wandb.init(
        project=project,
        id=path.read_text(),
        resume="allow",
        name=folder.name,
        dir=str(folder),
        config=settings,
        allow_val_change=True,
      )
    except Exception as error:  # of its own kinds
      raise UserError(
        f"wandb_project is {project!r}, but Weights & Biases does not start ({one_line(error)}); set WANDB_API_KEY, or "
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


class Writer:
  """Appends lines to metrics.jsonl in `folder`, which holds no step after `step` once this is created.

  A run that was killed may have written lines after its last checkpoint; the resumed one writes them anew. The `sinks`
  get all lines, the old ones first, and are closed with this.
  """

  def __init__(self, folder: Path, step: int, sinks: Sequence[Sink] = ()):
    path = folder / METRICS
    kept = [line for line in read_metrics(path) if line["step"] <= step]
    write_whole({path: "".join(json.dumps(line) + "\n" for line in kept).encode()})
    self._file = path.open("a")
    self._sinks = sinks
    for line in kept:
      self._pass_on(line)

  def write(self, step: int, numbers: dict[str, float]) -> None:
    """One line for `step`, handed to the operating system before this returns. Numbers that are not finite are null."""
    line = {"step": step, **finite(numbers)}
    self._file.write(json.dumps(line) + "\n")
    self._file.flush()
    self._pass_on(line)

  def _pass_on(self, line: dict[str, Any]) -> None:
    for sink in self._sinks:
      sink.write(line)

  def __enter__(self) -> Self:
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
  ) -> None:
    self._file.close()
    for sink in self._sinks:
      sink.close()


def open_writer(folder: Path, step: int, experiment: Experiment) -> Writer:
  """The writer of a run that goes on after `step`, with all the sinks that there are for it."""
  return Writer(folder, step, open_sinks(folder, step, experiment.wandb_project, dataclasses.asdict(experiment)))
