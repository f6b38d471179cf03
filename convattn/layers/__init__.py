"""flax.linen modules: each owns its parameters and calls ops. They take fields, never a configuration."""

from convattn.layers.attention import RelativeAttention
from convattn.layers.classifier import Classifier
from convattn.layers.convolution import Conv, DepthwiseConv
from convattn.layers.mbconv import MBConv
from convattn.layers.normalization import BatchNorm, LayerNorm
from convattn.layers.shortcut import Shortcut
from convattn.layers.squeeze_excite import SqueezeExcite
from convattn.layers.stem import Stem
from convattn.layers.stochastic_depth import StochasticDepth
from convattn.layers.transformer import FeedForward, TransformerBlock

__all__ = [
  "BatchNorm",
  "Classifier",
  "Conv",
  "DepthwiseConv",
  "FeedForward",
  "LayerNorm",
  "MBConv",
  "RelativeAttention",
  "Shortcut",
  "SqueezeExcite",
  "Stem",
  "StochasticDepth",
  "TransformerBlock",
]
