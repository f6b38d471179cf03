"""The training loop and its pieces: `run(experiment, workdir)` trains any linen model on any `Task`.

Names are fetched on first use, so that reading the settings (`convattn.training.config`) does not import Orbax.
"""

from typing import TYPE_CHECKING

from convattn.lazy import lazy_names

if TYPE_CHECKING:
  from convattn.training.classification import ImageClassification as ImageClassification
  from convattn.training.config import (
    Augmentation as Augmentation,
    Checkpoint as Checkpoint,
    Compute as Compute,
    Data as Data,
    Experiment as Experiment,
    Loss as Loss,
    Model as Model,
    Optimizer as Optimizer,
  )
  from convattn.training.description import model_from_description as model_from_description
  from convattn.training.determinism import request_deterministic_kernels as request_deterministic_kernels
  from convattn.training.program import Program as Program, build as build, lowerings as lowerings
  from convattn.training.restoring import (
    Classifier as Classifier,
    Restored as Restored,
    restore as restore,
    restore_classifier as restore_classifier,
  )
  from convattn.training.runs import run as run
  from convattn.training.settings import validate as validate
  from convattn.training.sharding import make_mesh as make_mesh
  from convattn.training.signals import Terminated as Terminated
  from convattn.training.state import TrainState as TrainState, sha256 as sha256
  from convattn.training.task import Ranking as Ranking, Task as Task

__getattr__, __dir__, __all__ = lazy_names(
  __name__,
  {
    "classification": "ImageClassification",
    "config": "Augmentation Checkpoint Compute Data Experiment Loss Model Optimizer",
    "description": "model_from_description",
    "determinism": "request_deterministic_kernels",
    "program": "Program build lowerings",
    "restoring": "Classifier Restored restore restore_classifier",
    "runs": "run",
    "settings": "validate",
    "sharding": "make_mesh",
    "signals": "Terminated",
    "state": "TrainState sha256",
    "task": "Ranking Task",
  },
)
