"""Numbers out of a model."""

from convattn.analysis.ablation import without_heads, without_keys, without_pixels
from convattn.analysis.attention_map import MODES, AttentionMap, Grid
from convattn.analysis.bare_arrays import maps_of_arrays
from convattn.analysis.capture import attention_maps
from convattn.analysis.classification import Classification, Outcomes, classify, join_outcomes, most_confused, outcomes
from convattn.analysis.convolutions import ConvolutionKernel, convolution_kernels
from convattn.analysis.costs import Cost, by_stage, costs, costs_of_call, multiply_adds
from convattn.analysis.memory import Memory, memory
from convattn.analysis.tables import columns, cost_table, model_costs, model_table, parameter_table, summary_table

__all__ = [
  "MODES",
  "AttentionMap",
  "Classification",
  "ConvolutionKernel",
  "Cost",
  "Grid",
  "Memory",
  "Outcomes",
  "attention_maps",
  "by_stage",
  "classify",
  "columns",
  "convolution_kernels",
  "cost_table",
  "costs",
  "costs_of_call",
  "join_outcomes",
  "maps_of_arrays",
  "memory",
  "model_costs",
  "model_table",
  "most_confused",
  "multiply_adds",
  "outcomes",
  "parameter_table",
  "summary_table",
  "without_heads",
  "without_keys",
  "without_pixels",
]
