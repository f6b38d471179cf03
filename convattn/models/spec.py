"""What a CoAtNet is, as data."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator
from typing import Any

from convattn.layers.activations import ACTIVATIONS
from convattn.layers.attention import RELATIVE
from convattn.layers.classifier import HEADS
from convattn.layers.normalization import NORMS
from convattn.layers.shortcut import POOLS

BLOCKS = ("C", "T")
STRIDES_AT = ("expand", "depthwise")


@dataclasses.dataclass(frozen=True)
class Run:
  """`depth` blocks in a row of `width` channels: block "C" (MBConv) or "T" (Transformer with relative attention)."""

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
  activation: str = "gelu"
  pool: str = "max"  # in front of a strided stage: "max" and "avg" have window = stride, "max3x3" overlaps
  conv_stride: str = "expand"  # eq. 5; "depthwise" is Table 9
  conv_norm: str = "batch"  # of the stem too; "layer" is Table 8
  conv_norm_epsilon: float = 1e-5
  conv_expansion: int = 4
  squeeze_ratio: float = 0.25
  relative_attention: str = "pre"
  head_size: int = 32
  attention_norm_epsilon: float = 1e-6
  attention_expansion: int = 4
  head: str = "tanh"
  stochastic_depth: float = 0.0  # rate of the last block; linear in the block's index from 0

  def __post_init__(self):
    for name, choices in CHOICES.items():
      if getattr(self, name) not in choices:
        raise ValueError(f"{name} is {getattr(self, name)!r}, but must be one of {', '.join(map(repr, choices))}.")
    if not 0 <= self.stochastic_depth < 1:
      raise ValueError(f"stochastic_depth is {self.stochastic_depth}, but must be at least 0 and less than 1.")
    for name in ("stages", "stem_widths"):
      if not getattr(self, name):
        raise ValueError(f"{name} is (), but must have at least one element.")
    for name, value in self._numbers():
      if value <= 0:
        raise ValueError(f"{name} is {value}, but must be greater than 0.")
    for block, width, _ in self.blocks:
      if block not in BLOCKS:
        raise ValueError(f"block is {block!r}, but must be one of {', '.join(map(repr, BLOCKS))}.")
      if block == "T" and width % self.head_size:
        wanted = f"must divide the width {width} of every Transformer stage"
        raise ValueError(f"head_size is {self.head_size}, but {wanted}.")

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
  "head_size",
  "attention_norm_epsilon",
  "attention_expansion",
)
CHOICES = {
  "activation": tuple(ACTIVATIONS),
  "pool": tuple(POOLS),
  "conv_stride": STRIDES_AT,
  "conv_norm": tuple(NORMS),
  "relative_attention": RELATIVE,
  "head": HEADS,
}


def with_overrides(spec: Spec, **overrides: Any) -> Spec:
  """`spec` with some fields replaced. Raises ValueError for a field it does not have, naming the nearest."""
  names = [field.name for field in dataclasses.fields(Spec)]
  for name in overrides:
    if name not in names:
      near = difflib.get_close_matches(name, names, n=3) or names
      raise ValueError(f"a model has no field {name!r}; did you mean {', '.join(near)}?")
  return dataclasses.replace(spec, **overrides)
