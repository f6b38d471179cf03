"""Numbers out of a model."""

from convattn.analysis.ablation import without_heads, without_keys, without_pixels
from convattn.analysis.attention_map import MODES, AttentionMap, Grid
from convattn.analysis.bare_arrays import maps_of_arrays
from convattn.analysis.capture import attention_maps
from convattn.analysis.class_map import ClassMap, class_map
from convattn.analysis.classification import Classification, Outcomes, classify, join_outcomes, most_confused, outcomes
from convattn.analysis.convolutions import ConvolutionKernel, convolution_kernels
from convattn.analysis.costs import Cost, by_stage, costs, costs_of_call, multiply_adds
from convattn.analysis.faithfulness import Faithfulness, centre_map, faithfulness
from convattn.analysis.feature_maps import FeatureMap, find_feature_map
from convattn.analysis.grad_cam import grad_cam
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
from convattn.analysis.hiding import FILLS
from convattn.analysis.intervals import Interval, mean_interval
from convattn.analysis.margins import margins, worth_a_look
from convattn.analysis.memory import Memory, memory
from convattn.analysis.occlusion import occlusion
from convattn.analysis.overlay import Overlay
from convattn.analysis.randomisation import Randomisation, randomisation, rank_correlations, shuffled_labels
from convattn.analysis.receptive_field import ReceptiveField, receptive_field
from convattn.analysis.rollout import rollout, rollout_overlay
from convattn.analysis.tables import columns, cost_table, model_costs, model_table, parameter_table, summary_table

__all__ = [
  "FILLS",
  "MODES",
  "AttentionMap",
  "ClassMap",
  "Classification",
  "ConvolutionKernel",
  "Cost",
  "Faithfulness",
  "FeatureMap",
  "Grid",
  "HeadMatching",
  "HeadReport",
  "Interval",
  "MeanReport",
  "Memory",
  "Outcomes",
  "Overlay",
  "Randomisation",
  "ReceptiveField",
  "ShiftProfile",
  "attention_distance",
  "attention_entropy",
  "attention_maps",
  "by_stage",
  "centre_map",
  "class_map",
  "classify",
  "columns",
  "content_dependence",
  "convolution_kernels",
  "convolution_peak",
  "cost_table",
  "costs",
  "costs_of_call",
  "degenerate",
  "faithfulness",
  "find_feature_map",
  "grad_cam",
  "head_divergence",
  "head_report",
  "head_table",
  "join_outcomes",
  "layer_table",
  "local_mass",
  "maps_of_arrays",
  "margins",
  "match_heads",
  "mean_interval",
  "mean_report",
  "memory",
  "model_costs",
  "model_table",
  "most_confused",
  "multiply_adds",
  "occlusion",
  "outcomes",
  "parameter_table",
  "prefix_mass",
  "randomisation",
  "rank_correlations",
  "receptive_field",
  "rollout",
  "rollout_overlay",
  "shift_consistency",
  "shift_moments",
  "shift_profile",
  "shuffled_labels",
  "summary_table",
  "tap_residuals",
  "without_heads",
  "without_keys",
  "without_pixels",
  "worth_a_look",
]
