"""CoAtNet and its family in JAX: vision models that marry convolution and attention."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
  from convattn import (
    analysis,
    data,
    equivalence,
    inference,
    layers,
    models,
    ops,
    pretrained,
    properties,
    training,
    viz,
  )
  from convattn.models import create_model, list_models

__all__ = ["__version__", "analysis", "create_model", "data", "equivalence", "inference", "layers", "list_models"]
__all__ += ["models", "ops", "pretrained", "properties", "training", "viz"]
_ROOMS = {*__all__} - {"__version__", "create_model", "list_models"}


def __dir__() -> list[str]:
  return sorted(__all__)


def __getattr__(name: str) -> Any:
  # Rooms are imported when first used: `convattn --help` does without jax, a model without Orbax and matplotlib.
  if name in _ROOMS:
    return importlib.import_module(f"convattn.{name}")
  if name in ("create_model", "list_models"):
    return getattr(importlib.import_module("convattn.models"), name)
  raise AttributeError(f"module 'convattn' has no attribute {name!r}")
