"""Runs that have been trained, side by side: what tells them apart, what they came to and how fast they were."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from convattn.errors import UserError
from convattn.training import workdir as files
from convattn.training.config import Experiment
from convattn.training.settings import changing, fields
from convattn.training.writer import read_metrics

SEED = "seed"
"""The setting that does not make a group."""

_TIME = ("seconds", "images_per_second", "tflop_per_second")
_HELD_OUT = ("validation", "validation_ema", "test", "test_ema")
_COUNT = "count"


@dataclasses.dataclass(frozen=True)
class TrainedRun:
  """What a run left: its settings, the lines of its metrics, and its result, which is None until it ends."""

  folder: Path
  recorded: files.Recorded
  lines: Sequence[Mapping[str, float | None]]
  result: Mapping[str, Any] | None

  @property
  def experiment(self) -> Experiment:
    return self.recorded.experiment

  def settings(self) -> dict[str, Any]:
    """{dotted name: value} of all that may change what comes out, but for the seed."""
    kinds = changing(self.experiment)
    values = {name: value for name, _, _, value in fields(self.experiment) if kinds[name] != "freely"}
    values.pop(SEED, None)
    return values | {f"after step {each['step']}": _changed(each["changed"]) for each in self.recorded.history}

  def identity(self) -> dict[str, Any]:
    """Descriptions of its model and data without the digest of its first batch, in which the seed has a part."""
    data = dict(self.recorded.identity.get("data") or {})
    digests = {split: digest for split, digest in (data.get("sha256") or {}).items() if split != "train"}
    return {**self.recorded.identity, "data": {**data, "sha256": digests}}

  def scores(self) -> dict[str, float]:
    """{SPLIT/METRIC: number} of what its last weights came to; {} until it ends."""
    if self.result is None:
      return {}
    last = [line for line in self.lines if line["step"] == self.result["step"]]
    found = {**(last[-1] if last else {}), **self.result}
    return {name: value for name, value in found.items() if _is_score(name) and value is not None}

  def speed(self) -> dict[str, float]:
    """{"seconds", "images_per_second", "tflop_per_second": number}, as far as they were measured."""
    work = [each for line in self.lines if (each := line.get("tflop_per_second")) is not None]
    found: dict[str, Any] = {"tflop_per_second": statistics.median(work)} if work else {}
    found |= {name: self.result.get(name) for name in _TIME[:2]} if self.result else {}
    return {name: found[name] for name in _TIME if found.get(name) is not None}


def _is_score(name: str) -> bool:
  split, _, metric = name.partition("/")
  return split in _HELD_OUT and bool(metric) and metric != _COUNT


def _changed(change: Mapping[str, Mapping[str, Any]]) -> str:
  return ", ".join(f"{name} from {each['from']} to {each['to']}" for name, each in change.items() if name != SEED)


@dataclasses.dataclass(frozen=True)
class Statistic:
  """The mean of some runs, their sample standard deviation (None of a single one), and how many they are."""

  mean: float
  deviation: float | None
  count: int


def statistic(values: Sequence[float]) -> Statistic:
  """The mean, and the deviation about it with n - 1."""
  return Statistic(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


@dataclasses.dataclass(frozen=True)
class Group:
  """Runs that differ in their seed only.

  Attributes:
    name: what tells the group apart from the others, on one line.
    settings: {dotted name: value} of that.
    runs: in the order in which they were given.
  """

  name: str
  settings: Mapping[str, Any]
  runs: tuple[TrainedRun, ...]

  @property
  def seeds(self) -> tuple[int, ...]:
    return tuple(run.experiment.seed for run in self.runs)

  def scores(self) -> dict[str, Statistic]:
    """{SPLIT/METRIC: statistic over the runs that have ended}."""
    return _statistics([run.scores() for run in self.runs])

  def speed(self) -> dict[str, Statistic]:
    """{"seconds", "images_per_second", "tflop_per_second": statistic}."""
    return _statistics([run.speed() for run in self.runs])


def _statistics(found: Sequence[Mapping[str, float]]) -> dict[str, Statistic]:
  names = dict.fromkeys(name for each in found for name in each)
  return {name: statistic([each[name] for each in found if name in each]) for name in names}


def read_run(folder: Path) -> TrainedRun:
  """The run in a workdir.

  Raises:
    UserError: there is none, what is there is a study, or a file of it is damaged.
  """
  recorded = files.read_config(folder)
  if recorded is None:
    is_study = (folder / files.STUDY).exists()
    advice = (
      f"it holds a study; its runs are the folders {folder}/runs/SETTING/seed_N" if is_study else "name a workdir"
    )
    raise UserError(f"{folder} holds no run ({files.CONFIG} is missing): {advice}.")
  return TrainedRun(folder, recorded, read_metrics(folder / files.METRICS), files.read_result(folder))


def compare(folders: Iterable[Path]) -> list[Group]:
  """The runs of some workdirs in groups, in the order in which they were given.

  Settings that do not change what comes out (where data lie, how often a run logs) tell no groups apart.

  Raises:
    UserError: as `read_run`; fewer than two workdirs, one that is given twice, or two runs of one seed in a group.
  """
  runs = [read_run(folder) for folder in folders]
  places = [run.folder.resolve() for run in runs]
  twice = [str(place) for place in places if places.count(place) > 1]
  if len(runs) < 2 or twice:
    told = f"{twice[0]} is given twice" if twice else f"got {len(runs)}"
    raise UserError(f"a comparison takes two or more workdirs, each once; {told}.")
  members: dict[str, list[TrainedRun]] = {}
  for run in runs:
    key = json.dumps([run.settings(), run.identity()], sort_keys=True, default=str)
    members.setdefault(key, []).append(run)
  groups = [_group(found, list(members.values())) for found in members.values()]
  for group in groups:
    seeds = list(group.seeds)
    same = [str(run.folder) for run in group.runs if seeds.count(run.experiment.seed) > 1]
    if same:
      raise UserError(f"{' and '.join(same)} are the same run, with one seed; leave out all but one.")
  return groups


def differing_settings(groups: Sequence[Group]) -> list[tuple[str, tuple[Any, ...]]]:
  """(dotted name, its value in each group) of the settings that are not the same in all."""
  everything = [group.runs[0].settings() for group in groups]
  names = dict.fromkeys(name for each in everything for name in each)
  rows = [(name, tuple(each.get(name) for each in everything)) for name in names]
  return [(name, values) for name, values in rows if any(value != values[0] for value in values)]


def _group(found: Sequence[TrainedRun], everything: Sequence[Sequence[TrainedRun]]) -> Group:
  plain = [Group("", {}, tuple(each)) for each in everything]
  place = everything.index(found)
  own = {name: values[place] for name, values in differing_settings(plain)}
  told = ", ".join(f"{_short(name)} {shown_value(value)}" for name, value in own.items())
  # Equal settings with another model or other data: they were passed in Python.
  other = str(found[0].folder) if len(everything) > 1 else found[0].experiment.model.name
  return Group(told or other, own, tuple(found))


def _short(name: str) -> str:
  section, _, last = name.rpartition(".")
  return section if last == "name" else last  # "model coatnet_0", not "name coatnet_0"


def shown_value(value: Any) -> str:
  """A setting's value on a page; one that is not set, or not there, as a dash."""
  return "–" if value is None or value == "" else f"{value:g}" if isinstance(value, float) else str(value)
