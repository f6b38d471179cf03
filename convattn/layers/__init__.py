"""flax.linen modules: each owns its parameters and calls ops. They take fields, never a configuration."""

from convattn.layers.attention import RelativeAttention
from convattn.layers.causal import CausalBlock, CausalConv, DilatedStack
from convattn.layers.classifier import Classifier
from convattn.layers.conv_family import (
  CONVOLUTIONS,
  ConvBlock,
  DepthwiseBlock,
  FullyConnected,
  InvertedResidual,
  SeparableConv,
)
from convattn.layers.convnext import ConvNeXtBlock
from convattn.layers.convolution import Conv, DepthwiseConv
from convattn.layers.feed_forward import FeedForward
from convattn.layers.grid_attention import GatedPositionalAttention, GridAttention
from convattn.layers.grid_positions import BiasMLP, BiasTable, PositionMLP
from convattn.layers.layer_scale import LayerScale
from convattn.layers.mbconv import MBConv
from convattn.layers.normalization import BatchNorm, LayerNorm
from convattn.layers.shortcut import Shortcut
from convattn.layers.squeeze_excite import SqueezeExcite
from convattn.layers.stem import Stem
from convattn.layers.stochastic_depth import StochasticDepth
from convattn.layers.token_attention import (
  CrossAttention,
  LearnedPositions,
  MultiHeadAttention,
  SelfAttention,
  SinusoidalPositions,
)
from convattn.layers.transformer import TransformerBlock
from convattn.layers.vision_attention import SAGAN_FORMS, AugmentedConv, SAGANAttention
from convattn.layers.window_attention import LocalAttention, WindowAttention

__all__ = [
  "CONVOLUTIONS",
  "SAGAN_FORMS",
  "AugmentedConv",
  "BatchNorm",
  "BiasMLP",
  "BiasTable",
  "CausalBlock",
  "CausalConv",
  "Classifier",
  "Conv",
  "ConvBlock",
  "ConvNeXtBlock",
  "CrossAttention",
  "DepthwiseBlock",
  "DepthwiseConv",
  "DilatedStack",
  "FeedForward",
  "FullyConnected",
  "GatedPositionalAttention",
  "GridAttention",
  "InvertedResidual",
  "LayerNorm",
  "LayerScale",
  "LearnedPositions",
  "LocalAttention",
  "MBConv",
  "MultiHeadAttention",
  "PositionMLP",
  "RelativeAttention",
  "SAGANAttention",
  "SelfAttention",
  "SeparableConv",
  "Shortcut",
  "SinusoidalPositions",
  "SqueezeExcite",
  "Stem",
  "StochasticDepth",
  "TransformerBlock",
  "WindowAttention",
]
