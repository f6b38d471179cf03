"""Where the heads of an image's attention look: parameters of the window's size, spread over the grid in the call.

Each maps (tokens [b, h*w, c], query [b, h*w, n, d], grid (h, w)) to a bias for the logits, [n, q, k] or [b, n, q, k].
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from convattn.ops.dense import dense_dot
from convattn.ops.encodings import centred_bias, quadratic_table, quadratic_table_general, row_column_logits
from convattn.ops.positions import relative_bias


class RowColumnPositions(nn.Module):
  """query . (rows[row shift] + columns[column shift]) / sqrt(d), one set of vectors for all heads.

  (Attention-augmented convolution, Bello et al. 2019; BoTNet, Srinivas et al. 2021.) `rows` [2h-1, d] and `columns`
  [2w-1, d] belong to a grid.

  Raises:
    ValueError: the parameters belong to another grid.
  """

  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, tokens: jax.Array, query: jax.Array, grid: tuple[int, int]) -> jax.Array:
    del tokens
    size = query.shape[-1]
    vectors = []
    for name, length in zip(("rows", "columns"), grid, strict=True):
      if self.has_variable("params", name) and len(self.get_variable("params", name)) != 2 * length - 1:
        found = (len(self.get_variable("params", name)) + 1) // 2
        raise ValueError(
          f"the image has {length} {name}, but the parameters belong to {found}; use images of that size."
        )
      shape = (2 * length - 1, size)
      vectors.append(self.param(name, nn.initializers.normal(size**-0.5), shape, self.param_dtype).astype(self.dtype))
    return row_column_logits(query * size**-0.5, *vectors)


class QuadraticPositions(nn.Module):
  """-alpha |delta - centre|^2 per head, alpha = spread^2 / 2: a round window around a shift (Cordonnier et al. 2020).

  `centre` [n, 2] starts normal with deviation 2 pixels, `spread` [n] near 1. Any grid.
  """

  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, tokens: jax.Array, query: jax.Array, grid: tuple[int, int]) -> jax.Array:
    del tokens
    heads, wide = query.shape[-2], jnp.promote_types(self.dtype, jnp.float32)
    centre = self.param("centre", nn.initializers.normal(2.0), (heads, 2), self.param_dtype).astype(wide)
    spread = self.param("spread", _near_one, (heads,), self.param_dtype).astype(wide)
    return relative_bias(quadratic_table(centre, jnp.square(spread) / 2, grid))


class EllipticPositions(nn.Module):
  """-|root (delta - centre)|^2 / 2 per head: the general quadratic encoding (Cordonnier et al. 2020, appendix).

  `centre` [n, 2] starts normal with deviation 2 pixels, `root` [n, 2, 2] near the identity. Any grid.
  """

  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, tokens: jax.Array, query: jax.Array, grid: tuple[int, int]) -> jax.Array:
    del tokens
    heads, wide = query.shape[-2], jnp.promote_types(self.dtype, jnp.float32)
    centre = self.param("centre", nn.initializers.normal(2.0), (heads, 2), self.param_dtype).astype(wide)
    root = self.param("root", _near_identity, (heads, 2, 2), self.param_dtype).astype(wide)
    return relative_bias(quadratic_table_general(centre, root, grid))


class PredictedCentre(nn.Module):
  """A round window around a place that each pixel and head predicts from its content (Luong et al. 2015, local-p).

      p = (h - 1, w - 1) * sigmoid(V tanh(W x))       bias[q, k] = -|place_k - p_q|^2 / (2 deviation^2)

  The receptive field is conditioned on the input. Deviations: two dimensions (a sequence is an image of one row); p
  ends at the last pixel, not one behind; and those of `ops.centred_bias`. Any grid.
  """

  deviation: float = 2.0
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, tokens: jax.Array, query: jax.Array, grid: tuple[int, int]) -> jax.Array:
    fields: dict[str, Any] = {
      "use_bias": False,
      "kernel_init": nn.initializers.xavier_uniform(),
      "dot_general": dense_dot,
      "dtype": self.dtype,
      "param_dtype": self.param_dtype,
    }
    hidden = jnp.tanh(nn.Dense(tokens.shape[-1], name="hidden", **fields)(tokens))
    place = nn.DenseGeneral((query.shape[-2], 2), name="place", **fields)(hidden)
    wide = jnp.promote_types(self.dtype, jnp.float32)
    last = jnp.asarray(np.array(grid) - 1, wide)[None, None, None]
    return centred_bias(last * nn.sigmoid(place.astype(wide)), grid, self.deviation)


GRID_POSITIONS: dict[str, Any] = {
  "row_column": RowColumnPositions,
  "quadratic": QuadraticPositions,
  "elliptic": EllipticPositions,
  "predicted_centre": PredictedCentre,
}


def _near_one(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
  return 1 + 0.01 * jax.random.normal(key, shape, dtype)


def _near_identity(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
  return jnp.eye(2, dtype=dtype)[None] + 0.01 * jax.random.normal(key, shape, dtype)
