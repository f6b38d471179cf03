"""metrics.jsonl: one JSON object a line, one line a step; the same numbers as TensorBoard events where possible."""

import importlib.util
import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from convattn.training.workdir import METRICS, finite

TIMES = ("seconds", "images_per_second")
"""The only keys of a line that differ between two runs of the same experiment on the same machine."""


def read_metrics(path: Path) -> list[dict[str, float]]:
  """The lines of a metrics.jsonl, without a last one that was cut off while it was written."""
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def last_times(path: Path, step: int) -> dict[str, float]:
  """The newest of each of `TIMES` among the lines up to `step`, for a run that continues after it."""
  times: dict[str, float] = {}
  for line in read_metrics(path):
    if line["step"] <= step:
      times |= {name: line[name] for name in TIMES if line.get(name) is not None}
  return times


class Writer:
  """Appends lines to metrics.jsonl in `folder`, which holds no step after `step` once this is created.

  A run that was killed may have written lines after its last checkpoint; the resumed one writes them anew. It may also
  have lost TensorBoard events, which are written late: they are all written again, into a new file.
  """

  def __init__(self, folder: Path, step: int):
    path = folder / METRICS
    kept = [line for line in read_metrics(path) if line["step"] <= step]
    temporary = path.with_name(f".{METRICS}")
    temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
    temporary.replace(path)
    self._file = path.open("a")
    self._events = _fresh_events(folder / "tensorboard")
    for line in kept:
      self._write_events(line)

  def write(self, step: int, numbers: dict[str, float]) -> None:
    """One line for `step`, handed to the operating system before this returns. Numbers that are not finite are null."""
    line = {"step": step, **finite(numbers)}
    self._file.write(json.dumps(line) + "\n")
    self._file.flush()
    self._write_events(line)

  def _write_events(self, line: dict[str, Any]) -> None:
    for name, value in line.items():
      if self._events is not None and name != "step":
        self._events.add_scalar(name, float("nan") if value is None else value, line["step"])

  def __enter__(self) -> Self:
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
  ) -> None:
    self._file.close()
    if self._events is not None:
      self._events.close()


def _fresh_events(folder: Path) -> Any:
  """A TensorBoard writer whose events are the only ones in `folder`; None without tensorboardX."""
  if not importlib.util.find_spec("tensorboardX"):
    return None
  from tensorboardX import SummaryWriter  # optional

  for path in folder.glob("events.out.tfevents.*"):
    path.unlink()
  return SummaryWriter(str(folder))
