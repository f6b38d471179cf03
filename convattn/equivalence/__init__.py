"""Constructions between convolution and attention, with their error bounds."""

from convattn.equivalence.borders import PADDINGS
from convattn.equivalence.bounds import error_bound, off_target_mass, rounding_floor
from convattn.equivalence.construction import MODES, conv_to_attention
from convattn.equivalence.family import attention_sum, relative_sum_after, relative_sum_before, static_sum
from convattn.equivalence.inversion import attention_to_conv
from convattn.equivalence.layer import PositionAttention, QuadraticAttention, TableAttention
from convattn.equivalence.patches import patch_conv_to_attention, patch_kernel, to_patches, to_pixels
from convattn.equivalence.rank import fewer_heads_residual, fewest_heads, tap_rank
from convattn.ops.products import attend_pairs, attend_row_column, pair_weights

__all__ = [
  "MODES",
  "PADDINGS",
  "PositionAttention",
  "QuadraticAttention",
  "TableAttention",
  "attend_pairs",
  "attend_row_column",
  "attention_sum",
  "attention_to_conv",
  "conv_to_attention",
  "error_bound",
  "fewer_heads_residual",
  "fewest_heads",
  "off_target_mass",
  "pair_weights",
  "patch_conv_to_attention",
  "patch_kernel",
  "relative_sum_after",
  "relative_sum_before",
  "rounding_floor",
  "static_sum",
  "tap_rank",
  "to_patches",
  "to_pixels",
]
