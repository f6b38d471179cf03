"""The depthwise convolutions of a model: their kernels, and where what they put out lies in the image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn.analysis.attention_map import Grid
from convattn.analysis.capture import evaluation
from convattn.analysis.geometry import Following, strided
from convattn.layers.convolution import DepthwiseConv


@dataclasses.dataclass(frozen=True, eq=False)
class ConvolutionKernel:
  """One depthwise convolution.

  Attributes:
    layer: path of the module, such as "stage_1/block_0/depthwise".
    kernel: float32 [kh, kw, channels]; out[p, c] = sum_t kernel[t, c] x[stride p + t, c] around the middle tap.
    stride: down and across, in cells of its input.
    grid: of the cells that it puts out.
  """

  layer: str
  kernel: np.ndarray
  stride: tuple[int, int]
  grid: Grid

  @property
  def taps(self) -> np.ndarray:
    """float32 [kh, kw]: the length of each tap over the channels."""
    return np.linalg.norm(self.kernel, axis=-1)


def convolution_kernels(model: nn.Module, variables: Any, images: Any) -> list[ConvolutionKernel]:
  """Of every `layers.DepthwiseConv` in a model, in the order of the forward pass; one that is called twice once.

  Nothing is computed: the model is traced for the sizes of its images.

  Args:
    model: called for inference.
    variables: its own.
    images: [b, h, w, c] as the model takes them, of which the shape counts.
  """
  shape = np.shape(images)
  following, found = Following((shape[1], shape[2])), dict[str, ConvolutionKernel]()

  def note(method: Callable[..., Any], arguments: Any, options: Any, context: nn.module.InterceptorContext) -> Any:
    out, module = method(*arguments, **options), context.module
    if isinstance(module, DepthwiseConv) and context.method_name == "__call__":
      given = following.grids[module.path][-1]
      assert given is not None
      grid = strided(given, out.shape[1:3], module.stride)
      layer, kernel = "/".join(module.path), _kernel(variables["params"], module.path)
      found.setdefault(layer, ConvolutionKernel(layer, kernel, (module.stride, module.stride), grid))
    return out

  def run(variables: Any, images: jax.Array) -> Any:
    with nn.intercept_methods(note), nn.intercept_methods(following):
      return model.apply(variables, images, **evaluation(model))

  jax.eval_shape(run, variables, jax.ShapeDtypeStruct((1, *shape[1:]), jnp.float32))
  return [*found.values()]


def _kernel(params: Any, path: tuple[str, ...]) -> np.ndarray:
  """[kh, kw, channels] of the module at a path."""
  for name in path:
    params = params[name]
  return np.asarray(nn.meta.unbox(params["kernel"]), np.float32)[:, :, 0]
