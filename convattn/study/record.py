"""The files of a study beside its runs; plan.json says which study a folder is of."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from convattn.errors import UserError, one_line
from convattn.study.definition import Study
from convattn.training.settings import changing, with_values
from convattn.training.workdir import CONFIG, STUDY, changes, check_place, experiment_from_json, read_json, write_json

PLAN, RESULT, TABLE, FIGURE = "plan.json", STUDY, "study.md", "study.png"

_ANOTHER = "another --workdir"
_SHOWN = 3
"""So many differences are named."""


def describe(study: Study) -> dict[str, Any]:
  """All that decides what the runs of a study are and how they are scored, as JSON; titles and words do not."""
  return {
    "settings": {
      setting.name: {
        "experiment": dataclasses.asdict(with_values(study.base, setting.changes)),
        "starts_from": setting.starts_from,
        "baseline": study.baseline_of(setting),
        "tuned": study.is_tuned(setting),
      }
      for setting in study.settings
    },
    "seeds": list(study.seeds),
    "seeded": list(study.seeded),
    "tuning": None if study.tuning is None else dataclasses.asdict(study.tuning),
    "train_images": study.train_images,
  }


def check_folder(folder: Path, study: Study) -> None:
  """Refuses a folder of another study, or of a run; writes nothing.

  Settings and seeds may have been added since, the seeds behind those there were; and what changes freely in a run
  (`change` in training/config.py) may have changed.

  Raises:
    UserError: it is one, or no folder, or plan.json is damaged; one line.
  """
  check_place(folder)
  if (folder / CONFIG).exists():
    raise UserError(f"{folder} holds a run, not a study; give this study {_ANOTHER}.")
  advice = f"restore it, delete {folder}, or give {_ANOTHER}."
  stored = read_json(folder / PLAN, advice)
  if stored is None:
    return
  try:
    for setting in stored["settings"].values():  # settings that are new in this version have their defaults
      setting["experiment"] = dataclasses.asdict(experiment_from_json(setting["experiment"]))
    seeds = list(stored["seeds"])
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise UserError(f"{folder / PLAN} is damaged ({one_line(error)}); {advice}") from error
  now = describe(study)
  added = now["settings"].keys() - stored["settings"].keys()
  now["settings"] = {name: each for name, each in now["settings"].items() if name not in added}
  if now["seeds"][: len(seeds)] == seeds:
    now["seeds"] = seeds
  freely = {name for name, change in changing(study.base).items() if change == "freely"}
  differing = {
    name: pair
    for name, pair in changes(stored, now).items()
    if re.sub(r"^settings\.[^.]+\.experiment\.", "", name) not in freely
  }
  if differing:
    shown = [f"{name}: {there!r} there, {here!r} now" for name, (there, here) in list(differing.items())[:_SHOWN]]
    more = f"; and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    raise UserError(
      f"{folder} holds another study ({'; '.join(shown)}{more}). Give this one {_ANOTHER}, or delete {folder}."
    )


def write_plan(folder: Path, study: Study) -> None:
  """Records that `folder` is of this study."""
  write_json(folder / PLAN, describe(study))
