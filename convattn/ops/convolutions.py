"""Convolutions (cross-correlations, as everywhere in deep learning) over images [b, h, w, c]."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from convattn.ops.gradients import matmul_precision, with_gradients
from convattn.ops.shapes import check_shapes
from convattn.ops.windows import shifted_slices, window_padding


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


def kernel_gradient_by_rows(x: jax.Array, cotangent: jax.Array, *, stride: int, window: tuple[int, int]) -> jax.Array:
  """The gradient of `conv` in its kernel, as a loop over the rows p of the output: [i, j, c, o].

      gradient[i, j] = sum_p sum_{b,q} x[b, s p + i - before, s q + j - before]' cotangent[b, p, q]

  A row of the image stays in the cache while every place (i, j) of the kernel sees it.

  Args:
    x: [b, h, w, c], zero outside.
    cotangent: [b, ceil(h/s), ceil(w/s), o].
    stride: s.
    window: (i, j), rows and columns of the kernel.
  """

  wide = jnp.promote_types(x.dtype, jnp.float32)

  def product(seen: jax.Array, row: jax.Array) -> jax.Array:
    left, right = (a.reshape(-1, a.shape[-1]) for a in (seen, row))
    return jax.lax.dot_general(left, right, (((0,), (0,)), ((), ())), "highest", preferred_element_type=wide)

  return (
    jnp.stack(_sum_of_rows(x, cotangent, stride, window, product))
    .reshape(*window, x.shape[-1], cotangent.shape[-1])
    .astype(x.dtype)
  )


def depthwise_kernel_gradient_by_rows(
  x: jax.Array, cotangent: jax.Array, *, stride: int, window: tuple[int, int]
) -> jax.Array:
  """The gradient of `depthwise_conv` in its kernel: [i, j, 1, c]. As `kernel_gradient_by_rows`, with o = c.

  A row of sums per place of the kernel grows by plain vector arithmetic, and is added up at the end. (XLA's own
  reductions take three times as long on a CPU: they read both images once per place.)
  """
  wide = jnp.promote_types(x.dtype, jnp.float32)
  rows = _sum_of_rows(x.astype(wide), cotangent.astype(wide), stride, window, jnp.multiply)
  return jnp.stack([row.sum((0, 1)) for row in rows]).reshape(*window, 1, x.shape[-1]).astype(x.dtype)


def _sum_of_rows(
  x: jax.Array, cotangent: jax.Array, stride: int, window: tuple[int, int], product: Callable[..., jax.Array]
) -> list[jax.Array]:
  """For every place (i, j): the sum over p of product(what (i, j) sees of x in row p, row p of the cotangent)."""
  padding = [(0, 0), *(window_padding(x.shape[1 + axis], window[axis], stride) for axis in range(2)), (0, 0)]
  padded = jnp.pad(x, padding)
  rows, columns = cotangent.shape[1:3]
  limit = (columns - 1) * stride + 1

  def terms(p: jax.Array) -> list[jax.Array]:
    band = jax.lax.dynamic_slice_in_dim(padded, p * stride, window[0], 1)
    row = jax.lax.dynamic_index_in_dim(cotangent, p, 1, keepdims=False)
    return [product(band[:, i, j : j + limit : stride], row) for i in range(window[0]) for j in range(window[1])]

  def add(sums: list[jax.Array], p: jax.Array) -> tuple[list[jax.Array], None]:
    return [total + term for total, term in zip(sums, terms(p), strict=True)], None

  zeros = [jnp.zeros(term.shape, term.dtype) for term in jax.eval_shape(terms, jnp.zeros((), jnp.int32))]
  return jax.lax.scan(add, zeros, jnp.arange(rows))[0]


def _depthwise_x_gradient(kernel: jax.Array, cotangent: jax.Array, x: Any, **static: Any) -> jax.Array:
  def xla(kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
    return jax.linear_transpose(lambda x: _xla_conv(x, kernel, **static), x)(cotangent)[0]

  shifted = functools.partial(depthwise_x_gradient_shifted, stride=static["stride"], size=x.shape[1:3])
  return jax.lax.platform_dependent(kernel, cotangent, cpu=shifted, default=xla)


def depthwise_x_gradient_shifted(
  kernel: jax.Array, cotangent: jax.Array, *, stride: int, size: tuple[int, int]
) -> jax.Array:
  """The gradient of `depthwise_conv` in x: its cotangent, spread by the stride, convolved with the turned kernel.

  JAX derives a sum of padded images instead. XLA computes one number after another in it, with all that follows, such
  as the slope of an activation: 677 ms for the gradient of a strided MBConv block at 112x112 in place of 510.

  Args:
    kernel: [i, j, 1, c].
    cotangent: [b, ceil(h/s), ceil(w/s), c].
    stride: s.
    size: (h, w).

  Returns:
    [b, h, w, c] in the cotangent's dtype.
  """
  padding = [(0, 0, 0)]
  for axis in range(2):
    before, _ = window_padding(size[axis], kernel.shape[axis], stride)
    front = kernel.shape[axis] - 1 - before
    spread = (cotangent.shape[1 + axis] - 1) * stride + 1
    padding.append((front, size[axis] + before - spread, stride - 1))
  spread_out = jax.lax.pad(cotangent, jnp.zeros((), cotangent.dtype), [*padding, (0, 0, 0)])
  wide = jnp.promote_types(cotangent.dtype, jnp.float32)
  turned = kernel[::-1, ::-1].astype(wide)
  terms = (
    spread_out[:, i : i + size[0], j : j + size[1]].astype(wide) * turned[i, j][None, None]
    for i in range(kernel.shape[0])
    for j in range(kernel.shape[1])
  )
  return functools.reduce(jnp.add, terms).astype(cotangent.dtype)


_conv = with_gradients(_xla_conv, kernel_gradient=_kernel_gradient(kernel_gradient_by_rows))
_depthwise = with_gradients(
  _depthwise_product,
  kernel_gradient=_kernel_gradient(depthwise_kernel_gradient_by_rows),
  x_gradient=_depthwise_x_gradient,
)
