"""The files of a run other than its checkpoints: config.json says what it is, result.json that it is finished."""

import contextlib
import dataclasses
import fcntl
import json
import math
import os
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convattn.training.config import Experiment, Model, model_section
from convattn.training.description import completed
from convattn.training.differences import differences

CONFIG, RESULT, CONFUSION, METRICS, CHECKPOINTS, PROFILE, LOCK = (
  "config.json",
  "result.json",
  "confusion.json",
  "metrics.jsonl",
  "checkpoints",
  "profile",
  ".lock",
)
IDENTITY = "identity"
"""Key of config.json beside the settings: the descriptions of model and data."""

_ANOTHER = "another --workdir (WORKDIR= with make)"


class WorkdirError(ValueError):
  """A workdir that a run cannot use as it is; the message is one line and says what to do."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
  """Makes `folder` and keeps every other run out of it; the kernel ends this with the process, however that ends.

  Raises:
    WorkdirError: another run is in it.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
    opened = (folder / LOCK).open("a")
  except OSError as error:
    raise WorkdirError(f"cannot write in {folder} ({error.strerror}); make it writable, or give {_ANOTHER}.") from error
  with opened as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise WorkdirError(f"another run is working in {folder}; let it end, or give this one {_ANOTHER}.") from None
    yield


def finite(numbers: dict[str, Any]) -> dict[str, Any]:
  """`numbers` with None, which is null in JSON, for those that are not finite."""
  return {
    name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in numbers.items()
  }


def write_text(path: Path, text: str) -> None:
  """Writes beside `path`, then renames: whoever reads `path` sees all of it or nothing."""
  temporary = path.with_name(f".{path.name}.partial")
  with temporary.open("w") as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
  """As `write_text`."""
  write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, advice: str = "") -> dict[str, Any] | None:
  """The object in `path`; None if there is no such file.

  Raises:
    WorkdirError: it holds something else; the message ends with `advice`.
  """
  if not path.exists():
    return None
  try:
    value = json.loads(path.read_bytes())
  except ValueError as error:
    raise WorkdirError(f"{path} is damaged ({error}); {advice or 'restore it.'}") from error
  if not isinstance(value, dict):
    raise WorkdirError(f"{path} is damaged (it holds no JSON object); {advice or 'restore it.'}")
  return value


def is_finished(folder: Path) -> bool:
  return (folder / RESULT).exists()


def read_result(folder: Path) -> dict[str, Any] | None:
  """The result of a finished run; None before.

  Raises:
    WorkdirError: result.json is damaged.
  """
  path = folder / RESULT
  advice = "delete this file alone and start again: the last checkpoint is then scored anew."
  result = read_json(path, advice)
  if result is not None and not {"step", "seconds", "images_per_second", "state_sha256"} <= set(result):
    raise WorkdirError(f"{path} is damaged (numbers are missing); {advice}")
  return result


def experiment_from_json(tree: dict[str, Any]) -> Experiment:
  """The inverse of dataclasses.asdict for an experiment that was stored as JSON, as in config.json.

  Settings that there are no longer are left out; those that are new have their defaults.
  """

  def rebuild(kind: Any, fields: dict[str, Any]) -> Any:
    kind = model_section(fields.get("name", Model.name)) if kind is Model else kind
    kinds = typing.get_type_hints(kind)
    return kind(
      **{
        name: rebuild(kinds[name], value) if dataclasses.is_dataclass(kinds[name]) else value
        for name, value in fields.items()
        if name in kinds
      }
    )

  return rebuild(Experiment, tree)


def write_config(folder: Path, experiment: Experiment, identity: dict[str, Any]) -> None:
  write_json(folder / CONFIG, {**dataclasses.asdict(experiment), IDENTITY: identity})


MAY_CHANGE = {
  "wandb_project",
  "max_skipped_steps",
  "data.workers",
  "data.broken",
  "compute.fsdp",
  "compute.debug_nans",
}
"""Settings that a run may be continued with other values of: they change how its updates are computed, or which are
left out, but not what they are (up to rounding, with `compute.fsdp`)."""


def check_config(folder: Path, experiment: Experiment, identity: dict[str, Any] | None = None) -> None:
  """Refuses a workdir that belongs to another experiment or, with an `identity`, to another model or other data.

  Settings of `MAY_CHANGE` are passed over.

  Raises:
    WorkdirError: config.json there differs or is damaged; one line lists what differs, with its old and new value. Or
      a file is where the workdir or a folder above it should be.
  """
  nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
  if not nearest.is_dir():
    raise WorkdirError(f"{nearest} is a file, but the workdir must be a folder; give {_ANOTHER}.")
  stored = read_json(folder / CONFIG, f"restore it, delete {folder}, or give {_ANOTHER}.")
  if stored is None:
    return
  its_own = stored.pop(IDENTITY, {})
  now = dataclasses.asdict(experiment)
  # A setting that its model did not have yet is the variant's own, and so is None.
  stored["model"] = {**dict.fromkeys(now["model"]), **stored.get("model", {})}
  if isinstance(its_own.get("model"), dict):
    its_own["model"] = completed(its_own["model"])
  others = {"settings": differences(stored, now, but=MAY_CHANGE)}
  if identity is not None:
    others["model or data"] = differences(its_own, identity)
  for what, differing in others.items():
    if differing:
      raise WorkdirError(
        f"{folder} holds a run with other {what} ({differing}). Give this one {_ANOTHER}, or delete {folder}."
      )
