"""A model is a spec (data) and the one module that builds it."""

from convattn.models.coatnet import CoAtNet
from convattn.models.create import create_model, list_models, spec_for
from convattn.models.spec import Run, Spec, Stage

__all__ = ["CoAtNet", "Run", "Spec", "Stage", "create_model", "list_models", "spec_for"]
