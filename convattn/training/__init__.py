"""The training loop and its pieces: `run(experiment, workdir)` trains any linen model on any `Task`.

Names are fetched on first use, so that reading the settings (`convattn.training.config`) does not import Orbax.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from convattn.training.config import (
    Augmentation,
    Checkpoint,
    Compute,
    Data,
    Experiment,
    Loss,
    Model,
    Optimizer,
  )
  from convattn.training.description import model_from_description
  from convattn.training.determinism import request_deterministic_kernels
  from convattn.training.exporting import export_classifier
  from convattn.training.initial import Initial, find_initial
  from convattn.training.program import Program, build, lowerings
  from convattn.training.restoring import Restored, restore
  from convattn.training.sharding import make_mesh
  from convattn.training.signals import Terminated
  from convattn.training.starting import run
  from convattn.training.state import TrainState, sha256
  from convattn.training.task import ImageClassification, Task
  from convattn.training.validation import SettingsError, validate
  from convattn.training.workdir import WorkdirError

_HOMES = {
  "Augmentation": "config",
  "Checkpoint": "config",
  "Compute": "config",
  "Data": "config",
  "Experiment": "config",
  "ImageClassification": "task",
  "Initial": "initial",
  "Loss": "config",
  "Model": "config",
  "Optimizer": "config",
  "Program": "program",
  "Restored": "restoring",
  "SettingsError": "validation",
  "Task": "task",
  "Terminated": "signals",
  "TrainState": "state",
  "WorkdirError": "workdir",
  "build": "program",
  "export_classifier": "exporting",
  "find_initial": "initial",
  "lowerings": "program",
  "make_mesh": "sharding",
  "model_from_description": "description",
  "request_deterministic_kernels": "determinism",
  "restore": "restoring",
  "run": "starting",
  "sha256": "state",
  "validate": "validation",
}

__all__ = [
  "Augmentation",
  "Checkpoint",
  "Compute",
  "Data",
  "Experiment",
  "ImageClassification",
  "Initial",
  "Loss",
  "Model",
  "Optimizer",
  "Program",
  "Restored",
  "SettingsError",
  "Task",
  "Terminated",
  "TrainState",
  "WorkdirError",
  "build",
  "export_classifier",
  "find_initial",
  "lowerings",
  "make_mesh",
  "model_from_description",
  "request_deterministic_kernels",
  "restore",
  "run",
  "sha256",
  "validate",
]


def __getattr__(name: str) -> Any:
  if name not in _HOMES:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}.")
  return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
  return sorted(__all__)
