"""Positions as vectors, as logits, and as tables over shifts. A shift is always delta = key - query."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from convattn.ops.meshes import on_any_mesh
from convattn.ops.positions import skew, unskew
from convattn.ops.shapes import check_shapes


def sinusoids(length: int, width: int, *, longest: float = 10000.0, dtype: DTypeLike = np.float32) -> np.ndarray:
  """Absolute positions as waves: [length, width] in `dtype` (Vaswani et al. 2017, section 3.5).

      out[t, 2i] = sin(t / longest^(2i / width))        out[t, 2i + 1] = cos(of the same)

  A shift turns every pair (2i, 2i + 1) by an angle of its own, so out[s] . out[t] depends on t - s alone. Computed
  in float64 and rounded once.

  Raises:
    ValueError: the width is odd.
  """
  if width % 2:
    raise ValueError(f"width is {width}, but must be even: a sine and a cosine for each wave.")
  angles = np.arange(length)[:, None] / longest ** (np.arange(0, width, 2) / width)[None]
  return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, width).astype(dtype)


@on_any_mesh
def clipped_logits(query: jax.Array, table: jax.Array) -> jax.Array:
  """Relation-aware keys with clipping: the logits that their vectors add (Shaw et al. 2018, eq. 4 and 5).

      out[b, n, q, k] = query[b, q, n] . table[clip(k - q, -m, m) + m]

  The vectors, one set for all heads, meet the queries before they are spread over pairs: [b, n, q, 2m+1] instead of the
  literal [q, k, d] and far less than [b, n, q, k, d]. Divide by sqrt(d) where the logits are.

  Args:
    query: [b, q, n, d]; there are as many keys as queries.
    table: [2m+1, d].

  Returns:
    [b, n, q, q] in promote_types(query.dtype, float32).

  Raises:
    AssertionError: a shape does not fit, or the table's length is even.
  """
  sizes = check_shapes(query=(query, "b q n d"), table=(table, "r d"))
  clip = _clip(table, sizes["r"])
  wide = jnp.promote_types(query.dtype, jnp.float32)
  seen = jnp.einsum("bqnd,rd->bnqr", query, table.astype(query.dtype), preferred_element_type=wide)
  reach = sizes["q"] - 1
  if reach <= clip:
    return skew(seen[..., clip - reach : clip + reach + 1])
  return skew(jnp.pad(seen, [(0, 0), (0, 0), (0, 0), (reach - clip, reach - clip)], mode="edge"))


@on_any_mesh
def clipped_values(weights: jax.Array, table: jax.Array) -> jax.Array:
  """Relation-aware values with clipping: what their vectors add to the output (Shaw et al. 2018, eq. 3).

      out[b, q, n] = sum_k weights[b, n, q, k] table[clip(k - q, -m, m) + m]

  Weights of the same shift are summed first, as in `clipped_logits`.

  Args:
    weights: [b, n, q, q].
    table: [2m+1, e].

  Returns:
    [b, q, n, e] in the table's dtype.

  Raises:
    AssertionError: a shape does not fit, or the table's length is even.
  """
  sizes = check_shapes(weights=(weights, "b n q k"), table=(table, "r e"))
  check_shapes(weights=(weights, f"b n {sizes['q']} {sizes['q']}"))
  clip, reach = _clip(table, sizes["r"]), sizes["q"] - 1
  shifts = unskew(weights)
  if reach <= clip:
    shifts = jnp.pad(shifts, [(0, 0), (0, 0), (0, 0), (clip - reach, clip - reach)])
  else:
    near = shifts[..., reach - clip : reach + clip + 1]
    before = shifts[..., : reach - clip].sum(-1)
    after = shifts[..., reach + clip + 1 :].sum(-1)
    near = near.at[..., 0].add(before)
    shifts = near.at[..., -1].add(after)
  return jnp.einsum("bnqr,re->bqne", shifts.astype(table.dtype), table)


@on_any_mesh
def row_column_logits(query: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
  """Relative vectors of a row shift and a column shift: the logits they add (Bello et al. 2019; BoTNet, 2021).

      out[b, n, q, k] = query[b, q, n] . (rows[row_k - row_q + h - 1] + columns[column_k - column_q + w - 1])

  Args:
    query: [b, h*w, n, d], pixels row by row.
    rows: [2h-1, d], one set for all heads.
    columns: [2w-1, d].

  Returns:
    [b, n, h*w, h*w] in promote_types(query.dtype, float32).

  Raises:
    AssertionError: a shape does not fit: an even number of rows or columns, or other than h*w queries.
  """
  sizes = check_shapes(query=(query, "b q n d"), rows=(rows, "u d"), columns=(columns, "v d"))
  h, w = _clip(rows, sizes["u"], "rows") + 1, _clip(columns, sizes["v"], "columns") + 1
  check_shapes(query=(query, f"b {h * w} n d"))
  wide = jnp.promote_types(query.dtype, jnp.float32)
  image = query.reshape(sizes["b"], h, w, sizes["n"], sizes["d"])
  by_row = jnp.einsum("bywnd,rd->bnwyr", image, rows.astype(query.dtype), preferred_element_type=wide)
  by_column = jnp.einsum("bywnd,rd->bnywr", image, columns.astype(query.dtype), preferred_element_type=wide)
  by_row, by_column = jnp.swapaxes(skew(by_row), 2, 3), skew(by_column)  # [b, n, y, w, key row or key column]
  out = by_row[..., :, None] + by_column[..., None, :]
  return out.reshape(sizes["b"], sizes["n"], h * w, h * w)


@on_any_mesh
def quadratic_table(centre: jax.Array, alpha: jax.Array, grid: tuple[int, int]) -> jax.Array:
  """The quadratic encoding: a round window around a shift, as a table for `relative_bias`.

      table[n, i, j] = -alpha[n] |delta - centre[n]|^2        delta = (i - h + 1, j - w + 1)

  A softmax over it is a Gaussian of variance 1 / (2 alpha) around centre; as alpha grows, all weight falls on that
  shift, and a head is one tap of a convolution (Cordonnier et al. 2020, theorem 1, eq. 9). Deviation: the square is
  computed as it stands and not as a product of vectors, which loses far centres in low precision; it differs from the
  paper's by alpha |centre|^2, which the softmax does not see.

  Args:
    centre: [n, 2], (row, column).
    alpha: [n].
    grid: (h, w).

  Returns:
    [n, 2h-1, 2w-1] in promote_types(centre.dtype, float32).
  """
  check_shapes(centre=(centre, "n 2"), alpha=(alpha, "n"))
  away = _away(centre, grid)
  return -alpha.astype(away.dtype)[:, None, None] * jnp.sum(jnp.square(away), axis=-1)


@on_any_mesh
def quadratic_table_general(centre: jax.Array, root: jax.Array, grid: tuple[int, int]) -> jax.Array:
  """The quadratic encoding with an ellipse for a window.

      table[n, i, j] = -|root[n] (delta - centre[n])|^2 / 2      delta = (i - h + 1, j - w + 1)

  The window's inverse covariance is root' root, positive semi-definite whatever root is (Cordonnier et al. 2020,
  section 4 and appendix). root = sqrt(2 alpha) I is `quadratic_table`.

  Args:
    centre: [n, 2], (row, column).
    root: [n, 2, 2].
    grid: (h, w).

  Returns:
    [n, 2h-1, 2w-1] in promote_types(centre.dtype, float32).
  """
  check_shapes(centre=(centre, "n 2"), root=(root, "n 2 2"))
  away = _away(centre, grid)
  return -0.5 * jnp.sum(jnp.square(jnp.einsum("nij,nuvj->nuvi", root.astype(away.dtype), away)), axis=-1)


@on_any_mesh
def centred_bias(centre: jax.Array, grid: tuple[int, int], deviation: float) -> jax.Array:
  """A round window around a place that each query has chosen: -|place_k - centre[q]|^2 / (2 deviation^2).

  (Luong et al. 2015, local-p, which has one dimension: there h = 1.) Deviations: the window is a bias, so the weights
  still sum to one, while the paper multiplies by it after the softmax; nothing is cut off beyond 2 deviations.

  Args:
    centre: [b, q, n, 2], (row, column) from 0, any real numbers.
    grid: (h, w) of the keys.
    deviation: in pixels; the paper's sigma.

  Returns:
    [b, n, q, h*w] in promote_types(centre.dtype, float32).
  """
  check_shapes(centre=(centre, "b q n 2"))
  wide = jnp.promote_types(centre.dtype, jnp.float32)
  h, w = grid
  squares = [
    jnp.square(jnp.arange(size, dtype=wide)[None, None, None] - jnp.moveaxis(centre, 2, 1)[..., axis, None])
    for axis, size in enumerate((h, w))
  ]  # [b, n, q, h] and [b, n, q, w]
  total = squares[0][..., :, None] + squares[1][..., None, :]
  return -total.reshape(*total.shape[:3], h * w) / (2 * deviation**2)


def _away(centre: jax.Array, grid: tuple[int, int]) -> jax.Array:
  """delta - centre for each shift delta of a grid: [n, 2h-1, 2w-1, 2]."""
  h, w = grid
  row, column = np.mgrid[1 - h : h, 1 - w : w]
  shifts = np.stack([row, column], axis=-1)
  dtype = jnp.promote_types(centre.dtype, jnp.float32)
  return jnp.asarray(shifts, dtype)[None] - centre.astype(dtype)[:, None, None]


def _clip(table: jax.Array, length: int, name: str = "table") -> int:
  if length % 2 == 0:
    raise AssertionError(f"argument {name!r} has shape {tuple(table.shape)}, but must be [2m+1, d]: an odd length.")
  return length // 2
