"""study.json: all numbers of a study, from the scores of the runs that have ended."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np

from convattn.analysis.intervals import DRAWS, SEED, SHARE
from convattn.errors import UserError
from convattn.study.bootstrap import paired_interval
from convattn.study.definition import Setting, Study
from convattn.study.plan import Run, runs_of, tuning_runs
from convattn.study.rehearsal import Size
from convattn.study.scores import Score

Scores = Mapping[Run, Score]


def choose(study: Study, setting: Setting, scores: Scores) -> Any:
  """The candidate whose run was right most often on the validation part, of equals the first.

  None where the setting is not tuned, where one of its tuning runs has not ended, or where all of them diverged.
  """
  runs = tuning_runs(study, setting)
  if any(run not in scores for run in runs):
    return None
  found = {run.candidate: scores[run].accuracy["validation"] for run in runs if scores[run].accuracy}
  return max(found, key=lambda candidate: found[candidate]) if found else None


def results(study: Study, sizes: Mapping[str, Size], scores: Scores, command: str | None = None) -> dict[str, Any]:
  """All numbers, as JSON. Accuracies and their differences are shares, times are seconds.

  The standard deviation over the seeds is the sample's; None of a single one. A difference is taken over the seeds
  that both settings have been run with.

  Args:
    study: what was asked.
    sizes: of each setting's model.
    scores: of the runs that have ended.
    command: that gave them, if one did.

  Raises:
    UserError: scores that are compared are of other numbers of images.
  """
  runs = runs_of(study)
  return {
    "title": study.title,
    "question": study.question,
    "paper": study.paper,
    "command": command,
    "finished": all(run in scores for run in runs),
    "runs": {"all": len(runs), "ended": sum(run in scores for run in runs)},
    "seeds": list(study.seeds),
    "seeded": list(study.seeded),
    "train_images": study.train_images,
    "bootstrap": {"draws": DRAWS, "seed": SEED, "share": SHARE},
    "tuning": _tuning(study, scores),
    "settings": [_row(study, setting, sizes[setting.name], scores) for setting in study.settings],
    "seconds": sum(score.seconds for score in scores.values()),
  }


def _tuning(study: Study, scores: Scores) -> dict[str, Any] | None:
  if study.tuning is None:
    return None
  tried = {}
  for setting in study.settings:
    runs = [run for run in tuning_runs(study, setting) if run in scores]
    if study.is_tuned(setting):
      tried[setting.name] = {
        "chosen": choose(study, setting, scores),
        "validation": {str(run.candidate): scores[run].accuracy.get("validation") for run in runs},
      }
  return {**dataclasses.asdict(study.tuning), "candidates": list(study.tuning.candidates), "settings": tried}


def _row(study: Study, setting: Setting, size: Size, scores: Scores) -> dict[str, Any]:
  runs = {seed: Run(setting.name, seed) for seed in study.seeds}
  ended = {seed: scores[run] for seed, run in runs.items() if run in scores}
  scored = {seed: score for seed, score in ended.items() if score.accuracy}
  parts = {split: {str(seed): score.accuracy[split] for seed, score in scored.items()} for split in ("test", "train")}
  means = {split: statistics.fmean(found.values()) if found else None for split, found in parts.items()}
  test, train = means["test"], means["train"]
  first = next(iter(scored.values()), None)
  return {
    "name": setting.name,
    "group": setting.group,
    "baseline": study.baseline_of(setting),
    "changes": dict(setting.changes),
    "starts_from": setting.starts_from,
    "paper": setting.paper,
    "parameters": size.parameters,
    "multiply_adds": size.multiply_adds,
    "test_is_validation": size.test_is_validation,
    "images": first.images if first else None,
    **{split: {"seeds": found, "mean": means[split], "deviation": _deviation(found)} for split, found in parts.items()},
    "gap": None if test is None or train is None else train - test,
    "difference": _difference(study, setting, scores),
    "diverged": {str(seed): score.diverged for seed, score in ended.items() if not score.accuracy},
    "not_run": [seed for seed in study.seeds if seed not in ended],
    "seconds": sum(score.seconds for score in ended.values()),
  }


def _deviation(found: Mapping[str, float]) -> float | None:
  return statistics.stdev(found.values()) if len(found) > 1 else None


def _difference(study: Study, setting: Setting, scores: Scores) -> dict[str, Any] | None:
  baseline = study.baseline_of(setting)
  if setting.name == baseline:
    return None
  pairs = {}
  for seed in study.seeds:
    ours, theirs = (scores.get(Run(name, seed)) for name in (setting.name, baseline))
    if ours is not None and theirs is not None and ours.correct is not None and theirs.correct is not None:
      pairs[seed] = ours.correct, theirs.correct
  if not pairs:
    return None
  numbers = {len(side) for pair in pairs.values() for side in pair}
  if len(numbers) > 1:
    found = " and ".join(map(str, sorted(numbers)))
    raise UserError(
      f"runs of {setting.name} and {baseline} were tested on {found} images: the data have changed since it began. "
      "Give another --workdir, or delete the folder scores in this one: all runs are then scored on what is there now."
    )
  ours_of_all, theirs_of_all = (np.stack(side) for side in zip(*pairs.values(), strict=True))
  return {**dataclasses.asdict(paired_interval(ours_of_all, theirs_of_all)), "seeds": list(pairs)}
