import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.ops import resize_table

METHODS = ["bilinear", "timm"]
# (old grid, new grid): larger, smaller, one of each, one axis that fits, and the smallest there are
PAIRS = [((3, 4), (5, 7)), ((5, 4), (3, 2)), ((3, 4), (4, 3)), ((4, 3), (4, 5)), ((1, 3), (4, 3)), ((3, 2), (1, 1))]


def drawn(grid, heads=2):
  height, width = grid
  rng = np.random.default_rng(height * 10 + width)
  return rng.standard_normal((heads, 2 * height - 1, 2 * width - 1)).astype(np.float32)


def places(old, new, method):
  """Where along an axis of `old` entries the `new` ones read, as (positions of the old, samples)."""
  if method == "bilinear":
    return np.arange(old), (np.arange(new) + 0.5) * old / new - 0.5
  steps, reach = old // 2, new // 2
  # The real root q > 0 of 1 + q + ... + q^(steps - 1) = reach, held within timm's interval.
  roots = np.roots([1.0] * (steps - 1) + [1.0 - reach]) if steps > 1 else np.array([])
  real = [root.real for root in roots if abs(root.imag) < 1e-9 and root.real > 0]
  ratio = np.clip(real[0] if real else (1.5 if steps <= reach else 1.01), 1.01, 1.5)
  outward = [sum(ratio**k for k in range(step + 1)) for step in range(steps)]
  return np.array([-x for x in reversed(outward)] + [0.0] + outward), np.arange(-reach, reach + 1.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("old, new", PAIRS)
def test_each_axis_is_interpolated_linearly(old, new, method):
  table = drawn(old)
  rows, columns = (places(2 * a - 1, 2 * b - 1, method) for a, b in zip(old, new, strict=True))
  middle = [[np.interp(rows[1], rows[0], head[:, j]) for j in range(head.shape[1])] for head in table]
  middle = np.moveaxis(np.array(middle), 1, 2)  # [n, p, v]
  expected = np.array([[np.interp(columns[1], columns[0], row) for row in head] for head in middle])
  out = resize_table(jnp.asarray(table), new, method)
  assert out.shape == (2, 2 * new[0] - 1, 2 * new[1] - 1) and out.dtype == jnp.float32
  np.testing.assert_allclose(out, expected, atol=2e-5)  # timm bisects its ratio to 1e-6


# What timm 1.0.31 makes of the table cos(arange(35)^1.5) for the grids 5x4 and 3x3. In the second one the columns fit,
# yet they are not left alone: the ratio is at least 1.01.
GOLDEN = {
  (5, 4): [
    [0.9999995, 0.8467671, 0.5403017, -0.951362, 0.4651133, 0.0580374, -0.1455001],
    [0.5190475, 0.3157312, -0.0909021, 0.1667178, -0.2828327, -0.248877, -0.2318992],
    [0.3684729, 0.1366825, -0.3268992, 0.5529343, -0.8424722, -0.5108973, -0.3451102],
    [0.9786827, 0.7681804, 0.3471751, -0.746164, -0.9684846, -0.6695367, -0.5200629],
    [0.0247114, 0.1470932, 0.3918572, 0.5588837, 0.5658696, 0.4684295, 0.4197096],
    [0.0925389, -0.0728605, -0.40366, -0.8854147, -0.9399262, -0.4680293, -0.2320813],
    [0.62615, 0.5932659, 0.5274977, -0.5705717, -0.8893977, -0.0182937, 0.4172575],
    [0.7017548, 0.4922588, 0.0732659, -0.1284937, -0.3195879, -0.1243159, -0.02668],
    [0.5784663, 0.0581169, -0.9825838, 0.3688373, 0.4757244, -0.4716809, -0.9453827],
  ],
  (3, 3): [
    [0.184519, -0.5222971, 0.9295117, -0.8059442, -0.299461],
    [0.9724295, 0.3471751, -0.746164, -0.9684846, -0.5245031],
    [0.0283468, 0.3918572, 0.5588837, 0.5658696, 0.4211569],
    [0.0876256, -0.4036599, -0.8854147, -0.9399262, -0.2390903],
    [0.7809952, 0.7974179, -0.4793063, -0.8747507, 0.5908279],
  ],
}


@pytest.mark.parametrize("grid", GOLDEN)
def test_equals_timm_to_the_last_digit(grid):
  table = np.cos(np.arange(35.0) ** 1.5).reshape(1, 7, 5).astype(np.float32)
  out = resize_table(jnp.asarray(table), grid, "timm")[0]
  np.testing.assert_allclose(out, GOLDEN[grid], atol=5e-7)
  assert np.abs(resize_table(jnp.asarray(table), grid, "bilinear")[0] - np.array(GOLDEN[grid])).max() > 0.1


@pytest.mark.parametrize("method", METHODS)
def test_its_own_grid_is_the_identity_for_tables(method):
  table = jnp.asarray(drawn((3, 4)))
  assert resize_table(table, (3, 4), method) is table


@pytest.mark.parametrize("method", METHODS)
def test_narrow_tables_are_computed_wide_and_float64_stays(method):
  narrow = jnp.asarray(drawn((3, 4)), jnp.bfloat16)
  out = resize_table(narrow, (5, 6), method)
  assert out.dtype == jnp.bfloat16
  wide = resize_table(narrow.astype(jnp.float32), (5, 6), method)
  np.testing.assert_array_equal(out, wide.astype(jnp.bfloat16))
  with jax.enable_x64(True):
    table = jnp.asarray(drawn((3, 4)), jnp.float64)
    exact = resize_table(table, (5, 6), method)
    assert exact.dtype == jnp.float64
    # A detail that neither tables nor weights of float32 could hold.
    np.testing.assert_allclose((resize_table(1 + 1e-9 * table, (5, 6), method) - 1) * 1e9, exact, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_the_program_is_of_products_that_are_exact_at_any_default_precision(method):
  step = jax.jit(jax.value_and_grad(lambda table: jnp.sum(resize_table(table, (5, 3), method) ** 2)))
  text = step.lower(jnp.asarray(drawn((3, 4)))).as_text()
  products = [line for line in text.splitlines() if "dot_general" in line]
  assert len(products) == 4 and all("HIGHEST" in line for line in products)
  assert "scatter" not in text and "gather" not in text


def test_bad_arguments_of_a_table_are_refused():
  table = jnp.asarray(drawn((3, 4)))
  with pytest.raises(ValueError, match="method is 'cubic', but must be one of 'bilinear', 'timm'"):
    resize_table(table, (3, 4), "cubic")
  for grid in ((3,), (0, 4), (3, 4.5)):
    with pytest.raises(ValueError, match=r"grid is \(.*two positive integers"):
      resize_table(table, grid)
  with pytest.raises(AssertionError, match=r"'table' has shape \(2, 4, 7\).*odd"):
    resize_table(table[:, 1:], (3, 4))
  with pytest.raises(AssertionError, match=r"'table' has shape \(5, 7\)"):
    resize_table(table[0], (3, 4))
