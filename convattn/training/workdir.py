"""The files of a run other than its checkpoints: config.json says what it is, result.json that it is finished."""

import contextlib
import dataclasses
import fcntl
import json
import math
import typing
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from convattn.data.loading import turns_pictures
from convattn.errors import UserError, one_line
from convattn.files import write_whole
from convattn.training.config import Data, Experiment, Model, model_section
from convattn.training.description import completed
from convattn.training.settings import changing

CONFIG, RESULT, CONFUSION, MISTAKES, METRICS, CHECKPOINTS, EARLIER, PROFILE, LOCK = (
  "config.json",
  "result.json",
  "confusion.json",
  "mistakes.json",
  "metrics.jsonl",
  "checkpoints",
  "earlier",
  "profile",
  ".lock",
)
STUDY = "study.json"
"""In the folder of a study, in which no run is to begin."""

IDENTITY, HISTORY = "identity", "history"
"""Keys of config.json beside the settings: the descriptions of model and data, and what changed after which step."""

_ANOTHER = "another --workdir (WORKDIR= with make)"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
  """Makes `folder` and keeps every other run out of it; the kernel ends this with the process, however that ends.

  Raises:
    UserError: another run is in it.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
    opened = (folder / LOCK).open("a")
  except OSError as error:
    raise UserError(f"cannot write in {folder} ({error.strerror}); make it writable, or give {_ANOTHER}.") from error
  with opened as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise UserError(f"another run is working in {folder}; let it end, or give this one {_ANOTHER}.") from None
    yield


def finite(value: Any) -> Any:
  """A number, or a dict or list of such, with None, which is null in JSON, for those that are not finite."""
  if isinstance(value, dict):
    return {name: finite(each) for name, each in value.items()}
  if isinstance(value, list):
    return [finite(each) for each in value]
  return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> None:
  """Whoever reads `path` sees all of the old value or all of the new."""
  write_whole({path: (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()})


def read_json(path: Path, advice: str = "") -> dict[str, Any] | None:
  """The object in `path`; None if there is no such file.

  Raises:
    UserError: it holds something else; the message ends with `advice`.
  """
  if not path.exists():
    return None
  try:
    value = json.loads(path.read_bytes())
  except ValueError as error:
    raise UserError(f"{path} is damaged ({error}); {advice or 'restore it.'}") from error
  if not isinstance(value, dict):
    raise UserError(f"{path} is damaged (it holds no JSON object); {advice or 'restore it.'}")
  return value


def read_result(folder: Path) -> dict[str, Any] | None:
  """The result of a finished run; None before.

  Raises:
    UserError: result.json is damaged.
  """
  path = folder / RESULT
  advice = "delete this file alone and start again: the last checkpoint is then scored anew."
  result = read_json(path, advice)
  if result is not None and not {"step", "seconds", "images_per_second", "state_sha256"} <= set(result):
    raise UserError(f"{path} is damaged (numbers are missing); {advice}")
  return result


def write_result(folder: Path, result: dict[str, Any], records: dict[str, Any]) -> None:
  """Each record as NAME.json, and then result.json, which says that all is there. What is not finite is null."""
  for name, record in records.items():
    write_json(folder / f"{name}.json", finite(record))
  write_json(folder / RESULT, finite(result))


def earlier(folder: Path, step: int) -> Path:
  """Where the result of a run that ended after `step`, and went on, is kept."""
  return folder / EARLIER / str(step)


def keep_result(folder: Path, step: int) -> None:
  """Moves the result of a run that ended after `step` and goes on to earlier/STEP/, with copies of its records."""
  kept = earlier(folder, step)
  kept.mkdir(parents=True, exist_ok=True)
  records = [path for path in folder.glob("*.json") if path.is_file() and path.name not in (CONFIG, RESULT)]
  write_whole({kept / path.name: path.read_bytes() for path in records})
  (folder / RESULT).replace(kept / RESULT)


def experiment_from_json(tree: dict[str, Any]) -> Experiment:
  """The inverse of dataclasses.asdict for an experiment that was stored as JSON, as in config.json.

  Settings that there are no longer are left out. One that there was not yet means what its version did: its default.
  """

  def rebuild(kind: Any, stored: dict[str, Any]) -> Any:
    kind = model_section(stored.get("name", Model.name)) if kind is Model else kind
    kinds = typing.get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(kind):
      if field.name in stored:
        value = stored[field.name]
        values[field.name] = rebuild(kinds[field.name], value) if dataclasses.is_dataclass(kinds[field.name]) else value
    return kind(**values)

  return rebuild(Experiment, tree)


@dataclasses.dataclass(frozen=True)
class Recorded:
  """What config.json says: the settings that count now, of which model and data, and how they came to change.

  `history`: {"step": after which, "changed": {name of a setting: {"from", "to"}}}, in the order of time.
  """

  experiment: Experiment
  identity: dict[str, Any]
  history: Sequence[dict[str, Any]] = ()


def write_config(folder: Path, recorded: Recorded) -> None:
  settings = dataclasses.asdict(recorded.experiment)
  write_json(folder / CONFIG, {**settings, IDENTITY: recorded.identity, HISTORY: list(recorded.history)})


def read_config(folder: Path) -> Recorded | None:
  """None where no run has begun.

  Raises:
    UserError: config.json is damaged.
  """
  advice = f"restore it, delete {folder}, or give {_ANOTHER}."
  stored = read_json(folder / CONFIG, advice)
  if stored is None:
    return None
  try:
    identity, history = stored.pop(IDENTITY, {}), stored.pop(HISTORY, [])
    if not all(type(each["step"]) is int for each in history):
      raise ValueError("its history has no steps")
    return Recorded(experiment_from_json(stored), dict(identity), history)
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise UserError(f"{folder / CONFIG} is damaged ({one_line(error)}); {advice}") from error


def turns_pictures_of(recorded: Recorded | None, data: Data) -> bool:
  """Whether a run turns its pictures as their EXIF orientation says: as `data.exif` has it, where it is set.

  Else a new one does what is usual for the data set, and one that was begun goes on as it was `recorded`: without,
  where that was before there was a choice.
  """
  if data.exif is not None:
    return data.exif
  if recorded is None:
    return turns_pictures(data.name)
  preprocessing = recorded.identity.get("data", {}).get("metadata", {}).get("preprocessing", {})
  return bool(preprocessing.get("exif", False))


def check_place(folder: Path) -> None:
  """Refuses a workdir that cannot be made.

  Raises:
    UserError: a file is where it or a folder above it should be.
  """
  nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
  if not nearest.is_dir():
    raise UserError(f"{nearest} is a file, but the workdir must be a folder; give {_ANOTHER}.")


def check_config(
  folder: Path, experiment: Experiment, identity: dict[str, Any] | None = None, *, continued: bool = False
) -> Recorded | None:
  """Refuses a workdir that belongs to another experiment or, with an `identity`, to another model or other data.

  Settings that change freely are passed over; so are those that may change where a run is `continued`.

  Returns:
    What is recorded there; None where no run has begun.

  Raises:
    UserError: as `check_place`; it is the folder of a study; or config.json there differs or is damaged; one line lists
      what differs, with its old and new value.
  """
  check_place(folder)
  recorded = read_config(folder)
  if recorded is None:
    if (folder / STUDY).exists():
      raise UserError(f"{folder} holds a study, whose runs are in folders of their own; give this run {_ANOTHER}.")
    return None
  settings = dataclasses.asdict(recorded.experiment), dataclasses.asdict(experiment)
  kinds = changing(experiment)
  refused = {name: kinds.get(name, "refused") for name in changes(*settings)}
  passed_over = {name for name, kind in refused.items() if kind == "freely" or (continued and kind == "continued")}
  others = {"settings": differences(*settings, but=passed_over)}
  if identity is not None:
    there, now = ({**each, "model": completed(each.get("model") or {})} for each in (recorded.identity, identity))
    its_settings = {name.replace("compute.", "model.") for name in passed_over}  # dtype and remat, that of both
    others["model or data"] = differences(there, now, but=its_settings)
  for what, differing in others.items():
    if differing:
      may = what == "settings" and not continued and "refused" not in refused.values()
      advice = "To go on with these add --continue (in Python changes='continue'); else give" if may else "Give"
      raise UserError(
        f"{folder} holds a run with other {what} ({differing}). {advice} this one {_ANOTHER}, or delete {folder}."
      )
  return recorded


_LONGEST = 100


def changes(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
  """{dotted name: (value there, value now)} of what differs between two JSON trees; "absent" where there is none."""
  # A tuple and the list that JSON makes of it are the same.
  there, now = _flat(json.loads(json.dumps(old))), _flat(json.loads(json.dumps(new)))
  return {
    name: (there.get(name, "absent"), now.get(name, "absent"))
    for name in dict.fromkeys([*there, *now])
    if name not in there or name not in now or there[name] != now[name]
  }


def differences(old: dict[str, Any], new: dict[str, Any], but: Collection[str] = ()) -> str:
  """`changes` on one line: "seed: 3 there, 5 now; loss.kind: ..."; empty if nothing differs.

  The names in `but` are passed over.
  """
  return "; ".join(
    f"{name}: {_short(there)} there, {_short(now)} now"
    for name, (there, now) in changes(old, new).items()
    if name not in but
  )


def shape_difference(given: Any, wanted: Any) -> str:
  """The first leaf whose shape differs: "head/bias is (3,), but must be (4,)", or absent; empty if none does."""
  ours, theirs = (
    {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}
    for leaves in map(jax.tree_util.tree_leaves_with_path, (wanted, given))
  )
  for path in [*ours, *theirs]:
    if ours.get(path) != theirs.get(path):
      return f"{path} is {theirs.get(path, 'absent')}, but must be {ours.get(path, 'absent')}"
  return ""


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
  flat: dict[str, Any] = {}
  for name, value in tree.items():
    flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
  return flat


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
