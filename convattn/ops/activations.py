"""Activation functions."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp


@jax.custom_jvp
def gelu(x: jax.Array) -> jax.Array:
  """x P(X <= x) for a standard normal X, by the error function (Hendrycks & Gimpel 2016), in x's dtype and shape.

  `jax.nn.gelu(x, approximate=False)` computes erfc, which keeps relative precision where the value itself vanishes
  (x < -4) and costs a division and an exponential; here the absolute error is one rounding of x. Measured at
  8x56x56x384, float32, 2 CPU cores: 2.3 ms against 5.5, and 5.4 against 6.8 for the gradient.
  """
  wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  return (0.5 * wide * (1 + jax.lax.erf(wide * math.sqrt(0.5)))).astype(x.dtype)


@gelu.defjvp
def _gelu_jvp(primals, tangents):
  (x,), (dx,) = primals, tangents
  wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  density = jnp.exp(-0.5 * jnp.square(wide)) * (2 * math.pi) ** -0.5
  # erf(x) once more, as -erf(-x): XLA would recognise the value's, and keep that array for the backward pass.
  distribution = 0.5 * (1 - jax.lax.erf(wide * -math.sqrt(0.5)))
  return gelu(x), (distribution + wide * density).astype(x.dtype) * dx
