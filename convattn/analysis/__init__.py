"""Numbers out of a model."""

from convattn.analysis.classification import Classification, Outcomes, classify, join_outcomes, most_confused, outcomes
from convattn.analysis.costs import Cost, by_stage, costs, costs_of_call
from convattn.analysis.memory import Memory, memory

__all__ = [
  "Classification",
  "Cost",
  "Memory",
  "Outcomes",
  "by_stage",
  "classify",
  "costs",
  "costs_of_call",
  "join_outcomes",
  "memory",
  "most_confused",
  "outcomes",
]
