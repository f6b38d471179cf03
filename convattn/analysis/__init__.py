"""Numbers out of a model."""

from convattn.analysis.ablation import without_heads, without_keys, without_pixels
from convattn.analysis.attention_map import MODES, AttentionMap, Grid
from convattn.analysis.bare_arrays import maps_of_arrays
from convattn.analysis.capture import attention_maps
from convattn.analysis.classification import Classification, Outcomes, classify, join_outcomes, most_confused, outcomes
from convattn.analysis.costs import Cost, by_stage, costs, costs_of_call, multiply_adds
from convattn.analysis.head_convolution import (
  ShiftProfile,
  convolution_peak,
  shift_consistency,
  shift_profile,
  tap_residuals,
)
from convattn.analysis.head_differences import content_dependence, head_divergence
from convattn.analysis.head_matching import HeadMatching, MeanReport, match_heads, mean_report
from convattn.analysis.head_report import HeadReport, head_report, head_table, layer_table
from convattn.analysis.head_shape import (
  attention_distance,
  attention_entropy,
  degenerate,
  local_mass,
  prefix_mass,
  shift_moments,
)
from convattn.analysis.memory import Memory, memory
from convattn.analysis.tables import columns, cost_table, model_costs, model_table, parameter_table, summary_table

__all__ = [
  "MODES",
  "AttentionMap",
  "Classification",
  "Cost",
  "Grid",
  "HeadMatching",
  "HeadReport",
  "MeanReport",
  "Memory",
  "Outcomes",
  "ShiftProfile",
  "attention_distance",
  "attention_entropy",
  "attention_maps",
  "by_stage",
  "classify",
  "columns",
  "content_dependence",
  "convolution_peak",
  "cost_table",
  "costs",
  "costs_of_call",
  "degenerate",
  "head_divergence",
  "head_report",
  "head_table",
  "join_outcomes",
  "layer_table",
  "local_mass",
  "maps_of_arrays",
  "match_heads",
  "mean_report",
  "memory",
  "model_costs",
  "model_table",
  "most_confused",
  "multiply_adds",
  "outcomes",
  "parameter_table",
  "prefix_mass",
  "shift_consistency",
  "shift_moments",
  "shift_profile",
  "summary_table",
  "tap_residuals",
  "without_heads",
  "without_keys",
  "without_pixels",
]
