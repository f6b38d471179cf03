"""Arrays in, arrays out: attention, positions, convolutions, pooling. No parameters, no configuration."""

from convattn.ops.attention import attend
from convattn.ops.convolutions import conv, depthwise_conv, depthwise_conv_grouped, depthwise_conv_shifted
from convattn.ops.pooling import avg_pool, max_pool
from convattn.ops.positions import relative_bias, relative_bias_gather, relative_bias_one_hot, relative_offsets

__all__ = [
  "attend",
  "avg_pool",
  "conv",
  "depthwise_conv",
  "depthwise_conv_grouped",
  "depthwise_conv_shifted",
  "max_pool",
  "relative_bias",
  "relative_bias_gather",
  "relative_bias_one_hot",
  "relative_offsets",
]
