"""The training loop and its pieces: `run(experiment, workdir)` trains any linen model on any `Task`.

Names are fetched on first use, so that reading the settings (`convattn.training.config`) does not import Orbax.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from convattn.training.classification import ImageClassification
  from convattn.training.config import Augmentation, Checkpoint, Compute, Data, Experiment, Loss, Model, Optimizer
  from convattn.training.description import model_from_description
  from convattn.training.determinism import request_deterministic_kernels
  from convattn.training.init_from import Initial, find_initial
  from convattn.training.program import Program, build, lowerings
  from convattn.training.restoring import Classifier, Restored, restore, restore_classifier
  from convattn.training.runs import run
  from convattn.training.settings import validate
  from convattn.training.sharding import make_mesh
  from convattn.training.signals import Terminated
  from convattn.training.state import TrainState, sha256
  from convattn.training.task import Ranking, Task

_HOMES = {
  "Augmentation": "config",
  "Checkpoint": "config",
  "Classifier": "restoring",
  "Compute": "config",
  "Data": "config",
  "Experiment": "config",
  "ImageClassification": "classification",
  "Initial": "init_from",
  "Loss": "config",
  "Model": "config",
  "Optimizer": "config",
  "Program": "program",
  "Ranking": "task",
  "Restored": "restoring",
  "Task": "task",
  "Terminated": "signals",
  "TrainState": "state",
  "build": "program",
  "find_initial": "init_from",
  "lowerings": "program",
  "make_mesh": "sharding",
  "model_from_description": "description",
  "request_deterministic_kernels": "determinism",
  "restore": "restoring",
  "restore_classifier": "restoring",
  "run": "runs",
  "sha256": "state",
  "validate": "settings",
}

__all__ = [
  "Augmentation",
  "Checkpoint",
  "Classifier",
  "Compute",
  "Data",
  "Experiment",
  "ImageClassification",
  "Initial",
  "Loss",
  "Model",
  "Optimizer",
  "Program",
  "Ranking",
  "Restored",
  "Task",
  "Terminated",
  "TrainState",
  "build",
  "find_initial",
  "lowerings",
  "make_mesh",
  "model_from_description",
  "request_deterministic_kernels",
  "restore",
  "restore_classifier",
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
