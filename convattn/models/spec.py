"""What a CoAtNet is, as data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from convattn.errors import UserError
from convattn.fields import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, misfit, nothing_of, setting, settings_of, type_hints
from convattn.layers import convnext
from convattn.layers.activations import ACTIVATIONS
from convattn.layers.attention import RELATIVE, RelativeAttention
from convattn.layers.causal import CausalBlock
from convattn.layers.classifier import HEADS, Classifier
from convattn.layers.grid_positions import POSITIONS, TABLE_RESIZE, BiasMLP, BiasTable
from convattn.layers.mbconv import EXPAND_FROM, SQUEEZE_AT, SQUEEZE_FROM, STRIDES_AT, MBConv
from convattn.layers.normalization import NORMS
from convattn.layers.shortcut import POOLS, Shortcut
from convattn.layers.stem import Stem
from convattn.layers.transformer import WIDTH_FROM, TransformerBlock

BLOCKS = ("C", "T", "X", "D")


@dataclasses.dataclass(frozen=True)
class Run:
  """`depth` blocks in a row of `width` channels.

  block: "C" (MBConv), "T" (Transformer with relative attention), "X" (ConvNeXt) or "D" (dilated causal convolutions).
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
  """A whole model. Defaults are those of the layers: the paper's, and where it is silent timm's of the same shape.

  Raises:
    UserError: a value that a setting does not take, or blocks that do not fit each other.
  """

  stages: tuple[Stage, ...]
  stem_widths: tuple[int, ...]
  stem_kernel: int = setting(Stem.kernel_size, "height and width of the stem's kernels", COUNT, largest=2**10)
  stem_stride: int = setting(Stem.stride, "stride of the stem's first convolution", COUNT, largest=2**10)
  # Google's code family has them; published counts cannot tell.
  stem_bias: bool = setting(Stem.use_bias, "biases in the stem's convolutions")
  # "max" and "avg" have window = stride, "max3x3" overlaps.
  pool: str = setting(Shortcut.pool, "pooling in front of a strided stage: 'max', 'avg' or 'max3x3'", choices=POOLS)
  conv_activation: str = setting(
    MBConv.activation, "of stem, MBConv, ConvNeXt: 'gelu' (exact), 'gelu_tanh', 'silu', 'relu'", choices=ACTIVATIONS
  )
  conv_pre_norm_activation: bool = setting(MBConv.pre_norm_activation, "activation behind MBConv's first norm too")
  conv_stride: str = setting(
    MBConv.stride_at,
    "where MBConv strides: 'expand' (paper, eq. 5), 'depthwise' (Table 9) or 'pool' (a mean in front of it)",
    choices=STRIDES_AT,
  )
  conv_norm: str = setting(
    MBConv.norm, "norm of stem and convolution blocks: 'batch' or 'layer' (Table 8)", choices=NORMS
  )
  conv_norm_epsilon: float = setting(
    MBConv.norm_epsilon, "added to the variance in stem and convolution blocks", POSITIVE
  )
  conv_expansion: int = setting(
    MBConv.expansion, "a convolution block's inner width over its outer width", COUNT, largest=2**10
  )
  conv_expand_from: str = setting(
    MBConv.expand_from, "that outer width is MBConv's 'output' or its 'input'", choices=EXPAND_FROM
  )
  conv_bias: bool = setting(MBConv.use_bias, "biases in MBConv's shortcut and last product, and all of ConvNeXt's")
  conv_layer_scale: float = setting(
    0.0, "initial scale of ConvNeXt's branch; 0: no scale", NOT_NEGATIVE, weights_need=bool
  )
  causal_depth: int = setting(
    CausalBlock.depth, "convolutions of a block D, of dilations 1, 2, 4 and so on", COUNT, largest=2**4
  )
  causal_taps: int = setting(
    CausalBlock.taps, "pixels of a row that each of them sees, itself the last", COUNT, largest=2**10
  )
  squeeze_ratio: float = setting(
    MBConv.squeeze_ratio, "squeeze-and-excite's hidden width over MBConv's width", POSITIVE
  )
  squeeze_from: str = setting(
    MBConv.squeeze_from, "that width is MBConv's 'output' or its 'expanded' one", choices=SQUEEZE_FROM
  )
  squeeze_at: str = setting(
    MBConv.squeeze_at, "squeeze-and-excite 'after' or 'before' the depthwise convolution's norm", choices=SQUEEZE_AT
  )
  squeeze_activation: str = setting(
    MBConv.squeeze_activation, "of squeeze-and-excite: 'gelu', 'gelu_tanh', 'silu' or 'relu'", choices=ACTIVATIONS
  )
  relative_attention: str = setting(
    RelativeAttention.relative, "'pre' or 'post' softmax (paper, section 2.1), or 'none'", choices=RELATIVE
  )
  relative_position: str = setting(
    RelativeAttention.position,
    "bias from a 'table', or an 'mlp' over log-spaced shifts, for any grid",
    choices=POSITIONS,
  )
  relative_hidden: int = setting(BiasMLP.hidden, "hidden width of that MLP", COUNT, largest=2**16)
  relative_dropout: float = setting(
    BiasMLP.dropout, "share of its hidden units dropped in training", SHARE, weights_need=nothing_of
  )
  table_resize: str = setting(
    BiasTable.resize,
    "fit a table to the image in every call: 'none', 'bilinear' or 'timm'",
    choices=TABLE_RESIZE,
    weights_need=nothing_of,
  )
  head_size: int = setting(TransformerBlock.head_size, "width of one attention head", COUNT, largest=2**16)
  attention_width_from: str = setting(
    TransformerBlock.width_from, "attention is as wide as its block's 'output' or 'input'", choices=WIDTH_FROM
  )
  attention_norm: str = setting(
    TransformerBlock.norm, "norm of Transformer blocks and classifier: 'layer' or 'batch'", choices=NORMS
  )
  attention_norm_epsilon: float = setting(
    TransformerBlock.norm_epsilon, "added to the variance in Transformer blocks and classifier", POSITIVE
  )
  attention_activation: str = setting(
    TransformerBlock.activation, "of the feed-forward network, as conv_activation", choices=ACTIVATIONS
  )
  attention_expansion: int = setting(
    TransformerBlock.expansion, "the feed-forward network's inner width over its output width", COUNT, largest=2**10
  )
  attention_shortcut_bias: bool = setting(TransformerBlock.shortcut_bias, "biases in a Transformer block's shortcut")
  attention_layer_scale: float = setting(
    TransformerBlock.layer_scale,
    "initial scale of a Transformer block's branches; 0: no scale",
    NOT_NEGATIVE,
    weights_need=bool,
  )
  head: str = setting(
    Classifier.kind,
    "classifier: 'tanh' (mean, norm, dense, tanh, dense), 'plain' (mean, norm, dense) or 'norm_first'",
    choices=HEADS,
  )
  stochastic_depth: float = setting(
    0.0, "rate of the last block; rises linearly from 0 at the first", SHARE, weights_need=nothing_of
  )

  def __post_init__(self):
    check_settings(self)
    for name in ("stages", "stem_widths"):
      if not getattr(self, name):
        raise UserError(f"{name} is (), but must have at least one element.")
    for name, value in self._sizes():
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

  def _sizes(self) -> Iterator[tuple[str, int]]:
    yield from (("a stem width", width) for width in self.stem_widths)
    for stage in self.stages:
      yield "a stage's stride", stage.stride
      yield "a stage's number of blocks", len(stage.blocks)
      yield from (("a stage's width", run.width) for run in stage.runs)

  @property
  def blocks(self) -> list[tuple[str, int, int]]:
    """(block, width, stride) of every block of every stage in order."""
    return [block for stage in self.stages for block in stage.blocks]

  @property
  def stride(self) -> int:
    """Pixels of the image from one cell of the last grid to the next, on each axis."""
    return math.prod((self.stem_stride, *(stage.stride for stage in self.stages)))


def check_settings(spec: object) -> None:
  """Each setting of a spec must be of its type and within its range or choices.

  Raises:
    UserError: one is not, with its value and what is wanted.
  """
  for field in settings_of(type(spec)):
    value = getattr(spec, field.name)
    wanted = misfit(field, type_hints(type(spec))[field.name], value)
    if wanted:
      raise UserError(f"{field.name} is {value!r}, but must be {wanted}.")
