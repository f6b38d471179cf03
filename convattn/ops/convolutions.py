"""Convolutions (cross-correlations, as everywhere in deep learning) over images [b, h, w, c]."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from convattn.ops.convolution_gradients_on_cpu import (
  depthwise_kernel_gradient_by_rows,
  depthwise_x_gradient_shifted,
  kernel_gradient_by_rows,
)
from convattn.ops.gradients import matmul_precision, with_gradients
from convattn.ops.meshes import on_any_mesh
from convattn.ops.shapes import check_shapes
from convattn.ops.windows import shifted_slices, window_padding


@on_any_mesh
def conv(x: jax.Array, kernel: jax.Array, *, stride: int = 1) -> jax.Array:
  """Dense convolution: out[b, p, q, o] = sum_{i,j,c} x[b, s p + i - before, s q + j - before, c] kernel[i, j, c, o].

  On a CPU the kernel's gradient is a loop of matrix products (`kernel_gradient_by_rows`): 80 ms in place of 193 for
  8x112x112, 64 to 64 channels, 3x3, float32, on 2 cores. On other platforms it is XLA's.

  Args:
    x: [b, h, w, c], zero outside.
    kernel: [i, j, c, o].
    stride: s.

  Returns:
    [b, ceil(h/s), ceil(w/s), o]; padding as in `window_padding`.

  Raises:
    AssertionError: a shape does not fit.
  """
  check_shapes(x=(x, "b h w c"), kernel=(kernel, "i j c o"))
  return _conv(x, kernel, stride=stride, groups=1, precision=matmul_precision())


@on_any_mesh
def depthwise_conv(x: jax.Array, kernel: jax.Array, *, stride: int = 1) -> jax.Array:
  """One filter per channel: out[b, p, q, c] = sum_{i,j} x[b, s p + i - before, s q + j - before, c] kernel[i, j, 0, c].

  On a CPU it is lowered to shifted multiply-adds, and so are its gradients: measured at 8x56x56x384, 3x3, float32, 2
  cores, 19 ms where XLA's grouped convolution takes 237, and for the gradient in both 59 against 1,402 (104 as JAX
  derives it from the shifted form). On other platforms, where the shifted form is unmeasured, it is the grouped
  convolution. The program, not the machine it is traced on, decides.

  Args:
    x: [b, h, w, c], zero outside.
    kernel: [i, j, 1, c].
    stride: s.

  Returns:
    [b, ceil(h/s), ceil(w/s), c] in x's dtype; padding as in `window_padding`.

  Raises:
    AssertionError: a shape does not fit, or x and kernel differ in dtype.
  """
  check_shapes(x=(x, "b h w c"), kernel=(kernel, "i j 1 c"))
  chex.assert_type(kernel, x.dtype, custom_message=f"argument 'kernel' is {kernel.dtype}, but must be x's {x.dtype}")
  return _depthwise(x, kernel, stride=stride, groups=x.shape[-1], precision=matmul_precision())


@on_any_mesh
def depthwise_conv_shifted(x: jax.Array, kernel: jax.Array, *, stride: int = 1) -> jax.Array:
  """`depthwise_conv` as a sum of shifted images, each times its place in the kernel. No convolution operation."""
  sizes = check_shapes(x=(x, "b h w c"), kernel=(kernel, "i j 1 c"))
  # Sums of bfloat16 products in float32, as a convolution does it.
  wide = jnp.promote_types(x.dtype, jnp.float32)
  terms = (
    part.astype(wide) * kernel[i, j][None, None].astype(wide)
    for (i, j), part in shifted_slices(x, (sizes["i"], sizes["j"]), stride, 0.0)
  )
  return functools.reduce(jnp.add, terms).astype(x.dtype)


@on_any_mesh
def depthwise_conv_grouped(x: jax.Array, kernel: jax.Array, *, stride: int = 1) -> jax.Array:
  """`depthwise_conv` as XLA's convolution with one group per channel: the reference."""
  sizes = check_shapes(x=(x, "b h w c"), kernel=(kernel, "i j 1 c"))
  return _xla_conv(x, kernel, stride=stride, groups=sizes["c"], precision=None)


def _xla_conv(x: jax.Array, kernel: jax.Array, *, stride: int, groups: int, precision: Any) -> jax.Array:
  padding = [window_padding(x.shape[1 + axis], kernel.shape[axis], stride) for axis in range(2)]
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
    precision=precision,
  )


def _depthwise_product(x: jax.Array, kernel: jax.Array, **static: Any) -> jax.Array:
  return jax.lax.platform_dependent(
    x,
    kernel,
    cpu=functools.partial(depthwise_conv_shifted, stride=static["stride"]),
    default=functools.partial(_xla_conv, **static),
  )


def _kernel_gradient(by_rows: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
  """By `by_rows` on a CPU, by XLA elsewhere."""

  def gradient(x: jax.Array, cotangent: jax.Array, kernel: Any, **static: Any) -> jax.Array:
    def xla(x: jax.Array, cotangent: jax.Array) -> jax.Array:
      return jax.linear_transpose(lambda kernel: _xla_conv(x, kernel, **static), kernel)(cotangent)[0]

    window = kernel.shape[:2]
    rows = functools.partial(by_rows, stride=static["stride"], window=window)
    # A term for every place of the kernel: a patch embedding's 256 would take long to compile.
    return jax.lax.platform_dependent(x, cotangent, cpu=rows if math.prod(window) <= 49 else xla, default=xla)

  return gradient


def _depthwise_x_gradient(kernel: jax.Array, cotangent: jax.Array, x: Any, **static: Any) -> jax.Array:
  def xla(kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
    return jax.linear_transpose(lambda x: _xla_conv(x, kernel, **static), x)(cotangent)[0]

  shifted = functools.partial(depthwise_x_gradient_shifted, stride=static["stride"], size=x.shape[1:3])
  return jax.lax.platform_dependent(kernel, cotangent, cpu=shifted, default=xla)


_conv = with_gradients(_xla_conv, kernel_gradient=_kernel_gradient(kernel_gradient_by_rows))
_depthwise = with_gradients(
  _depthwise_product,
  kernel_gradient=_kernel_gradient(depthwise_kernel_gradient_by_rows),
  x_gradient=_depthwise_x_gradient,
)
