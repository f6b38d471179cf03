"""Numbers out of a model."""

from convattn.analysis.attention_map import MODES, AttentionMap, Grid
from convattn.analysis.bare_arrays import maps_of_arrays
from convattn.analysis.capture import attention_maps
from convattn.analysis.class_map import ClassMap, class_map
from convattn.analysis.classification import Classification, Outcomes, classify, join_outcomes, most_confused, outcomes
from convattn.analysis.costs import Cost, by_stage, costs, costs_of_call, multiply_adds
from convattn.analysis.faithfulness import Faithfulness, centre_map, faithfulness
from convattn.analysis.feature_maps import FeatureMap, find_feature_map
from convattn.analysis.grad_cam import grad_cam
from convattn.analysis.hiding import FILLS
from convattn.analysis.intervals import Interval, mean_interval
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
  "Cost",
  "Faithfulness",
  "FeatureMap",
  "Grid",
  "Interval",
  "Memory",
  "Outcomes",
  "Overlay",
  "Randomisation",
  "ReceptiveField",
  "attention_maps",
  "by_stage",
  "centre_map",
  "class_map",
  "classify",
  "columns",
  "cost_table",
  "costs",
  "costs_of_call",
  "faithfulness",
  "find_feature_map",
  "grad_cam",
  "join_outcomes",
  "maps_of_arrays",
  "mean_interval",
  "memory",
  "model_costs",
  "model_table",
  "most_confused",
  "multiply_adds",
  "occlusion",
  "outcomes",
  "parameter_table",
  "randomisation",
  "rank_correlations",
  "receptive_field",
  "rollout",
  "rollout_overlay",
  "shuffled_labels",
  "summary_table",
]
