"""What a CoAtNet is, as data."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from convattn.errors import UserError
from convattn.layers import convnext
from convattn.layers.activations import ACTIVATIONS
from convattn.layers.attention import POSITIONS, RELATIVE, TABLE_RESIZE
from convattn.layers.classifier import HEADS
from convattn.layers.mbconv import EXPAND_FROM, SQUEEZE_AT, SQUEEZE_FROM, STRIDES_AT
from convattn.layers.normalization import NORMS
from convattn.layers.shortcut import POOLS
from convattn.layers.transformer import WIDTH_FROM

BLOCKS = ("C", "T", "X")


@dataclasses.dataclass(frozen=True)
class Run:
  """`depth` blocks in a row of `width` channels.

  block: "C" (MBConv), "T" (Transformer with relative attention) or "X" (ConvNeXt).
  """

  block: str
  depth: int
  width: int


@dataclasses.dataclass(frozen=True)
class Stage:
  """Runs of blocks at one resolution; the first block of the stage strides."""

  runs: tuple[Run, ...]
  stride: int = 2

  @property
  def blocks(self) -> list[tuple[str, int, int]]:
    """(block, width, stride) of every block in order."""
    flat = [(run.block, run.width) for run in self.runs for _ in range(run.depth)]
    return [(block, width, self.stride if i == 0 else 1) for i, (block, width) in enumerate(flat)]


def stages(layout: Sequence[str], depths: Sequence[int], widths: Sequence[int]) -> tuple[Stage, ...]:
  """Stages of stride 2 from a layout such as "CCTT"; a stage "CT" is one convolution block, then attention."""

  def runs(letters: str, depth: int, width: int) -> tuple[Run, ...]:
    singles = tuple(Run(letter, 1, width) for letter in letters[:-1])
    return (*singles, Run(letters[-1], depth - len(singles), width))

  return tuple(Stage(runs(*row)) for row in zip(layout, depths, widths, strict=True))


@dataclasses.dataclass(frozen=True)
class Spec:
  """A whole model. Defaults are the paper's, and where it is silent those of timm's models of the same shape.

  Raises:
    ValueError: a value that is not among a field's choices, with the choices.
  """

  stages: tuple[Stage, ...]
  stem_widths: tuple[int, ...]
  stem_kernel: int = 3
  stem_stride: int = 2
  stem_bias: bool = False  # Google's code family has them; published counts cannot tell
  pool: str = "max"  # in front of a strided stage: "max" and "avg" have window = stride, "max3x3" overlaps
  conv_activation: str = "gelu"  # of the stem too
  conv_pre_norm_activation: bool = False
  conv_stride: str = "expand"  # eq. 5; "depthwise" is Table 9, "pool" a mean in front of the block
  conv_norm: str = "batch"  # of the stem too; "layer" is Table 8
  conv_norm_epsilon: float = 1e-5
  conv_expansion: int = 4
  conv_expand_from: str = "output"
  conv_bias: bool = True  # of shortcut and last product
  conv_layer_scale: float = 0.0  # of ConvNeXt blocks; 0: none
  squeeze_ratio: float = 0.25
  squeeze_from: str = "output"
  squeeze_at: str = "after"  # the depthwise convolution's norm, or "before"
  squeeze_activation: str = "silu"
  relative_attention: str = "pre"
  relative_position: str = "table"  # "mlp": computed from log-spaced shifts, for any grid
  relative_hidden: int = 512  # of the MLP
  relative_dropout: float = 0.0  # of the MLP
  table_resize: str = "none"  # to the image's grid in every call: "bilinear" or "timm"
  head_size: int = 32
  attention_width_from: str = "output"
  attention_norm: str = "layer"  # of the classifier too
  attention_norm_epsilon: float = 1e-6
  attention_activation: str = "gelu"
  attention_expansion: int = 4
  attention_shortcut_bias: bool = True
  attention_layer_scale: float = 0.0  # of Transformer blocks; 0: none
  head: str = "tanh"
  stochastic_depth: float = 0.0  # rate of the last block; linear in the block's index from 0

  def __post_init__(self):
    for name, choices in CHOICES.items():
      if getattr(self, name) not in choices:
        raise UserError(f"{name} is {getattr(self, name)!r}, but must be one of {', '.join(map(repr, choices))}.")
    for name in ("stochastic_depth", "relative_dropout"):
      if not 0 <= getattr(self, name) < 1:
        raise UserError(f"{name} is {getattr(self, name)}, but must be at least 0 and less than 1.")
    for name in ("conv_layer_scale", "attention_layer_scale"):
      if getattr(self, name) < 0:
        raise UserError(f"{name} is {getattr(self, name)}, but must be at least 0.")
    for name in ("stages", "stem_widths"):
      if not getattr(self, name):
        raise UserError(f"{name} is (), but must have at least one element.")
    for name, value in self._numbers():
      if value <= 0:
        raise UserError(f"{name} is {value}, but must be greater than 0.")
    self._check_blocks()

  def _check_blocks(self) -> None:
    channels = self.stem_widths[-1]
    for block, width, _ in self.blocks:
      if block not in BLOCKS:
        raise UserError(f"block is {block!r}, but must be one of {', '.join(map(repr, BLOCKS))}.")
      attention_width = {"output": width, "input": channels}[self.attention_width_from]
      if block == "T" and attention_width % self.head_size:
        wanted = f"must divide the width {attention_width} of every Transformer stage"
        raise UserError(f"head_size is {self.head_size}, but {wanted}.")
      if block == "X" and width % channels:
        raise UserError(f"a ConvNeXt block's width is {width}, but must be a multiple of its input's {channels}.")
      if block == "X" and self.conv_stride not in convnext.STRIDES_AT:
        wanted = " or ".join(map(repr, convnext.STRIDES_AT))
        raise UserError(f"conv_stride is {self.conv_stride!r}, but must be {wanted} in a model with ConvNeXt blocks.")
      channels = width

  def _numbers(self) -> Iterator[tuple[str, float]]:
    for name in POSITIVE:
      yield name, getattr(self, name)
    yield from (("a stem width", width) for width in self.stem_widths)
    for stage in self.stages:
      yield "a stage's stride", stage.stride
      yield "a stage's number of blocks", len(stage.blocks)
      yield from (("a stage's width", run.width) for run in stage.runs)

  @property
  def blocks(self) -> list[tuple[str, int, int]]:
    """(block, width, stride) of every block of every stage in order."""
    return [block for stage in self.stages for block in stage.blocks]


POSITIVE = (
  "stem_kernel",
  "stem_stride",
  "conv_norm_epsilon",
  "conv_expansion",
  "squeeze_ratio",
  "relative_hidden",
  "head_size",
  "attention_norm_epsilon",
  "attention_expansion",
)
CHOICES = {
  "pool": tuple(POOLS),
  "conv_activation": tuple(ACTIVATIONS),
  "conv_stride": STRIDES_AT,
  "conv_norm": tuple(NORMS),
  "conv_expand_from": EXPAND_FROM,
  "squeeze_from": SQUEEZE_FROM,
  "squeeze_at": SQUEEZE_AT,
  "squeeze_activation": tuple(ACTIVATIONS),
  "relative_attention": RELATIVE,
  "relative_position": POSITIONS,
  "table_resize": TABLE_RESIZE,
  "attention_width_from": WIDTH_FROM,
  "attention_norm": tuple(NORMS),
  "attention_activation": tuple(ACTIVATIONS),
  "head": HEADS,
}


def check_fields(names: Iterable[str], related: Sequence[str] = ()) -> None:
  """Each name must be a field of Spec; `related` are other names to suggest.

  Raises:
    ValueError: one is not, with the nearest, at most three.
  """
  fields = [field.name for field in dataclasses.fields(Spec)]
  for name in names:
    if name not in fields:
      known = [*fields, *related]
      near = difflib.get_close_matches(name, known, n=3) or difflib.get_close_matches(name, known, n=3, cutoff=0.0)
      raise UserError(f"a model has no field {name!r}; did you mean {', '.join(near)}?")


def with_overrides(spec: Spec, **overrides: Any) -> Spec:
  """`spec` with some fields replaced. Raises ValueError for a field it does not have, naming the nearest."""
  check_fields(overrides)
  return dataclasses.replace(spec, **overrides)
