"""Arrays in, arrays out: attention, positions, convolutions, products, pooling. No parameters, no configuration."""

from convattn.ops.activations import gelu
from convattn.ops.attention import attend, attention_weights, parameter_free_attention, weighted_sum
from convattn.ops.causal import causal_conv
from convattn.ops.convolutions import conv, depthwise_conv, depthwise_conv_grouped, depthwise_conv_shifted
from convattn.ops.dense import dense_dot
from convattn.ops.encodings import (
  centred_bias,
  clipped_logits,
  clipped_values,
  quadratic_table,
  quadratic_table_general,
  row_column_logits,
  sinusoids,
)
from convattn.ops.masks import causal_mask, neighbour_mask, padding_mask, shifted_window_mask
from convattn.ops.partitions import neighbourhoods, window_partition, window_reverse
from convattn.ops.pooling import avg_pool, max_pool
from convattn.ops.positions import (
  RESIZE_METHODS,
  log_shifts,
  relative_bias,
  relative_bias_gather,
  relative_bias_one_hot,
  relative_offsets,
  resize_table,
  skew,
  unskew,
)
from convattn.ops.products import attend_pairs, attend_row_column, pair_weights
from convattn.ops.similarities import additive, bilinear, cosine, dot, exact_match, scaled_dot

__all__ = [
  "RESIZE_METHODS",
  "additive",
  "attend",
  "attend_pairs",
  "attend_row_column",
  "attention_weights",
  "avg_pool",
  "bilinear",
  "causal_conv",
  "causal_mask",
  "centred_bias",
  "clipped_logits",
  "clipped_values",
  "conv",
  "cosine",
  "dense_dot",
  "depthwise_conv",
  "depthwise_conv_grouped",
  "depthwise_conv_shifted",
  "dot",
  "exact_match",
  "gelu",
  "log_shifts",
  "max_pool",
  "neighbour_mask",
  "neighbourhoods",
  "padding_mask",
  "pair_weights",
  "parameter_free_attention",
  "quadratic_table",
  "quadratic_table_general",
  "relative_bias",
  "relative_bias_gather",
  "relative_bias_one_hot",
  "relative_offsets",
  "resize_table",
  "row_column_logits",
  "scaled_dot",
  "shifted_window_mask",
  "sinusoids",
  "skew",
  "unskew",
  "weighted_sum",
  "window_partition",
  "window_reverse",
]
