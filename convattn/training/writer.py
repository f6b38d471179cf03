"""metrics.jsonl: one JSON object a line, one line a step; the same numbers as TensorBoard events where possible."""

import importlib.util
import json
import math
from pathlib import Path
from types import TracebackType
from typing import Self

from convattn.training.workdir import METRICS

TIMES = ("seconds", "images_per_second")
"""The only keys of a line that differ between two runs of the same experiment on the same machine."""


def read_metrics(path: Path) -> list[dict[str, float]]:
  """The lines of a metrics.jsonl, without a last one that was cut off while it was written."""
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


class Writer:
  """Appends lines to metrics.jsonl in `folder`, which holds no step after `step` once this is created.

  A run that was killed may have written lines after its last checkpoint; the resumed one writes them anew.
  """

  def __init__(self, folder: Path, step: int):
    path = folder / METRICS
    kept = [line for line in read_metrics(path) if line["step"] <= step]
    temporary = path.with_name(f".{METRICS}")
    temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
    temporary.replace(path)
    self._file = path.open("a")
    self._events = None
    if importlib.util.find_spec("tensorboardX"):
      from tensorboardX import SummaryWriter  # optional

      self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

  def write(self, step: int, numbers: dict[str, float]) -> None:
    """One line for `step`, handed to the operating system before this returns. Numbers that are not finite are null."""
    line = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    self._file.write(json.dumps({"step": step, **line}) + "\n")
    self._file.flush()
    if self._events is not None:
      for name, value in numbers.items():
        self._events.add_scalar(name, value, step)

  def __enter__(self) -> Self:
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
  ) -> None:
    self._file.close()
    if self._events is not None:
      self._events.close()
