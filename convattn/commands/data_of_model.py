"""The data that go with a model: those of its run, changed by options, or others that the options name."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from convattn.errors import UserError
from convattn.training.config import Data, Experiment
from convattn.training.settings import apply_overrides, describe_settings, settings, validate

if TYPE_CHECKING:
  from convattn.data import Dataset
  from convattn.inference import Classifier, Matched

Options = list[tuple[str, str]]


def split_data_settings(options: Options) -> tuple[Options, Options]:
  """(the other options, what those of --config.data.SETTING say), checked as far as they can be by themselves.

  Raises:
    UserError: an unknown setting, or a text of the wrong type.
  """
  overrides = [(name.removeprefix("config."), text) for name, text in options if name.startswith("config.data.")]
  apply_overrides(Experiment(), overrides)
  return [(name, text) for name, text in options if not name.startswith("config.data.")], overrides


def setting_names() -> list[str]:
  """What the options of the data are called, without dashes."""
  return [f"config.{name}" for name, _, _ in settings(Experiment()) if name.startswith("data.")]


def load_data(restored: Classifier, overrides: Sequence[tuple[str, str]]) -> tuple[Data, Dataset, Matched]:
  """(settings, data, how their classes were matched): the run's own with the overrides, in the classes of the model.

  Raises:
    UserError: none are known, they are not there, or not those that the run was trained on.
  """
  from convattn.training.classification import load_dataset

  data = data_of(restored, overrides)
  with _saying_whose(data, restored, overrides):
    dataset = load_dataset(Experiment(data=data), restored.preprocessing)
  return data, *_matched(restored, dataset, given=bool(overrides))


def data_settings() -> str:
  """What --help says about them."""
  lines = [line for line in describe_settings(Experiment()).splitlines() if line.startswith("  --config.data.")]
  # Without the defaults, which are not those of the run.
  return "\n".join(re.sub(r" = \S+", lambda default: " " * len(default[0]), line, count=1) for line in lines)


def data_of(restored: Classifier, overrides: Sequence[tuple[str, str]]) -> Data:
  """The run's own data settings with the overrides, with the model's image size and EXIF unless they give others."""
  names = [name for name, _ in overrides]
  if restored.experiment is None and "data.name" not in names:
    raise UserError(
      f"{restored.source} comes without data; name some, such as --config.data.name=folder --config.data.dir=DIR."
    )
  if restored.task_passed and "data.name" not in names:
    raise UserError(
      f"the task of {restored.source} was passed to training.run in Python, so its settings do not name its data; name "
      f"some with --config.data.name=..., or score its own in Python with training.restore({restored.source!r}) "
      f'(docs/data.md, "Arrays of your own").'
    )
  own = Data() if restored.experiment is None else restored.experiment.data
  experiment = apply_overrides(Experiment(data=own), overrides)
  height, width = restored.preprocessing.image_size
  if "data.exif" not in names:
    experiment = _with(experiment, exif=restored.preprocessing.exif)
  if "data.image_size" not in names:
    # A folder's pictures get a rectangle from the preprocessing; images in memory keep their size.
    size = height if height == width else 0
    experiment = _with(experiment, image_size=size)
  validate(experiment)
  return experiment.data


def _with(experiment: Experiment, **changes: Any) -> Experiment:
  return dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, **changes))


@contextlib.contextmanager
def _saying_whose(data: Data, restored: Classifier, overrides: Sequence[tuple[str, str]]) -> Iterator[None]:
  """Adds to an error of the data that their folder was named by the run, perhaps as seen from another one."""
  try:
    yield
  except (ValueError, OSError) as error:
    if not data.dir or "data.dir" in dict(overrides):
      raise
    raise UserError(
      f"{error} (data.dir is {data.dir!r} in the settings of {restored.source}; give another by --config.data.dir.)"
    ) from error


def _matched(restored: Classifier, dataset: Dataset, given: bool) -> tuple[Dataset, Matched]:
  """As `match_classes`; `given` says that the user named the data.

  Raises:
    UserError: as `match_classes`, or other names in what should be the run's own data.
  """
  from convattn.inference import match_classes

  found, matched = match_classes(restored, dataset)
  if matched.notes() and not given:
    raise UserError(
      f"the data that the settings of {restored.source} name are not those it was trained on "
      f"({matched.by_number or '; '.join(matched.notes())}); name yours with --config.data.name and .dir."
    )
  return found, matched
