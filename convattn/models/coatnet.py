"""The one module that builds every model from its spec."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from convattn.errors import UserError
from convattn.layers.activations import ACTIVATIONS
from convattn.layers.attention import RelativeAttention
from convattn.layers.causal import CausalBlock
from convattn.layers.classifier import Classifier
from convattn.layers.convnext import ConvNeXtBlock
from convattn.layers.grid_positions import position_maker
from convattn.layers.inputs import check_input
from convattn.layers.mbconv import MBConv
from convattn.layers.normalization import norm_maker
from convattn.layers.stem import Stem
from convattn.layers.transformer import TransformerBlock
from convattn.models.spec import Spec

# What the backward pass may keep: None keeps everything, else a block's input and what the policy allows. "dots" keeps
# the outputs of dense layers; convolutions and attention's products, which have batch axes, are computed again.
REMAT = {
  "none": None,
  "block": jax.checkpoint_policies.nothing_saveable,
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


class CoAtNet(nn.Module):
  """Convolution, then attention (Dai et al. 2021): stem, stages of convolution and Transformer blocks, classifier.

  `__call__`: images [b, h, w, c] -> logits [b, num_classes] in promote_types(dtype, float32); any h, w and c at `init`.
  `axis_name` is BatchNorm's, for calls that see a share of the batch each.
  `features`: the images after the stem and each stage, [b, ceil(h / stride), ceil(w / stride), width], in `dtype`.
  """

  spec: Spec
  num_classes: int = 1000
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32
  remat: str = "none"
  axis_name: str | tuple[str, ...] | None = None

  def setup(self):
    if self.remat not in REMAT:
      raise UserError(f"remat is {self.remat!r}, but must be one of {', '.join(map(repr, REMAT))}.")
    spec = self.spec
    dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    conv_norm, attention_norm = _norms(spec, self.axis_name)
    self.stem = Stem(
      spec.stem_widths,
      spec.stem_kernel,
      spec.stem_stride,
      spec.stem_bias,
      norm=conv_norm,
      activation=ACTIVATIONS[spec.conv_activation],
      **dtypes,
    )
    rates = iter(np.linspace(0, spec.stochastic_depth, len(spec.blocks)))
    makers = block_makers(spec, self.axis_name)
    for i, stage in enumerate(spec.stages):
      blocks = tuple(
        functools.partial(makers[kind], width=width, stride=stride, stochastic_depth=float(next(rates)), **dtypes)
        for kind, width, stride in stage.blocks
      )
      setattr(self, f"stage_{i + 1}", StageBlocks(blocks, self.remat))
    self.classifier = Classifier(self.num_classes, spec.head, attention_norm, **dtypes)

  def features(self, images: jax.Array, *, train: bool) -> list[jax.Array]:
    check_input(self, images, "b h w c", "stem/conv_1/kernel", 2)
    maps = [self.stem(images, train=train)]
    for i in range(len(self.spec.stages)):
      maps.append(getattr(self, f"stage_{i + 1}")(maps[-1], train=train))
    return maps

  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    return self.classifier(self.features(images, train=train)[-1], train=train)


class StageBlocks(nn.Module):
  """Blocks one after another, `block_0`, `block_1`, ...; with `remat`, each is recomputed in the backward pass."""

  blocks: tuple[Callable[..., nn.Module], ...]
  remat: str = "none"

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    def apply(block: nn.Module, x: jax.Array) -> jax.Array:
      return block(x, train=train)

    if REMAT[self.remat] is not None:
      apply = nn.remat(apply, policy=REMAT[self.remat])
    for i, make in enumerate(self.blocks):
      x = apply(make(name=f"block_{i}"), x)
    return x


def _norms(spec: Spec, axis_name: Any) -> tuple[Callable[..., nn.Module], Callable[..., nn.Module]]:
  """What makes the norms of (stem and convolution blocks, Transformer blocks and classifier)."""

  def made(kind: str, epsilon: float) -> Callable[..., nn.Module]:
    return norm_maker(kind, epsilon, **({"axis_name": axis_name} if kind == "batch" else {}))

  return made(spec.conv_norm, spec.conv_norm_epsilon), made(spec.attention_norm, spec.attention_norm_epsilon)


def block_makers(spec: Spec, axis_name: Any = None) -> dict[str, Callable[..., nn.Module]]:
  """Block letter -> layer with every field that the spec decides for all blocks alike."""
  conv_norm, attention_norm = _norms(spec, axis_name)
  conv: dict[str, Any] = {
    "stride_at": spec.conv_stride,
    "expansion": spec.conv_expansion,
    "use_bias": spec.conv_bias,
    "norm": conv_norm,
    "activation": ACTIVATIONS[spec.conv_activation],
    "pool": spec.pool,
  }
  position = position_maker(
    spec.relative_position, hidden=spec.relative_hidden, dropout=spec.relative_dropout, resize=spec.table_resize
  )
  return {
    "C": functools.partial(
      MBConv,
      expand_from=spec.conv_expand_from,
      pre_norm_activation=spec.conv_pre_norm_activation,
      squeeze_ratio=spec.squeeze_ratio,
      squeeze_from=spec.squeeze_from,
      squeeze_at=spec.squeeze_at,
      squeeze_activation=ACTIVATIONS[spec.squeeze_activation],
      **conv,
    ),
    "D": functools.partial(CausalBlock, depth=spec.causal_depth, taps=spec.causal_taps, norm=conv_norm, pool=spec.pool),
    "X": functools.partial(ConvNeXtBlock, layer_scale=spec.conv_layer_scale, **conv),
    "T": functools.partial(
      TransformerBlock,
      head_size=spec.head_size,
      width_from=spec.attention_width_from,
      attention=functools.partial(RelativeAttention, relative=spec.relative_attention, position=position),
      expansion=spec.attention_expansion,
      norm=attention_norm,
      activation=ACTIVATIONS[spec.attention_activation],
      pool=spec.pool,
      shortcut_bias=spec.attention_shortcut_bias,
      layer_scale=spec.attention_layer_scale,
    ),
  }
