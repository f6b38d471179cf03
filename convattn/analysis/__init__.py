"""Numbers out of a model."""

from convattn.analysis.costs import Cost, costs

__all__ = ["Cost", "costs"]
