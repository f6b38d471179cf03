"""What a model costs: parameters, multiply-adds and activations, part by part, without running or allocating it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from convattn.layers.convnext import ConvNeXtBlock
from convattn.layers.mbconv import MBConv
from convattn.models.coatnet import CoAtNet, block_makers
from convattn.models.spec import Spec
from convattn.ops.windows import num_windows


@dataclasses.dataclass(frozen=True)
class Cost:
  """What one part of a model costs.

  Attributes:
    name: "stem", "stage_1/block_0", ..., "classifier".
    output: height, width and channels of its output image.
    parameters: learnable numbers (running averages are not).
    multiply_adds: per image.
    activations: per image, numbers that its convolutions, dense layers and attention products put out.
  """

  name: str
  output: tuple[int, int, int]
  parameters: int
  multiply_adds: int
  activations: int


class Work(NamedTuple):
  """Multiply-adds and outputs of products; `+` adds both."""

  multiply_adds: int = 0
  activations: int = 0

  # A tuple's own `+` appends, which is never meant here.
  def __add__(self, other: Work) -> Work:  # type: ignore[override]
    return Work(self.multiply_adds + other.multiply_adds, self.activations + other.activations)


def costs(model: CoAtNet, image_shape: tuple[int, int, int]) -> list[Cost]:
  """A row for the stem, for every block, and for the classifier.

  Both counts come from the spec and the shapes alone, and from the same operations: convolutions, dense layers (those
  of squeeze-and-excite and of a position MLP too) and the two attention products. Not counted: norms, activation
  functions, pooling, softmax, and making a bias over pairs of positions from its table. (The paper calls multiply-adds
  FLOPs; its figures are 1 to 4 % higher and seem to count the softmax.) Activations are those of Radosavovic et al.
  2020, who count the outputs of convolutions, and so those of products in a Transformer: query, key, value, the logits
  [heads, q, k], the weighted values and so on. A position MLP runs once for a batch; here once for an image.

  Args:
    model: a CoAtNet of any spec.
    image_shape: (height, width, channels) of one image.
  """
  parameters = _parameters(model, image_shape)
  spec, (height, width, channels) = model.spec, image_shape
  stem, (height, width) = _stem(spec, height, width, channels)
  channels = spec.stem_widths[-1]
  rows = [Cost("stem", (height, width, channels), parameters["stem"], *stem)]
  for s, stage in enumerate(spec.stages):
    for j, (kind, out_channels, stride) in enumerate(stage.blocks):
      before, (height, width) = height * width, (num_windows(height, stride), num_windows(width, stride))
      work = _BLOCKS[kind](spec, before, (height, width), channels, out_channels)
      channels = out_channels
      name = f"stage_{s + 1}/block_{j}"
      rows.append(Cost(name, (height, width, channels), parameters[name], *work))
  work = _dense(1, channels, channels) if spec.head == "tanh" else Work()
  work += _dense(1, channels, model.num_classes)
  rows.append(Cost("classifier", (1, 1, model.num_classes or channels), parameters["classifier"], *work))
  return rows


Row = TypeVar("Row", bound=Any)


def by_stage(rows: Sequence[Row]) -> list[Row]:
  """Rows of `costs` or `memory` with the blocks of each stage added up: "stem", "stage_1", ..., "classifier".

  Numbers are summed; anything else, such as the output image, is the last block's.
  """
  stages: dict[str, list[Row]] = {}
  for row in rows:
    stages.setdefault(row.name.partition("/")[0], []).append(row)
  return [_sum(name, members) for name, members in stages.items()]


def _sum(name: str, members: Sequence[Row]) -> Row:
  numbers = [field.name for field in dataclasses.fields(members[0]) if isinstance(getattr(members[0], field.name), int)]
  sums = {number: sum(getattr(row, number) for row in members) for number in numbers}
  return dataclasses.replace(members[-1], name=name, **sums)


def _parameters(model: CoAtNet, image_shape: tuple[int, int, int]) -> dict[str, int]:
  images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  params = jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)["params"]
  counts: dict[str, int] = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    part = path[0].key if not path[0].key.startswith("stage") else f"{path[0].key}/{path[1].key}"
    counts[part] = counts.get(part, 0) + math.prod(leaf.shape)
  return counts


def _dense(positions: int, channels: int, width: int) -> Work:
  return Work(positions * channels * width, positions * width)


def _depthwise(positions: int, kernel_size: int, width: int) -> Work:
  return Work(positions * kernel_size**2 * width, positions * width)


def _shortcut(positions: int, channels: int, width: int) -> Work:
  return _dense(positions, channels, width) if channels != width else Work()


def _feed_forward(positions: int, width: int, expansion: int) -> Work:
  return _dense(positions, width, expansion * width) + _dense(positions, expansion * width, width)


def _stem(spec: Spec, height: int, width: int, channels: int) -> tuple[Work, tuple[int, int]]:
  height, width = num_windows(height, spec.stem_stride), num_windows(width, spec.stem_stride)
  work = Work()
  for out_channels in spec.stem_widths:
    work += _dense(height * width, spec.stem_kernel**2 * channels, out_channels)
    channels = out_channels
  return work, (height, width)


def _mbconv(spec: Spec, before: int, grid: tuple[int, int], channels: int, width: int) -> Work:
  """`before`: pixels in front of the stride, `grid`: (height, width) behind it."""
  expanded, hidden = block_makers(spec)["C"](width=width).hidden_widths(channels)
  after = math.prod(grid)
  at_expansion = before if spec.conv_stride == "depthwise" else after
  squeeze_excite = _dense(1, expanded, hidden) + _dense(1, hidden, expanded)
  branch = _dense(at_expansion, channels, expanded) + _depthwise(after, MBConv.kernel_size, expanded) + squeeze_excite
  return _shortcut(after, channels, width) + branch + _dense(after, expanded, width)


def _convnext(spec: Spec, before: int, grid: tuple[int, int], channels: int, width: int) -> Work:
  del before  # the stride is in the first operation, or in front of it
  after = math.prod(grid)
  depthwise = _depthwise(after, ConvNeXtBlock.kernel_size, width)
  return _shortcut(after, channels, width) + depthwise + _feed_forward(after, width, spec.conv_expansion)


def _transformer(spec: Spec, before: int, grid: tuple[int, int], channels: int, width: int) -> Work:
  del before  # pooling comes first
  after, inner = math.prod(grid), {"output": width, "input": channels}[spec.attention_width_from]
  heads = inner // spec.head_size
  projections = _dense(after, channels, 3 * inner) + _dense(after, inner, width)
  products = Work(after * after * inner, heads * after * after) + _dense(after, after, inner)
  work = _shortcut(after, channels, width) + projections + products
  work += _feed_forward(after, width, spec.attention_expansion)
  if spec.relative_position == "mlp" and spec.relative_attention != "none":
    shifts = math.prod(2 * size - 1 for size in grid)
    work += _dense(shifts, 2, spec.relative_hidden) + _dense(shifts, spec.relative_hidden, heads)
  return work


_BLOCKS = {"C": _mbconv, "T": _transformer, "X": _convnext}
