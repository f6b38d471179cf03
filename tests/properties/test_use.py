"""How the checks are used and misused: other dtypes, trees, constant arrays, wrong arguments."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import layers, properties


def qkv(dtype):
  rng = np.random.default_rng(0)
  return [jnp.asarray(rng.standard_normal((2, n, 3, 4)), dtype) for n in (5, 6, 6)]


def test_what_a_check_draws_is_not_what_its_user_drew():
  """The commonest seed of numpy's generator and the key of a check that got none: x and y of a law must differ."""
  x = np.random.default_rng(0).standard_normal((2, 4, 6, 3)).astype(np.float32)
  with pytest.raises(properties.LawBroken):
    properties.check_affine(lambda x: nn.max_pool(x, (2, 2), (2, 2)), x)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_other_dtypes_have_tolerances_of_their_own(dtype):
  def attend(query, key, value, damage=0.0):
    logits = jnp.einsum(
      "bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.promote_types(query.dtype, jnp.float32)
    )
    weights = jax.nn.softmax(logits / 2, -1) + damage
    return jnp.einsum("bhqk,bkhe->bqhe", weights.astype(value.dtype), value)

  with jax.enable_x64(dtype == "float64"):
    arrays = qkv(dtype)
    for check, keywords in (
      (properties.check_permutation_equivariant, {"axis": 1}),
      (properties.check_source_permutation_invariant, {"axis": 1}),
      (properties.check_query_key_gauge, {}),
      (properties.check_duplicates_cancel, {"axis": 1}),
      (properties.check_affine, {"argnums": 2}),
    ):
      check(attend, *arrays, **keywords)
    properties.check_equal_keys_average(attend, *arrays, axis=1)
    damage = 0.1 if dtype == "bfloat16" else 1e-9
    with pytest.raises(properties.LawBroken):
      properties.check_equal_keys_average(lambda *a: attend(*a, damage=damage), *arrays, axis=1)


def test_the_worst_place_is_named_in_a_tree_of_results():
  def fn(x):
    return {"out": x, "more": [x.at[1, 2, 0].add(jnp.where(x[0, 0, 0] > 0, 5.0, 0.0))]}

  x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 3)), jnp.float32).at[0, :, 0].set([-1, 1, -1, 1])
  with pytest.raises(properties.LawBroken, match="tokens") as raised:
    properties.check_permutation_equivariant(fn, x)
  assert raised.value.where.startswith("output['more'][0][1, ")
  assert raised.value.size == pytest.approx(5, abs=1e-5)
  assert raised.value.law == "permutation_equivariant"


def test_nan_and_shapes_are_violations():
  x = jnp.ones((2, 4, 3)).at[:, 0].set(2)
  with pytest.raises(properties.LawBroken, match="is not finite: nan"):
    properties.check_permutation_equivariant(lambda x: x * jnp.nan, x)
  with pytest.raises(properties.LawBroken, match=r"has shape \[2, 3\], but must have \[2, 4, 3\]"):
    properties.check_agrees(lambda x: x[:, 0], x, reference=lambda x: x)


def test_integers_are_edited_within_their_range():
  table = jnp.asarray(np.random.default_rng(0).standard_normal((7, 3)), jnp.float32)
  tokens = jnp.asarray([[0, 3, 6, 2, 2], [1, 5, 4, 0, 6]])
  properties.check_causal(lambda t: jnp.cumsum(table[t], 1), tokens, axis=1)
  with pytest.raises(properties.LawBroken):
    properties.check_causal(lambda t: table[t] + table[t].mean(1, keepdims=True), tokens, axis=1)


def test_a_result_that_is_not_finite_is_no_proof_that_something_matters():
  x = jax.random.normal(jax.random.key(1), (2, 5, 3))
  with pytest.raises(AssertionError, match="not finite"):
    properties.check_positions_matter(lambda x: x * jnp.nan, x)


def test_a_small_error_of_normalisation_leaves_the_hull():
  query, key, value = jax.random.normal(jax.random.key(1), (3, 2, 7, 3, 5))
  attention = jax.nn.dot_product_attention
  properties.check_convex_hull(attention, query, key, value, value=2, axis=1)
  with pytest.raises(AssertionError, match="convex_hull"):
    properties.check_convex_hull(lambda *arrays: 0.99 * attention(*arrays), query, key, value, value=2, axis=1)


