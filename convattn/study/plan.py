"""Which runs a study consists of, in which order, and the experiment of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from convattn.study.definition import Setting, Study
from convattn.training.config import Experiment
from convattn.training.settings import with_values

RUNS = "runs"
"""The folder of a study's runs; each is the workdir RUNS/SETTING/seed_N."""


@dataclasses.dataclass(frozen=True)
class Run:
  """One run: of a setting with a seed; with a `candidate` one that tunes the setting."""

  setting: str
  seed: int
  candidate: Any = None

  @property
  def name(self) -> str:
    """Its folder under RUNS."""
    return f"{self.setting}/seed_{self.seed}" if self.candidate is None else f"{self.setting}/tuning_{self.candidate}"

  @property
  def title(self) -> str:
    """Its name to people."""
    return f"{self.setting} seed {self.seed}" if self.candidate is None else f"{self.setting} tuning, {self.candidate}"


def tuning_runs(study: Study, setting: Setting) -> tuple[Run, ...]:
  """Those that choose the tuned value of a setting; none where it is not tuned."""
  if study.tuning is None or not setting.tuned:
    return ()
  return tuple(Run(setting.name, study.tuning.seed, candidate) for candidate in study.tuning.candidates)


def start_of(study: Study, run: Run) -> Run | None:
  """The run whose final weights this one starts from."""
  source = study.named(run.setting).starts_from
  return Run(source, run.seed if run.candidate is None else study.seeds[0]) if source else None


def runs_of(study: Study) -> tuple[Run, ...]:
  """All runs, each behind those that it needs: all settings with the first seed, then all with the next."""
  planned: dict[Run, None] = {}

  def add(run: Run) -> None:
    for needed in needs(study, run):
      add(needed)
    planned.setdefault(run)

  for seed in study.seeds:
    for setting in study.settings:
      add(Run(setting.name, seed))
  return tuple(planned)


def needs(study: Study, run: Run) -> Iterator[Run]:
  """The runs that must have ended before this one begins."""
  start = start_of(study, run)
  if start is not None:
    yield start
  if run.candidate is None:
    yield from tuning_runs(study, study.named(run.setting))


def experiment_of(study: Study, run: Run, folder: Path, chosen: Mapping[str, Any]) -> Experiment:
  """The experiment of a run.

  Args:
    study: of which it is a run.
    run: one of `runs_of`.
    folder: of the study, where the weights lie that it may start from.
    chosen: setting -> the value that its tuning has chosen, where it was tuned.

  Raises:
    UserError: a setting that an experiment does not have.
  """
  setting = study.named(run.setting)
  values: dict[str, Any] = {**setting.changes, **dict.fromkeys(study.seeded, run.seed)}
  if study.tuning is not None and setting.tuned:
    values[study.tuning.setting] = chosen[setting.name] if run.candidate is None else run.candidate
    if run.candidate is not None and study.tuning.num_steps:
      values["num_steps"] = study.tuning.num_steps
  start = start_of(study, run)
  if start is not None:
    values["init_from"] = str(folder / RUNS / start.name)
  return with_values(study.base, values)
