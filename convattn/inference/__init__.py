"""Using a trained model: restore it, predict, evaluate, export.

Names are fetched on first use, so that a command's --help does without jax.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from convattn.inference.evaluating import check_classes, classification, evaluate
  from convattn.inference.exporting import Artifact, export_classifier
  from convattn.inference.logits import logits_of
  from convattn.inference.predicting import most_likely, predictions
  from convattn.training.restoring import Classifier, Restored, restore, restore_classifier

_HOMES = {
  "Artifact": "convattn.inference.exporting",
  "Classifier": "convattn.training.restoring",  # a run that starts from trained weights restores them too
  "Restored": "convattn.training.restoring",
  "check_classes": "convattn.inference.evaluating",
  "classification": "convattn.inference.evaluating",
  "evaluate": "convattn.inference.evaluating",
  "export_classifier": "convattn.inference.exporting",
  "logits_of": "convattn.inference.logits",
  "most_likely": "convattn.inference.predicting",
  "predictions": "convattn.inference.predicting",
  "restore": "convattn.training.restoring",
  "restore_classifier": "convattn.training.restoring",
}

__all__ = [
  "Artifact",
  "Classifier",
  "Restored",
  "check_classes",
  "classification",
  "evaluate",
  "export_classifier",
  "logits_of",
  "most_likely",
  "predictions",
  "restore",
  "restore_classifier",
]


def __getattr__(name: str) -> Any:
  if name not in _HOMES:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}.")
  return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
  return sorted(__all__)
