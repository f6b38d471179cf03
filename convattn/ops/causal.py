"""Convolution over a sequence that never looks ahead."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from convattn.ops.meshes import on_any_mesh
from convattn.ops.shapes import check_shapes


@on_any_mesh
def causal_conv(x: jax.Array, kernel: jax.Array, *, dilation: int = 1) -> jax.Array:
  """out[b, t] = sum_j x[b, t - (taps - 1 - j) dilation] kernel[j], zero before the start (van den Oord et al. 2016).

  The last tap sees the present. A sum of matrix products, one for each tap.

  Args:
    x: [b, t, c].
    kernel: [taps, c, o].
    dilation: steps between neighbouring taps.

  Returns:
    [b, t, o] in x's dtype.

  Raises:
    AssertionError: a shape does not fit.
    ValueError: the dilation is not positive.
  """
  sizes = check_shapes(x=(x, "b t c"), kernel=(kernel, "j c o"))
  if dilation < 1:
    raise ValueError(f"dilation is {dilation}, but must be at least 1.")
  taps, length = sizes["j"], sizes["t"]
  padded = jnp.pad(x, [(0, 0), ((taps - 1) * dilation, 0), (0, 0)])
  wide = jnp.promote_types(x.dtype, jnp.float32)
  terms = (
    jnp.einsum("btc,co->bto", padded[:, j * dilation : j * dilation + length], kernel[j], preferred_element_type=wide)
    for j in range(taps)
  )
  return functools.reduce(jnp.add, terms).astype(x.dtype)
