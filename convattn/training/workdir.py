"""The files of a run other than its checkpoints: config.json says what it is, result.json that it is finished."""

import dataclasses
import json
import os
import typing
from pathlib import Path
from typing import Any

from convattn.training.config import Experiment

CONFIG, RESULT, CONFUSION, METRICS, CHECKPOINTS = (
  "config.json",
  "result.json",
  "confusion.json",
  "metrics.jsonl",
  "checkpoints",
)


def write_json(path: Path, value: Any) -> None:
  """Writes beside `path`, then renames: whoever reads `path` sees all of it or nothing."""
  temporary = path.with_name(f".{path.name}.partial")
  with temporary.open("w") as file:
    file.write(json.dumps(value, indent=2, allow_nan=False) + "\n")
    file.flush()
    os.fsync(file.fileno())
  temporary.replace(path)


def read_json(path: Path) -> Any:
  """The content of `path`; None if there is no such file."""
  return json.loads(path.read_text()) if path.exists() else None


def experiment_from_json(tree: dict[str, Any]) -> Experiment:
  """The inverse of dataclasses.asdict for an experiment that was stored as JSON."""

  def rebuild(kind: Any, fields: dict[str, Any]) -> Any:
    kinds = typing.get_type_hints(kind)
    return kind(
      **{
        name: rebuild(kinds[name], value) if dataclasses.is_dataclass(kinds.get(name)) else value
        for name, value in fields.items()
      }
    )

  return rebuild(Experiment, tree)


def check_config(folder: Path, experiment: Experiment) -> None:
  """Refuses a workdir that belongs to another experiment.

  Raises:
    ValueError: config.json there differs; one line lists the differing settings, each with its old and new value.
  """
  stored = read_json(folder / CONFIG)
  if stored is None:
    return
  old, new = _flat(stored), _flat(dataclasses.asdict(experiment))
  differing = [
    f"{name}: {old.get(name, 'absent')!r} there, {new.get(name, 'absent')!r} now"
    for name in dict.fromkeys([*old, *new])
    if name not in old or name not in new or old[name] != new[name]
  ]
  if differing:
    raise ValueError(
      f"{folder} holds a run with other settings ({'; '.join(differing)}). "
      f"Give this one another --workdir (WORKDIR= with make), or delete {folder}."
    )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
  flat: dict[str, Any] = {}
  for name, value in tree.items():
    flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
  return flat
