"""The experiments of a study, taken as far as a run gets before its first update; nothing is trained or written."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from convattn.analysis import costs
from convattn.data import Dataset
from convattn.errors import UserError
from convattn.models import spec_for
from convattn.study.checks import check_definition
from convattn.study.definition import Setting, Study
from convattn.study.plan import RUNS, Run, experiment_of, tuning_runs
from convattn.training.classification import ImageClassification, load_dataset
from convattn.training.config import Data, Experiment
from convattn.training.init_from import architecture_difference, find_initial, initial_variables
from convattn.training.program import build, make_model, run_keys
from convattn.training.settings import validate, validate_batch_sizes
from convattn.training.sharding import make_mesh
from convattn.training.task_checks import check_task, first_batches


@dataclasses.dataclass(frozen=True)
class Size:
  """Of a setting's model, on one image of its data: learnable numbers, and multiply-adds of a forward pass.

  `test_is_validation`: the data have no test part of their own, and the validation part stands in.
  """

  parameters: int
  multiply_adds: int
  test_is_validation: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class _Ready:
  """A setting that could run: its last experiment, its data, its model and that one's size."""

  experiment: Experiment
  dataset: Dataset
  model: Any
  size: Size


def check(study: Study, folder: Path) -> dict[str, Size]:
  """Checks that every run of a study could be run, with its files in `folder`; nothing is written there.

  Returns:
    setting -> the size of its model.

  Raises:
    UserError: as `check_definition`; or an experiment that could not run, data that are not there, a model that does
      not take their images, weights that do not fit, or a group of settings with other test images. One line.
  """
  check_definition(study)
  for setting in study.settings:
    with _naming(setting):
      for experiment in _experiments(study, setting, folder):
        validate(experiment)
        spec_for(experiment.model.name, **experiment.model.overrides)
        validate_batch_sizes(experiment, make_mesh(fsdp=experiment.compute.fsdp).size)
  ready: dict[str, _Ready] = {}
  built: dict[Any, tuple[Any, Size]] = {}
  for setting in study.settings:
    _rehearse(study, setting, folder, ready, built)
  for setting in study.settings:
    _check_paired(study, setting, ready)
  return {setting.name: ready[setting.name].size for setting in study.settings}


@contextlib.contextmanager
def _naming(setting: Setting) -> Iterator[None]:
  """Puts the setting's name in front of what is refused."""
  try:
    yield
  except UserError as error:
    raise UserError(f"setting {setting.name}: {error}") from error


def _experiments(study: Study, setting: Setting, folder: Path) -> list[Experiment]:
  """Those of the setting's runs that differ in more than the seed's value, and with the last seed."""
  tuning = tuning_runs(study, setting)
  candidates = [run.candidate for run in tuning] or [None]
  runs = [Run(setting.name, seed) for seed in study.seeds]
  return [
    *(experiment_of(study, run, folder, {}) for run in tuning),
    *(experiment_of(study, run, folder, {setting.name: candidate}) for run in runs for candidate in candidates),
  ]


def _rehearse(
  study: Study, setting: Setting, folder: Path, ready: dict[str, _Ready], built: dict[Any, tuple[Any, Size]]
) -> None:
  """Adds the setting to those that are `ready`, behind the one it starts from.

  `built` holds the program and the model's size of what has been seen, for settings that differ in their data alone.
  """
  if setting.name in ready:
    return
  source = setting.starts_from
  if source:
    _rehearse(study, study.named(source), folder, ready, built)
  experiment = _experiments(study, setting, folder)[-1]
  experiment = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, workers=0))
  with _naming(setting):
    initial = None if source else find_initial(experiment, folder / RUNS / Run(setting.name, study.seeds[-1]).name)
    preprocessing = initial.preprocessing if initial else None
    dataset = load_dataset(experiment, ready[source].dataset.preprocessing if source else preprocessing)
    task = ImageClassification(dataset, experiment)
    model = make_model(experiment, dataset.num_classes)
    batches = first_batches(task)
    same = dataclasses.replace(experiment, seed=0, num_steps=1, init_from="", adapt_channels=False, data=Data())
    kind = same, tuple(dataset.image_shape), dataset.num_classes
    if kind not in built:
      # One device: how a batch is divided has been checked, and what is not compiled costs nothing.
      built[kind] = build(experiment, model, task, make_mesh(jax.devices()[:1])), _size(model, dataset)
      check_task(built[kind][0], task, batches, experiment.batch_size)
    program, size = built[kind]
    size = dataclasses.replace(size, test_is_validation=_are_same(dataset, batches))
    if source:
      differing = architecture_difference(ready[source].model, model)
      if differing:
        raise UserError(f"the weights of {source}, from which it starts, are of another model ({differing}).")
    if initial is not None and initial.restored is not None:
      init_key = run_keys(experiment.seed)[0]
      initial_variables(
        initial.restored, model, task, program.template, init_key, adapt_channels=experiment.adapt_channels
      )
  ready[setting.name] = _Ready(experiment, dataset, model, size)


def _size(model: Any, dataset: Dataset) -> Size:
  parts = costs(model, dataset.image_shape)
  return Size(sum(part.parameters for part in parts), sum(part.multiply_adds for part in parts))


def _are_same(dataset: Dataset, batches: Mapping[str, Mapping[str, np.ndarray]]) -> bool:
  """Whether the test part is the validation part, going by its first batch."""
  validation, test = batches["validation"], batches["test"]
  same = all(np.array_equal(validation[name], test[name]) for name in test)
  return same and len(dataset.validation) == len(dataset.test)


def _check_paired(study: Study, setting: Setting, ready: dict[str, _Ready]) -> None:
  """A difference is taken image by image, so that the baseline must be tested on the same ones."""
  baseline = study.baseline_of(setting)
  ours, theirs = (ready[name].experiment.data for name in (setting.name, baseline))
  for field in ("name", "dir", "classes"):
    here, there = getattr(ours, field), getattr(theirs, field)
    if here != there:
      raise UserError(
        f"setting {setting.name} is tested on other images than {baseline}, the baseline of its group "
        f"{setting.group!r} (data.{field}: {here!r}, there {there!r}); give it a group of its own."
      )
