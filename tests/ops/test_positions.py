import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import ops
from convattn.ops.positions import log_shifts

FORMS = [ops.relative_bias, ops.relative_bias_one_hot, ops.relative_bias_gather]
GRIDS = [(3, 4), (1, 5), (4, 1), (1, 1), (5, 5)]


def table_for(height, width, heads=2):
  rng = np.random.default_rng(height * 10 + width)
  return jnp.asarray(rng.standard_normal((heads, 2 * height - 1, 2 * width - 1)), jnp.float32)


@pytest.mark.parametrize("height, width", GRIDS)
def test_offsets_are_key_minus_query(height, width):
  place = np.stack(np.divmod(np.arange(height * width), width), -1)
  expected = place[None] - place[:, None] + [height - 1, width - 1]
  np.testing.assert_array_equal(ops.relative_offsets(height, width), expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("height, width", GRIDS)
def test_every_pair_reads_its_shift(form, height, width):
  table = table_for(height, width)
  bias, table = np.asarray(jax.jit(form)(table)).reshape(2, height, width, height, width), np.asarray(table)
  for i, j, k, m in np.ndindex(height, width, height, width):
    np.testing.assert_array_equal(bias[:, i, j, k, m], table[:, k - i + height - 1, m - j + width - 1])


def gradient_text(form):
  return jax.jit(jax.grad(lambda table: jnp.sum(form(table) ** 2))).lower(table_for(3, 4)).as_text()


def test_only_the_reference_scatters():
  assert ["stablehlo.scatter" in gradient_text(form) for form in FORMS] == [False, False, True]


def test_an_even_table_is_refused():
  with pytest.raises(AssertionError, match=r"'table' has shape \(2, 4, 5\).*odd"):
    ops.relative_bias(jnp.zeros((2, 4, 5)))


@pytest.mark.parametrize("height, width", GRIDS)
def test_log_shifts_are_odd_zero_in_the_middle_and_rise(height, width):
  shifts = log_shifts(height, width)
  assert (shifts.shape, shifts.dtype) == ((2 * height - 1, 2 * width - 1, 2), np.float32)
  np.testing.assert_array_equal(shifts[::-1, ::-1], -shifts)  # the other sign of a shift is the other sign of both
  np.testing.assert_array_equal(shifts[height - 1, width - 1], np.zeros(2))
  assert (np.diff(shifts[..., 0], axis=0) > 0).all() and (np.diff(shifts[..., 1], axis=1) > 0).all()
  assert not np.diff(shifts[..., 0], axis=1).any() and not np.diff(shifts[..., 1], axis=0).any()  # (row, column)


def test_the_same_shift_has_the_same_coordinates_on_every_grid():
  large = log_shifts(7, 9)
  for height, width in GRIDS:
    rows, columns = slice(7 - height, 6 + height), slice(9 - width, 8 + width)
    np.testing.assert_array_equal(log_shifts(height, width), large[rows, columns])
  np.testing.assert_allclose(large[6 + 5, 8 - 3], [np.log(6), -np.log(4)], rtol=1e-6)


def test_far_log_shifts_move_together():
  steps = np.diff(log_shifts(1, 9)[0, 8:, 1])
  assert (np.diff(steps) < 0).all()
