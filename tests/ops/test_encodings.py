"""Positions against their literal forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import ops

B, T, N, D, E = 2, 6, 3, 4, 5


def draw(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def test_skew_is_an_index_and_unskew_its_transpose():
  shifts, pairs = draw(2, 4, 7), draw(2, 4, 4, seed=1)
  q, k = np.mgrid[:4, :4]
  np.testing.assert_array_equal(ops.skew(shifts), shifts[:, q, k - q + 3])
  spread = np.zeros((2, 4, 7), np.float32)
  spread[:, q, k - q + 3] = pairs
  np.testing.assert_array_equal(ops.unskew(pairs), spread)
  np.testing.assert_array_equal(ops.skew(ops.unskew(pairs)), pairs)


def test_sinusoids_equal_their_equation():
  waves = ops.sinusoids(9, 6)
  for t, i in np.ndindex(9, 3):
    angle = t / 10000 ** (2 * i / 6)
    np.testing.assert_allclose(waves[t, 2 * i : 2 * i + 2], [np.sin(angle), np.cos(angle)], atol=1e-6)
  assert np.abs(np.diff(waves @ waves[0])).min() > 0.01
  with pytest.raises(ValueError, match="width is 5, but must be even"):
    ops.sinusoids(9, 5)


@pytest.mark.parametrize(
  ("dtype", "error"), [("float64", 1e-13), ("float32", 6e-8), ("float16", 5e-4), ("bfloat16", 4e-3)]
)
def test_fixed_tables_have_the_precision_of_their_dtype(dtype, error):
  t, i = np.arange(50)[:, None], np.arange(4)[None]
  angle = t / 10000 ** (i / 4)
  exact = np.stack([np.sin(angle), np.cos(angle)], -1).reshape(50, 8)
  dtype = jnp.dtype(dtype)
  waves, shifts = ops.sinusoids(50, 8, dtype=dtype), ops.log_shifts(1, 9, dtype=dtype)[0, 8:, 1]
  assert waves.dtype == shifts.dtype == dtype
  np.testing.assert_allclose(waves.astype(np.float64), exact, rtol=0, atol=error)
  np.testing.assert_allclose(shifts.astype(np.float64), np.log1p(np.arange(9)), rtol=2 * error)


@pytest.mark.parametrize("clip", [0, 2, 5, 7])  # less than, just, and more than the sequence needs
def test_clipped_relations_equal_the_literal_form(clip):
  query, keys, values = draw(B, T, N, D), draw(2 * clip + 1, D, seed=1), draw(2 * clip + 1, E, seed=2)
  weights = jax.nn.softmax(draw(B, N, T, T, seed=3))
  index = np.clip(np.arange(T)[None] - np.arange(T)[:, None], -clip, clip) + clip
  wanted = np.einsum("bqnd,qkd->bnqk", query, np.asarray(keys)[index])
  np.testing.assert_allclose(jax.jit(ops.clipped_logits)(query, keys), wanted, atol=5e-6)
  wanted = np.einsum("bnqk,qke->bqne", weights, np.asarray(values)[index])
  np.testing.assert_allclose(jax.jit(ops.clipped_values)(weights, values), wanted, atol=2e-6)


@pytest.mark.parametrize("grid", [(2, 5), (3, 2), (1, 4)])
def test_row_and_column_vectors_equal_the_literal_form(grid):
  h, w = grid
  query, rows, columns = map(np.asarray, (draw(B, h * w, N, D), draw(2 * h - 1, D, seed=1), draw(2 * w - 1, D, seed=2)))
  wanted = np.zeros((B, N, h * w, h * w))
  for q, k in np.ndindex(h * w, h * w):
    (row, column), (other_row, other_column) = divmod(q, w), divmod(k, w)
    vector = rows[other_row - row + h - 1] + columns[other_column - column + w - 1]
    wanted[..., q, k] = query[:, q] @ vector
  np.testing.assert_allclose(jax.jit(ops.row_column_logits)(query, rows, columns), wanted, atol=5e-6)


def test_quadratic_table_equals_its_equation_and_the_papers_product_up_to_a_constant():
  centre, alpha, (h, w) = np.asarray(draw(N, 2)), np.abs(draw(N, seed=1)), (3, 4)
  table = np.asarray(ops.quadratic_table(centre, alpha, (h, w)))
  general = ops.quadratic_table_general(centre, jnp.sqrt(2 * alpha)[:, None, None] * jnp.eye(2)[None], (h, w))
  np.testing.assert_allclose(general, table, rtol=2e-6, atol=1e-6)
  for n, i, j in np.ndindex(table.shape):
    row, column = i - h + 1, j - w + 1
    product = -alpha[n] * np.dot([1, *(-2 * centre[n])], [row**2 + column**2, row, column])
    np.testing.assert_allclose(table[n, i, j], product - alpha[n] * np.sum(centre[n] ** 2), rtol=1e-4, atol=1e-5)


def test_an_ellipse_is_the_quadratic_form_of_root_transposed_root():
  centre, root, (h, w) = draw(N, 2), draw(N, 2, 2, seed=1), (3, 4)
  table = np.asarray(ops.quadratic_table_general(centre, root, (h, w)))
  for n, i, j in np.ndindex(table.shape):
    away = np.array([i - h + 1, j - w + 1]) - np.asarray(centre[n])
    inverse = np.asarray(root[n]).T @ np.asarray(root[n])
    np.testing.assert_allclose(table[n, i, j], -away @ inverse @ away / 2, rtol=1e-5, atol=1e-6)
  turn = jnp.asarray([[np.cos(1.0), -np.sin(1.0)], [np.sin(1.0), np.cos(1.0)]], jnp.float32)
  left = ops.quadratic_table_general(centre, jnp.einsum("ij,njk->nik", turn, root), (h, w))
  right = ops.quadratic_table_general(centre, jnp.einsum("nij,jk->nik", root, turn), (h, w))
  np.testing.assert_allclose(left, table, rtol=1e-5, atol=1e-5)
  assert np.abs(right - table).max() > 0.1


def test_a_sharp_quadratic_head_reads_one_shift_and_at_the_border_the_nearest_pixel():
  h, w, centre = 4, 5, jnp.array([[1.0, -1]])
  bias = ops.relative_bias(ops.quadratic_table(centre, jnp.array([46.0]), (h, w)))
  weights = ops.attention_weights(bias[None])[0, 0]
  pixels = draw(h, w)
  row, column = np.minimum(np.arange(h) + 1, h - 1), np.maximum(np.arange(w) - 1, 0)
  np.testing.assert_allclose(
    (weights @ pixels.reshape(-1)).reshape(h, w), np.asarray(pixels)[row][:, column], atol=1e-6
  )


def test_a_soft_quadratic_head_has_its_mean_and_variance():
  alpha, size = 0.4, 31
  bias = ops.relative_bias(ops.quadratic_table(jnp.array([[0.0, 2.0]]), jnp.array([alpha]), (1, size)))
  weights = np.asarray(ops.attention_weights(bias[None])[0, 0, size // 2], np.float64)
  shift = np.arange(size) - size // 2
  np.testing.assert_allclose([weights @ shift, weights @ (shift - 2) ** 2], [2, 1 / (2 * alpha)], rtol=1e-4)


def test_centred_bias_equals_its_equation():
  grid, centre = (3, 4), 2 * draw(B, T, N, 2)
  bias = np.asarray(jax.jit(ops.centred_bias, static_argnums=(1, 2))(centre, grid, 1.5))
  for k in range(12):
    away = np.asarray(centre) - np.array(divmod(k, 4))
    np.testing.assert_allclose(bias[..., k], -np.moveaxis((away**2).sum(-1), 2, 1) / (2 * 1.5**2), rtol=1e-5)


@pytest.mark.parametrize("dilation", [1, 2, 5])
def test_causal_convolution_equals_its_equation(dilation):
  x, kernel = draw(B, 7, 3), draw(3, 3, E, seed=1)
  out = jax.jit(ops.causal_conv, static_argnames="dilation")(x, kernel, dilation=dilation)
  wanted = np.zeros((B, 7, E))
  for t, j in np.ndindex(7, 3):
    place = t - (2 - j) * dilation
    if place >= 0:
      wanted[:, t] += np.asarray(x)[:, place] @ np.asarray(kernel)[j]
  np.testing.assert_allclose(out, wanted, atol=5e-6)
  with pytest.raises(ValueError, match="dilation is 0"):
    ops.causal_conv(x, kernel, dilation=0)