def test_an_even_kernel_is_dilated_about_a_place_between_pixels():
  x, kernel = jax.random.normal(jax.random.key(1), (1, 9, 11, 2)), jnp.ones((2, 2, 2, 3))

  def conv(x):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", rhs_dilation=(2, 2), dimension_numbers=numbers)

  properties.check_dilated(conv, x, dilation=2, offset=1)
  with pytest.raises(AssertionError, match="dilated"):
    properties.check_dilated(conv, x, dilation=2)


def test_every_sample_of_a_batch_is_looked_at():
  x = jax.random.normal(jax.random.key(1), (8, 5))
  with pytest.raises(AssertionError, match="batch_independent"):
    properties.check_batch_independent(lambda x: x.at[2].add(x[1]), x)


def test_a_small_gradient_is_none_of_rounding():
  """Behind a LayerScale of 1e-6 all parameters are used; a key's bias, whose gradient is rounding, is not."""

  class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
      return x + layers.LayerScale(1e-6)(nn.MultiHeadDotProductAttention(2)(x))

  x = jax.random.normal(jax.random.key(1), (2, 5, 4))
  variables = Block().init(jax.random.key(2), x)
  properties.check_every_parameter_used(Block().apply, variables, x, allow=["key/bias"])
  with pytest.raises(properties.LawBroken, match="key/bias") as raised:
    properties.check_every_parameter_used(Block().apply, variables, x)
  assert raised.value.where.endswith("key/bias")
  with pytest.raises(properties.LawBroken, match="query/kernel"):
    properties.check_every_parameter_used(Block().apply, variables, x, tolerance=1e-3)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_limits_follow_half_precision(seed):
  query, key, value = jax.random.normal(jax.random.key(seed), (3, 2, 33, 2, 8), jnp.bfloat16)
  properties.check_large_logits_select(jax.nn.dot_product_attention, query, key, value, axis=1)
  with pytest.raises(properties.LawBroken):
    properties.check_large_logits_select(
      lambda q, k, v: jax.nn.dot_product_attention(jnp.clip(q, -4, 4), k, v), query, key, value, axis=1
    )

  def normalised(x, keep=1.0):
    wide = x.astype(jnp.float32)
    centred = wide - keep * wide.mean(-1, keepdims=True)
    return (centred / jnp.sqrt(wide.var(-1, keepdims=True) + 1e-6)).astype(x.dtype)

  x = jax.random.normal(jax.random.key(seed), (2, 9, 5), jnp.bfloat16)
  properties.check_shift_invariant(normalised, x)
  with pytest.raises(properties.LawBroken):
    properties.check_shift_invariant(lambda x: normalised(x, 0.8), x)
  logits = jax.random.normal(jax.random.key(seed), (2, 9, 9), jnp.bfloat16)
  properties.check_logit_shift_invariant(jax.nn.softmax, logits)
  with pytest.raises(properties.LawBroken, match="not_affine"):
    properties.check_not_affine(lambda x: x * jnp.asarray(0.3, x.dtype) + jnp.asarray(0.7, x.dtype), x)


def test_weights_on_a_torus_are_the_same_for_equal_shifts_but_for_rounding():
  def weights(table):
    n = len(table)
    place = np.arange(n)[None] - np.arange(n)[:, None]
    return jax.nn.softmax(table[place % n] * 3.7, -1)

  table = jax.random.normal(jax.random.key(1), (9,))
  properties.check_block_toeplitz(weights, table, grid=(9,))
  with pytest.raises(properties.LawBroken):
    properties.check_block_toeplitz(lambda table: weights(table).at[-1, 1].add(1e-3), table, grid=(9,))


def test_more_than_sixteen_samples_are_all_looked_at():
  x = jax.random.normal(jax.random.key(1), (37, 3))
  properties.check_batch_independent(lambda x: 2 * x, x)
  for seen, other in ((5, 21), (36, 4), (17, 16)):
    with pytest.raises(properties.LawBroken):
      properties.check_batch_independent(lambda x, s=seen, o=other: x.at[s].add(1e-6 * x[o]), x)


@pytest.mark.parametrize(
  ("check", "arrays", "message"),
  [
    ("rows_stochastic", 1, "returns a tuple of 2 arrays, but this law is about one array"),
    ("large_logits_select", 1, "1 arrays were given, but fn takes query, key and value"),
    ("cross_correlation", 1, "1 arrays were given, but fn takes an image and a kernel"),
    ("deterministic", 0, "needs a function and its arrays"),
  ],
)
def test_a_wrong_call_is_told_what_is_wanted(check, arrays, message):
  with pytest.raises(ValueError, match=message):
    getattr(properties, f"check_{check}")(lambda *a: (a[0], a[0]), *[jnp.eye(3)] * arrays)
