"""CoAtNet and its family in JAX: vision models that marry convolution and attention."""

__version__ = "0.1.0"

from convattn import layers, models, ops, pretrained
from convattn.models import create_model, list_models

__all__ = ["__version__", "create_model", "layers", "list_models", "models", "ops", "pretrained"]
