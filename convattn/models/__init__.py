"""A model is a spec (data) and the module of its family that builds it."""

from convattn.models.coatnet import CoAtNet
from convattn.models.create import create_model, list_models, spec_for
from convattn.models.families import FAMILIES, Family, family_named, family_of
from convattn.models.spec import Run, Spec, Stage

__all__ = [
  "FAMILIES",
  "CoAtNet",
  "Family",
  "Run",
  "Spec",
  "Stage",
  "create_model",
  "family_named",
  "family_of",
  "list_models",
  "spec_for",
]
