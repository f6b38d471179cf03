"""What a study says of itself must make sense: names, groups, starts, seeds and tuning. Reads and writes nothing."""

import re
from collections import Counter
from collections.abc import Iterable

from convattn.errors import UserError, nearest
from convattn.study.definition import Study
from convattn.training.settings import settings

_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{,31}"
_CANDIDATE = r"[A-Za-z0-9_.+-]{1,32}"
_LONGEST_CELL = 40


def check_definition(study: Study) -> None:
  """Checks all that can be told from the study alone.

  Raises:
    UserError: names that no folder can have or that collide, a group without a baseline or with two, a start or a
      baseline that is no setting, starts in a circle, or seeds and candidates that are none; one line.
  """
  _check_names(study)
  _check_groups(study)
  _check_starts(study)
  _check_seeds(study)
  _check_tuning(study)


def check_reached(study: Study, names: Iterable[str]) -> None:
  """Whether another value in the base, of the experiment's settings `names`, would change any run.

  Raises:
    UserError: none of them, since all settings of the study, or its seeds, have the last word; one line.
  """
  for name in names:
    own = {setting.name for setting in study.settings if name in setting.changes}
    if study.tuning is not None and study.tuning.setting == name:
      own |= {setting.name for setting in study.settings if setting.tuned}
    whose = "its seeds decide" if name in study.seeded else "each of its settings has its own"
    if name in study.seeded or len(own) == len(study.settings):
      raise UserError(f"--config.{name} would change nothing in this study: {whose}; change the study's file.")


def _check_names(study: Study) -> None:
  if not study.settings:
    raise UserError("a study must have at least one setting, got none; add a Setting(name).")
  for setting in study.settings:
    if not re.fullmatch(_NAME, setting.name):
      wanted = "up to 32 letters, digits, '_' and '-', the first no sign"
      raise UserError(f"a setting's name is a folder's, {wanted}; got {setting.name!r}.")
    for field, cell in (("paper", setting.paper), ("group", setting.group)):
      if len(cell) > _LONGEST_CELL or not cell.isprintable():
        wanted = f"a line of up to {_LONGEST_CELL} letters"
        raise UserError(f"setting {setting.name}: {field} must be {wanted}, got {cell!r}.")
  # Some disks take small and capital letters for the same.
  repeated = [name for name, count in Counter(each.name.lower() for each in study.settings).items() if count > 1]
  if repeated:
    raise UserError(f"each setting needs a name of its own, but {repeated[0]!r} is there more than once; rename one.")


def _known(study: Study, name: str, what: str) -> None:
  names = [setting.name for setting in study.settings]
  if name not in names:
    meant = " or ".join(nearest(name, names))
    raise UserError(f"{what} must be a setting of the study, got {name!r}; did you mean {meant}?")


def _check_groups(study: Study) -> None:
  for name in study.baselines:
    _known(study, name, "a baseline")
  groups: dict[str, list[str]] = {setting.group: [] for setting in study.settings}
  for name in dict.fromkeys(study.baselines):
    groups[study.named(name).group].append(name)
  for group, names in groups.items():
    if len(names) != 1:
      found = " and ".join(names) or "none"
      raise UserError(f"group {group!r} must have one baseline, from which the others are told apart, got {found}.")


def _check_starts(study: Study) -> None:
  for setting in study.settings:
    seen = [setting.name]
    while study.named(seen[-1]).starts_from:
      source = study.named(seen[-1]).starts_from
      _known(study, source, f"setting {seen[-1]}: starts_from")
      if source in seen:
        raise UserError(f"settings must not start from each other in a circle, got {' from '.join([*seen, source])}.")
      seen.append(source)


def _check_seeds(study: Study) -> None:
  if not study.seeds or len(set(study.seeds)) < len(study.seeds):
    raise UserError(f"seeds must be one or more numbers, each once, got {list(study.seeds)}.")
  if study.train_images < 1:
    raise UserError(f"train_images must be at least 1, got {study.train_images}.")
  names = [name for name, _, _ in settings(study.base)]
  for name in study.seeded:
    if name not in names:
      raise UserError(f"seeded must name settings, got {name!r}; did you mean {' or '.join(nearest(name, names))}?")
  if "seed" not in study.seeded:
    raise UserError(f"seeded must hold 'seed', got {list(study.seeded)}; without it a setting's runs are all the same.")
  for setting in study.settings:
    decided = dict.fromkeys(study.seeded, "the study's seeds decide")
    decided |= {"init_from": "starts_from decides"} if setting.starts_from else {}
    for name in decided.keys() & setting.changes.keys():
      raise UserError(f"setting {setting.name} changes {name}, which {decided[name]}; leave it out.")


def _check_tuning(study: Study) -> None:
  tuning = study.tuning
  if tuning is None:
    return
  if tuning.seed in study.seeds:
    raise UserError(f"the seed of tuning must be none of the study's seeds {list(study.seeds)}, got {tuning.seed}.")
  for candidate in tuning.candidates:
    if candidate is None or not re.fullmatch(_CANDIDATE, str(candidate)):
      raise UserError(f"a candidate of tuning names a folder: a number or a word, got {candidate!r}.")
  if not tuning.candidates or len(set(tuning.candidates)) < len(tuning.candidates):
    raise UserError(f"the candidates of tuning must be one or more values, each once, got {list(tuning.candidates)}.")
  if tuning.setting in study.seeded:
    raise UserError(f"tuning cannot choose {tuning.setting}, which the seeds decide; choose another setting.")
  for setting in study.settings:
    if setting.tuned and tuning.setting in setting.changes:
      raise UserError(
        f"setting {setting.name} changes {tuning.setting}, which tuning chooses; leave one out, or set tuned=False."
      )
