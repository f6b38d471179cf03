"""flax.linen modules: each owns its parameters and calls ops. They take fields, never a configuration."""

from convattn.layers.attention import PositionMLP, RelativeAttention
from convattn.layers.classifier import Classifier
from convattn.layers.convnext import ConvNeXtBlock
from convattn.layers.convolution import Conv, DepthwiseConv
from convattn.layers.feed_forward import FeedForward
from convattn.layers.layer_scale import LayerScale
from convattn.layers.mbconv import MBConv
from convattn.layers.normalization import BatchNorm, LayerNorm
from convattn.layers.shortcut import Shortcut
from convattn.layers.squeeze_excite import SqueezeExcite
from convattn.layers.stem import Stem
from convattn.layers.stochastic_depth import StochasticDepth
from convattn.layers.transformer import TransformerBlock

__all__ = [
  "BatchNorm",
  "Classifier",
  "Conv",
  "ConvNeXtBlock",
  "DepthwiseConv",
  "FeedForward",
  "LayerNorm",
  "LayerScale",
  "MBConv",
  "PositionMLP",
  "RelativeAttention",
  "Shortcut",
  "SqueezeExcite",
  "Stem",
  "StochasticDepth",
  "TransformerBlock",
]
