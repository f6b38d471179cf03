"""Attention that depends on positions alone, as products along columns and rows."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from convattn.ops.meshes import on_any_mesh
from convattn.ops.shapes import check_shapes


@on_any_mesh
def attend_row_column(rows: jax.Array, columns: jax.Array, x: jax.Array) -> jax.Array:
  """Applies attention weights that are sums of row x column products, without forming them.

      out[b, i, j, n] = sum_a sum_{k,l} rows[n, a, i, k] columns[n, a, j, l] x[b, k, l]

  One term (a) is exact for every isotropic Gaussian window and for one-hot heads (logits that are a sum of one of the
  rows and one of the columns have weights that are a product); a general table over a window of K rows takes K. A term
  costs N (H + W) products per head and channel where N x N weights cost N^2, N = H W.

  Args:
    rows: [n, a, i, k], weights from output row i to image row k.
    columns: [n, a, j, l], weights from output column j to image column l.
    x: [b, k, l, c].

  Returns:
    [b, i, j, n, c]: the mean that every head sees, in promote_types(x.dtype, float32).

  Raises:
    TypeError: an argument is no array of real numbers.
    AssertionError: a shape does not fit.
  """
  _check_numbers(rows=rows, columns=columns, x=x)
  check_shapes(rows=(rows, "n a i k"), columns=(columns, "n a j l"), x=(x, "b k l c"))
  # "highest": products with weights of 0 and 1 stay exact where matrix units would round float32.
  options: dict[str, Any] = {
    "precision": "highest",
    "preferred_element_type": jnp.promote_types(jnp.result_type(x), jnp.float32),
  }
  along_columns = jnp.einsum("najl,bklc->nakbjc", columns, x, **options)
  return jnp.einsum("naik,nakbjc->bijnc", rows, along_columns, **options)


@on_any_mesh
def pair_weights(rows: jax.Array, columns: jax.Array) -> jax.Array:
  """The weights that `attend_row_column` applies, from every output pixel to every key pixel: [n, i*j, k*l]."""
  _check_numbers(rows=rows, columns=columns)
  sizes = check_shapes(rows=(rows, "n a i k"), columns=(columns, "n a j l"))
  weights = jnp.einsum("naik,najl->nijkl", rows, columns, precision="highest")
  return weights.reshape(sizes["n"], sizes["i"] * sizes["j"], sizes["k"] * sizes["l"])


@on_any_mesh
def attend_pairs(weights: jax.Array, x: jax.Array) -> jax.Array:
  """The same attention by N x N weights [n, q, k]: [b, k, c] -> [b, q, n, c]. The reference."""
  _check_numbers(weights=weights, x=x)
  check_shapes(weights=(weights, "n q k"), x=(x, "b k c"))
  wide = jnp.promote_types(jnp.result_type(x), jnp.float32)
  return jnp.einsum("nqk,bkc->bqnc", weights, x, precision="highest", preferred_element_type=wide)


def _check_numbers(**arrays: Any) -> None:
  for name, array in arrays.items():
    dtype = getattr(array, "dtype", None)
    if dtype is None or not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
      given = type(array).__name__ if dtype is None else dtype
      raise TypeError(f"argument {name!r} is {given}, but must be an array of real numbers: convert it first.")
