"""What a model costs: parameters and multiply-adds, part by part, without running or even allocating it."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from convattn.layers.mbconv import MBConv
from convattn.layers.squeeze_excite import squeezed_width
from convattn.models.coatnet import CoAtNet
from convattn.models.spec import Spec
from convattn.ops.windows import num_windows


@dataclasses.dataclass(frozen=True)
class Cost:
  """One part of a model: its output image (height, width, channels), learnable parameters, multiply-adds per image."""

  name: str
  output: tuple[int, int, int]
  parameters: int
  multiply_adds: int


def costs(model: CoAtNet, image_shape: tuple[int, int, int]) -> list[Cost]:
  """A row for the stem, for every block, and for the classifier.

  Multiply-adds are those of convolutions, dense layers, squeeze-and-excite and the two attention products, from the
  spec and the shapes alone. Not counted: norms, activations, pooling, softmax, and the expansion of the bias table.
  (The paper calls multiply-adds FLOPs; its figures are 1 to 4 % higher and seem to count the softmax.)

  Args:
    model: a CoAtNet of any spec.
    image_shape: (height, width, channels) of one image.
  """
  parameters = _parameters(model, image_shape)
  spec, (height, width, channels) = model.spec, image_shape
  stem, (height, width) = _stem(spec, height, width, channels)
  channels = spec.stem_widths[-1]
  rows = [Cost("stem", (height, width, channels), parameters["stem"], stem)]
  for s, stage in enumerate(spec.stages):
    for j, (kind, out_channels, stride) in enumerate(stage.blocks):
      before, (height, width) = height * width, (num_windows(height, stride), num_windows(width, stride))
      count = {"C": _conv_block, "T": _transformer_block}[kind]
      work = count(spec, before, height * width, channels, out_channels)
      channels = out_channels
      name = f"stage_{s + 1}/block_{j}"
      rows.append(Cost(name, (height, width, channels), parameters[name], work))
  hidden = channels * channels if spec.head == "tanh" else 0
  work = hidden + channels * model.num_classes
  rows.append(Cost("classifier", (1, 1, model.num_classes or channels), parameters["classifier"], work))
  return rows


def _parameters(model: CoAtNet, image_shape: tuple[int, int, int]) -> dict[str, int]:
  images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  params = jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)["params"]
  counts: dict[str, int] = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    part = path[0].key if not path[0].key.startswith("stage") else f"{path[0].key}/{path[1].key}"
    counts[part] = counts.get(part, 0) + math.prod(leaf.shape)
  return counts


def _stem(spec: Spec, height: int, width: int, channels: int) -> tuple[int, tuple[int, int]]:
  height, width = num_windows(height, spec.stem_stride), num_windows(width, spec.stem_stride)
  work = 0
  for out_channels in spec.stem_widths:
    work += height * width * spec.stem_kernel**2 * channels * out_channels
    channels = out_channels
  return work, (height, width)


def _conv_block(spec: Spec, before: int, after: int, channels: int, width: int) -> int:
  """`before` and `after`: pixels in front of and behind the stride."""
  expanded, hidden = spec.conv_expansion * width, squeezed_width(width, spec.squeeze_ratio)
  at_expansion = after if spec.conv_stride == "expand" else before
  shortcut = after * channels * width if channels != width else 0
  products = at_expansion * channels * expanded + after * expanded * width
  return shortcut + products + after * MBConv.kernel_size**2 * expanded + 2 * expanded * hidden


def _transformer_block(spec: Spec, before: int, after: int, channels: int, width: int) -> int:
  del before  # pooling comes first
  shortcut = after * channels * width if channels != width else 0
  attention = after * (3 * channels * width + width * width) + 2 * after * after * width
  return shortcut + attention + 2 * after * spec.attention_expansion * width * width
