"""Every public layer, for the tests that hold for all of them."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from convattn import layers

IMAGE = (3, 5, 6, 8)  # [b, h, w, c]
TOKENS = (3, 7, 8)  # [b, t, c]
TABLES = {"CONVOLUTIONS", "SAGAN_FORMS"}  # public, and no layers


@dataclasses.dataclass(frozen=True)
class Example:
  layer: nn.Module
  takes_train: bool = True
  needs_key: bool = False  # draws random numbers in training
  batch_statistics: bool = False
  shape: tuple[int, ...] = IMAGE
  output: tuple[int, ...] = IMAGE
  # Parameters without an effect on the output: a key's bias shifts all logits of a query alike.
  idle: tuple[str, ...] = ()


class Across(nn.Module):
  """CrossAttention with every second token for its context."""

  dtype: Any = np.float32

  @nn.compact
  def __call__(self, x):
    context = x[:, ::2] if x.ndim == 3 else x
    return layers.CrossAttention(2, 6, 10, dtype=self.dtype, name="cross")(x, context)


EXAMPLES = {
  "AugmentedConv": Example(layers.AugmentedConv(10, 4, 6, 2), takes_train=False, output=(3, 5, 6, 10)),
  "BatchNorm": Example(layers.BatchNorm(), batch_statistics=True),
  # The positions take no image: here each is inside the attention it serves. A last bias shifts all logits alike.
  "BiasMLP": Example(
    layers.RelativeAttention(2, position=functools.partial(layers.BiasMLP, hidden=5)),
    takes_train=False,
    idle=("bias_mlp/out/bias", "key/bias"),
  ),
  "BiasTable": Example(layers.GridAttention(2, layers.BiasTable, content=False), takes_train=False),
  "CausalBlock": Example(
    layers.CausalBlock(6, stride=2, depth=2, stochastic_depth=0.4),
    needs_key=True,
    batch_statistics=True,
    output=(3, 3, 3, 6),
  ),
  "CausalConv": Example(layers.CausalConv(6, taps=3, dilation=2, stride=2), output=(3, 3, 3, 6)),
  "Classifier": Example(layers.Classifier(7), output=(3, 7)),
  "Conv": Example(layers.Conv(4, stride=2, use_bias=True), takes_train=False, output=(3, 3, 3, 4)),
  "ConvBlock": Example(layers.ConvBlock(6, stride=2), batch_statistics=True, output=(3, 3, 3, 6)),
  "ConvNeXtBlock": Example(
    layers.ConvNeXtBlock(16, stride=2, layer_scale=0.5, stochastic_depth=0.4), needs_key=True, output=(3, 3, 3, 16)
  ),
  "CrossAttention": Example(Across(), takes_train=False, shape=TOKENS, output=(3, 7, 10)),
  "DepthwiseBlock": Example(layers.DepthwiseBlock(stride=2), batch_statistics=True, output=(3, 3, 3, 8)),
  "DepthwiseConv": Example(layers.DepthwiseConv(stride=2), takes_train=False, output=(3, 3, 3, 8)),
  "DilatedStack": Example(layers.DilatedStack(6, dilations=(1, 2), stride=2), output=(3, 3, 3, 6)),
  "FeedForward": Example(layers.FeedForward(), takes_train=False),
  "FullyConnected": Example(layers.FullyConnected(4, stride=3), output=(3, 2, 2, 4)),
  "GatedPositionalAttention": Example(layers.GatedPositionalAttention(2), takes_train=False),
  "GridAttention": Example(layers.GridAttention(2, "row_column"), takes_train=False),
  "InvertedResidual": Example(layers.InvertedResidual(8, expansion=2), batch_statistics=True),
  "LayerNorm": Example(layers.LayerNorm()),
  "LayerScale": Example(layers.LayerScale(0.5), takes_train=False),
  "LearnedPositions": Example(layers.LearnedPositions(9), takes_train=False, shape=TOKENS, output=TOKENS),
  "LocalAttention": Example(layers.LocalAttention(2, window=3), takes_train=False),
  "MBConv": Example(
    layers.MBConv(12, stride=2, stochastic_depth=0.4), needs_key=True, batch_statistics=True, output=(3, 3, 3, 12)
  ),
  "MultiHeadAttention": Example(
    layers.MultiHeadAttention(2, causal=True, clip=2), takes_train=False, shape=TOKENS, output=TOKENS
  ),
  "PositionMLP": Example(
    layers.RelativeAttention(2, position="mlp", position_hidden=5),
    takes_train=False,
    idle=("bias_mlp/out/bias", "key/bias"),
  ),
  "RelativeAttention": Example(layers.RelativeAttention(2), takes_train=False, idle=("key/bias",)),
  "SAGANAttention": Example(layers.SAGANAttention(**layers.SAGAN_FORMS["code"]), takes_train=False),
  "SelfAttention": Example(layers.SelfAttention(6), takes_train=False, shape=TOKENS, output=(3, 7, 6)),
  "SeparableConv": Example(
    layers.SeparableConv(12, stride=2, width_multiplier=0.5), batch_statistics=True, output=(3, 3, 3, 6)
  ),
  "Shortcut": Example(layers.Shortcut(12, stride=2), takes_train=False, output=(3, 3, 3, 12)),
  "SinusoidalPositions": Example(layers.SinusoidalPositions(), takes_train=False, shape=TOKENS, output=TOKENS),
  "SqueezeExcite": Example(layers.SqueezeExcite(3), takes_train=False),
  "Stem": Example(layers.Stem((4, 6)), batch_statistics=True, output=(3, 3, 3, 6)),
  "StochasticDepth": Example(layers.StochasticDepth(0.5), needs_key=True),
  "TransformerBlock": Example(
    layers.TransformerBlock(12, stride=2, head_size=4, stochastic_depth=0.4),
    needs_key=True,
    output=(3, 3, 3, 12),
    idle=("attention/key/bias",),
  ),
  "WindowAttention": Example(layers.WindowAttention(2, window=4, shift=1), takes_train=False),
}


def example_input(example: Example, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).standard_normal(example.shape).astype(np.float32)


def apply(example: Example, variables: Any, x: Any, *, train: bool = False, key: jax.Array | None = None, layer=None):
  """The output alone; in training with its random numbers, batch statistics dropped."""
  layer = layer or example.layer
  keywords: dict[str, Any] = {"train": train} if example.takes_train else {}
  if train and example.takes_train:
    rngs = {"dropout": jax.random.key(7) if key is None else key} if example.needs_key else {}
    return layer.apply(variables, x, **keywords, rngs=rngs, mutable=["batch_stats"])[0]
  return layer.apply(variables, x, **keywords)


def initialise(example: Example, layer=None, x=None) -> Any:
  """Variables away from ones and zeros, so that no term is hidden; variances are positive. Nothing is compiled."""
  keywords = {"train": False} if example.takes_train else {}
  init = functools.partial((layer or example.layer).init, **keywords)
  shapes = jax.eval_shape(init, jax.random.key(0), example_input(example) if x is None else x)
  rng = np.random.default_rng(1)

  def drawn(path: Any, leaf: Any) -> np.ndarray:
    fan_in = np.prod(leaf.shape[:-1]) if path[-1].key == "kernel" else 1
    centre = 1.0 if path[-1].key in ("scale", "var") else 0.0
    return np.asarray(
      centre + 0.3 * np.abs(rng.standard_normal(leaf.shape))
      if centre
      else rng.standard_normal(leaf.shape) / np.sqrt(fan_in),
      leaf.dtype,
    )

  return jax.tree_util.tree_map_with_path(drawn, shapes)


@functools.cache
def compiled(name: str) -> Any:
  """Its evaluation as a function (variables, x): one program for all tests that need no other."""
  return jax.jit(functools.partial(apply, EXAMPLES[name]))
