"""What every convolution of a model looks at: its kernel, how much each tap weighs, and which pixels a tap reads."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn.analysis.attention_map import Grid
from convattn.analysis.capture import evaluation
from convattn.analysis.geometry import Following
from convattn.layers.causal import CausalConv
from convattn.layers.convolution import Conv, DepthwiseConv
from convattn.ops.windows import shifted_slices


@dataclasses.dataclass(frozen=True, eq=False)
class ConvolutionKernel:
  """One convolution.

  Attributes:
    layer: path of the module, such as "stage_1/block_0/depthwise".
    kernel: float32 [rows, columns, channels that an output channel sees, output channels]; not flipped.
    depthwise: every output channel sees one input channel.
    query_grid: of its outputs.
    key_grid: of its inputs.
    key_cells: [outputs, taps], the input that each tap reads for each output, taps row by row; -1: padding.
  """

  layer: str
  kernel: np.ndarray
  depthwise: bool
  query_grid: Grid
  key_grid: Grid
  key_cells: np.ndarray

  @property
  def tap_norms(self) -> np.ndarray:
    """[rows, columns]: the length of each tap's weights, sqrt(sum of kernel^2 over channels)."""
    return np.sqrt(np.square(self.kernel, dtype=np.float64).sum((2, 3))).astype(np.float32)

  @property
  def shifts(self) -> np.ndarray:
    """[taps, 2]: from the middle of an output's cell to the middle of what a tap reads, in pixels: key - query.

    nan for a tap that reads nothing but padding, the image being small.
    """
    centres = self.key_grid.centres()[self.key_cells] - self.query_grid.centres()[:, None]
    inside = self.key_cells >= 0
    first = centres[inside.argmax(0), np.arange(inside.shape[1])]
    return np.where(np.any(inside, axis=0, keepdims=True).T, first, np.nan)

  def boxes(self, output: int) -> np.ndarray:
    """[taps, 4]: top, left, bottom and right of the cell that each tap reads for an output, in pixels; nan: padding.

    The pixels that these cells stand for: what lies before the convolution reads more around them.
    """
    cells = self.key_cells[output]
    return np.where((cells >= 0)[:, None], self.key_grid.boxes()[cells], np.nan)


def convolution_kernels(model: nn.Module, variables: Any, images: Any) -> list[ConvolutionKernel]:
  """Each convolution of a model that is wider than one pixel, in the order of the forward pass; nothing is computed.

  Looked at are our layers Conv, DepthwiseConv and CausalConv, wherever a model calls them: so of an MBConv the
  depthwise convolution, whose taps are what an output reads of the block's input, but for squeeze-and-excite, which
  scales each channel by a mean over the whole image, and the shortcut around it, which reads the output's own cell.

  Args:
    model: called as model.apply(variables, images), with train=False or deterministic=True where it takes that.
    variables: all of them.
    images: [b, h, w, c], or their shape and dtype.

  Raises:
    ValueError: images of another rank.
  """
  if len(images.shape) != 4:
    raise ValueError(f"images have shape {images.shape}, but must be [b, h, w, c].")
  calls: list[tuple[nn.Module, Grid, Grid]] = []

  def visit(module: nn.Module, below: Grid, above: Grid) -> None:
    if isinstance(module, (Conv, DepthwiseConv, CausalConv)):
      calls.append((module, below, above))

  one = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
  options = evaluation(model)
  with nn.intercept_methods(Following((images.shape[1], images.shape[2]), visit)):
    # A function of its own each time: a program known from before would call no module.
    jax.eval_shape(lambda variables, images: model.apply(variables, images, **options), variables, one)
  found = [_kernel(module, variables["params"], *grids) for module, *grids in calls]
  return [each for each in found if each.key_cells.shape[1] > 1]


def _kernel(module: Any, params: Any, below: Grid, above: Grid) -> ConvolutionKernel:
  for part in module.path:
    params = params[part]
  kernel = np.asarray(nn.meta.unbox(params["kernel"]), np.float32)
  causal, depthwise = isinstance(module, CausalConv), isinstance(module, DepthwiseConv)
  cells = (_behind if causal else _around)(module, below)
  name = "/".join(module.path) or type(module).__name__
  return ConvolutionKernel(name, kernel[None] if causal else kernel, depthwise, above, below, cells)


def _around(module: Conv | DepthwiseConv, grid: Grid) -> np.ndarray:
  """What each tap of each output reads: the numbers of the pixels, cut as the layer cuts its image."""
  numbers = jnp.arange(1, grid.cells + 1).reshape(1, grid.height, grid.width, 1)
  window = (module.kernel_size, module.kernel_size)
  return np.stack([np.ravel(part) for _, part in shifted_slices(numbers, window, module.stride, 0)], -1) - 1


def _behind(module: CausalConv, grid: Grid) -> np.ndarray:
  rows, columns = (np.arange(0, size, module.stride) for size in (grid.height, grid.width))
  read = columns[:, None] - (module.taps - 1 - np.arange(module.taps)) * module.dilation
  cells = np.where(read >= 0, rows[:, None, None] * grid.width + read, -1)
  return cells.reshape(-1, module.taps)
