"""Using a trained model: restore it, predict, evaluate, export.

Names are fetched on first use, so that a command's --help does without jax.
"""

from typing import TYPE_CHECKING

from convattn.lazy import lazy_names

if TYPE_CHECKING:
  from convattn.inference.choosing import Examples as Examples, telling_examples as telling_examples
  from convattn.inference.evaluating import (
    classification as classification,
    evaluate as evaluate,
    outcomes_of as outcomes_of,
  )
  from convattn.inference.exporting import Artifact as Artifact, export_classifier as export_classifier
  from convattn.inference.logits import logits_of as logits_of
  from convattn.inference.matching import Matched as Matched, match_classes as match_classes
  from convattn.inference.predicting import most_likely as most_likely, predictions as predictions
  from convattn.training.restoring import (
    Classifier as Classifier,
    Restored as Restored,
    restore as restore,
    restore_classifier as restore_classifier,
  )

__getattr__, __dir__, __all__ = lazy_names(
  __name__,
  {
    "choosing": "Examples telling_examples",
    "evaluating": "classification evaluate outcomes_of",
    "exporting": "Artifact export_classifier",
    "logits": "logits_of",
    "matching": "Matched match_classes",
    "predicting": "most_likely predictions",
    "convattn.training.restoring": "Classifier Restored restore restore_classifier",
  },
)
