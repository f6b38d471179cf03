"""Arrays in, arrays out: attention, positions, convolutions, products, pooling. No parameters, no configuration."""

from convattn.ops.activations import gelu
from convattn.ops.attention import attend
from convattn.ops.convolutions import conv, depthwise_conv, depthwise_conv_grouped, depthwise_conv_shifted
from convattn.ops.dense import dense_dot
from convattn.ops.pooling import avg_pool, max_pool
from convattn.ops.positions import (
  RESIZE_METHODS,
  log_shifts,
  relative_bias,
  relative_bias_gather,
  relative_bias_one_hot,
  relative_offsets,
  resize_table,
)

__all__ = [
  "RESIZE_METHODS",
  "attend",
  "avg_pool",
  "conv",
  "dense_dot",
  "depthwise_conv",
  "depthwise_conv_grouped",
  "depthwise_conv_shifted",
  "gelu",
  "log_shifts",
  "max_pool",
  "relative_bias",
  "relative_bias_gather",
  "relative_bias_one_hot",
  "relative_offsets",
  "resize_table",
]
