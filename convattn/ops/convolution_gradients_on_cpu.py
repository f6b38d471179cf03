"""Gradients of convolutions in the forms that are fast on a CPU; elsewhere XLA's own are used (see convolutions)."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from convattn.ops.windows import window_padding


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
