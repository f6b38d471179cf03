"""metrics.jsonl: one JSON object a line, one line a step."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from convattn.training.sinks import Sink
from convattn.training.workdir import METRICS, WorkdirError, finite, write_text

SKIPPED_PICTURES = "skipped_pictures"
"""Of this process and its workers, since they were started: different files that could not be read."""

TIMES = ("seconds", "images_per_second", "waiting_for_data", "device_gib", SKIPPED_PICTURES)
"""The only keys of a line that differ between two runs of the same experiment on the same machine."""


def read_metrics(path: Path) -> list[dict[str, float]]:
  """The lines of a metrics.jsonl, without a last one that was cut off while it was written.

  Raises:
    WorkdirError: another line is damaged; one line with its number.
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
    raise WorkdirError(
      f"line {number} of {path} is damaged; delete that line, or the file: a run that goes on writes the rest anew."
    )
  return line


def last_times(path: Path, step: int) -> dict[str, float]:
  """The newest of each of `TIMES` among the lines up to `step`, for a run that continues after it."""
  times: dict[str, float] = {}
  for line in read_metrics(path):
    if line["step"] <= step:
      times |= {name: line[name] for name in TIMES if line.get(name) is not None}
  return times


class Writer:
  """Appends lines to metrics.jsonl in `folder`, which holds no step after `step` once this is created.

  A run that was killed may have written lines after its last checkpoint; the resumed one writes them anew. The `sinks`
  get all lines, the old ones first, and are closed with this.
  """

  def __init__(self, folder: Path, step: int, sinks: Sequence[Sink] = ()):
    path = folder / METRICS
    kept = [line for line in read_metrics(path) if line["step"] <= step]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
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
