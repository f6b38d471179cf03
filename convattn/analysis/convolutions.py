"""What every convolution of a model looks at: its kernel, how much each tap weighs, and which pixels a tap reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from convattn.analysis.attention_map import Grid
from convattn.analysis.capture import evaluation
from convattn.analysis.geometry import Following
from convattn.layers.convolution import DepthwiseConv


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
    """[taps, 2]: from the middle of an output's cell to the middle of what each tap reads, in pixels: key - query."""
    centres = self.key_grid.centres()[self.key_cells] - self.query_grid.centres()[:, None]
    inside = self.key_cells >= 0
    if not inside.any(0).all():
      raise ValueError(f"{self.layer}: the image is so small that some taps read nothing but padding.")
    return centres[inside.argmax(0), np.arange(inside.shape[1])]

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
  found: list[ConvolutionKernel] = []
  following = Following(tuple(images.shape[1:3]))
  one = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
  options = evaluation(model)
  with nn.intercept_methods(_noting(following, variables, found)), nn.intercept_methods(following):
    # A function of its own each time: a program known from before would call no module.
    jax.eval_shape(lambda variables, images: model.apply(variables, images, **options), variables, one)
  return found


def _noting(following: Following, variables: Any, found: list[ConvolutionKernel]) -> Callable[..., Any]:
  """Adds each convolution to `found` after its call."""

  def call(method: Callable[..., Any], arguments: Any, options: Any, context: nn.module.InterceptorContext) -> Any:
    module, grid = context.module, following.grid
    out = method(*arguments, **options)
    if context.method_name == "__call__" and isinstance(module, tuple(_READS)):
      below = following.grids[module.path][-1]
      assert below is not None and following.grid is not None
      kernel = _kernel(module, variables)
      if kernel.shape[0] * kernel.shape[1] > 1:
        cells = next(read for kind, read in _READS.items() if isinstance(module, kind))(module, below)
        name = "/".join(module.path) or type(module).__name__
        depthwise = isinstance(module, DepthwiseConv)
        found.append(ConvolutionKernel(name, kernel, depthwise, following.grid, below, cells))
    return out

  return call
