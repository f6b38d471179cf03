"""What messages say, and how arrays of NumPy in float64 are judged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import properties

WIDE = np.random.default_rng(0).standard_normal((2, 5, 4))


def attend(query, key, value):
  logits = query @ np.swapaxes(key, -1, -2)
  weights = np.exp(logits - logits.max(-1, keepdims=True))
  return weights / weights.sum(-1, keepdims=True) @ value


QKV = [np.random.default_rng(n).standard_normal((2, 6, 4)) for n in range(3)]
IN_NUMPY = {
  "causal": (lambda x: np.cumsum(x, 1), [WIDE], {}),
  "batch_independent": (lambda x: np.cumsum(x, 1), [WIDE], {}),
  "pointwise": (lambda x: np.tanh(x), [WIDE], {"axes": (1,)}),
  "local": (np.tanh, [WIDE], {"axes": (1,), "radius": 1}),
  "homogeneous": (lambda x: 3 * x, [WIDE], {}),
  "affine": (lambda x: 3 * x + 1 / 3, [WIDE], {}),
  "odd": (np.sinh, [WIDE], {}),
  "permutation_equivariant": (lambda x: attend(x, x, x), [WIDE], {}),
  "convex_hull": (attend, QKV, {}),
  "equal_keys_average": (attend, QKV, {}),
  "large_logits_select": (attend, QKV, {}),
  "duplicates_cancel": (attend, QKV, {}),
  "query_key_gauge": (attend, QKV, {}),
  "zero_branch_is_identity": (lambda x, w: x + x @ w, [WIDE, np.eye(4)], {}),
  "inverse": (lambda x: x[:, ::-1], [WIDE], {"inverse": lambda x: x[:, ::-1], "tolerance": 0}),
  "mask_isolates": (lambda x, m: x + (x * m[..., None]).sum(1, keepdims=True), [WIDE, WIDE[..., 0] > 0], {}),
  "mask_stops_nan": (lambda x, m: np.where(m[..., None], x, 0).sum(1, keepdims=True) + x, [WIDE, WIDE[..., 0] > 0], {}),
  "resize_to_same_size": (lambda x: x + 0, [WIDE], {}),
  "shift_invariant": (lambda x: x - x.mean(-1, keepdims=True), [WIDE], {}),
  "bounded": (np.tanh, [WIDE], {"bound": 1.0}),
}


@pytest.mark.parametrize("law", IN_NUMPY)
def test_functions_of_numpy_are_judged_in_float64(law):
  fn, arrays, keywords = IN_NUMPY[law]
  check = properties.LAWS[law].check
  check(fn, *arrays, **keywords)
  if law not in (
    "bounded",
    "mask_isolates",
    "mask_stops_nan",
    "convex_hull",
    "query_key_gauge",
    "shift_invariant",
    "duplicates_cancel",
  ):

    def damaged(*arrays):
      out = fn(*arrays)
      return out + 1e-8 * np.square(np.cumsum(np.cumsum(out[::-1], 0)[:, ::-1], 1)) + 1e-8 * arrays[0].shape[1]

    with pytest.raises(properties.LawBroken):
      check(damaged, *arrays, **keywords)


IN_JAX = {
  "convex_hull": (jax.nn.dot_product_attention, [a[:, :, None] for a in QKV], {"axis": 1}),
  "large_logits_select": (jax.nn.dot_product_attention, [a[:, :, None] for a in QKV], {"axis": 1}),
  "affine": (lambda x: jnp.asarray(x) * 3, [WIDE], {}),
  "zero_branch_is_identity": (lambda x, w: jnp.asarray(x) + jnp.matmul(x, w), [WIDE, np.eye(4)], {}),
  "positive_semidefinite": (lambda x: jnp.matmul(x, jnp.swapaxes(x, 1, 2)), [WIDE], {}),
  "resize_to_same_size": (jnp.asarray, [WIDE], {}),
  "resize_keeps_centre": (jnp.asarray, [WIDE[:, :, :3]], {}),
  "shift_sign": (lambda t: jnp.asarray(t)[np.arange(3) - np.arange(3)[:, None] + 2], [WIDE[0, :, 0]], {}),
  "inverse": (jnp.asarray, [WIDE], {"inverse": jnp.asarray}),
  "causal": (lambda x: jnp.cumsum(x, 1), [WIDE], {}),
}


@pytest.mark.parametrize("law", IN_JAX)
def test_arrays_of_numpy_in_float64_are_no_fault_of_jax(law):
  """Without x64 it takes them as float32."""
  fn, arrays, keywords = IN_JAX[law]
  properties.LAWS[law].check(fn, *arrays, **keywords)


def test_copies_have_the_form_of_the_arrays_given():
  seen = set()

  def fn(x):
    seen.add((type(x).__name__, str(x.dtype)))
    return np.cumsum(np.asarray(x), 1)

  for check in (properties.check_causal, properties.check_affine, properties.check_permutation_invariant):
    try:
      check(fn, WIDE)
    except properties.LawBroken:
      continue
  assert seen == {("ndarray", "float64")}
  seen.clear()
  properties.check_causal(fn, jnp.asarray(WIDE, jnp.float16))
  assert seen == {("ArrayImpl", "float16")}


def message(check, *arguments, **keywords):
  with pytest.raises(properties.LawBroken) as raised:
    check(*arguments, **keywords)
  return str(raised.value).partition(". ")[2], raised.value


def test_negative_eigenvalues_and_weights_are_what_is_found():
  text, broken = message(properties.check_positive_semidefinite, lambda x: np.diag(x), np.array([3.0, -2, 1]))
  assert text == "eigenvalues: at output[0] it is -2 where 0 is wanted, off by 2 (tolerance 1e-11 of 3)."
  assert (broken.where, broken.size) == ("output[0]", 2)
  text, _ = message(properties.check_rows_stochastic, lambda x: x, np.array([[1.5, -0.5]]))
  assert "weights against 0: at output[0, 1] it is -0.5 where 0 is wanted" in text


def test_means_over_keys_are_named_in_their_own_units():
  def drop(x, key):
    return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x, 0.0)

  text, broken = message(properties.check_expectation, drop, jnp.full((3,), 4.0), evaluation=lambda x: x)
  assert "mean of result 0 over 2000 keys: at output[" in text and "where 4 is wanted" in text
  assert "is allowed: 6.3 standard errors and rounding" in text
  assert broken.size == pytest.approx(2, abs=0.3) and broken.tolerance < 0.5
  text, _ = message(properties.check_logit_variance, lambda q, k: q @ k.T, WIDE[0], WIDE[1])
  assert "variance over 512 draws: output" not in text and "where 1 is wanted" in text


def test_what_is_not_finite_is_called_so():
  for fn, where in ((lambda x: x * np.nan, "nan, with and without"), (lambda x: np.log(x * 0 - 1), "nan")):
    with np.errstate(all="ignore"):
      text, broken = message(properties.check_causal, fn, WIDE)
    assert f"is not finite: {where}" in text and "off by" not in text
    assert broken.size == float("inf")
  text, _ = message(properties.check_agrees, lambda x: x * np.nan, WIDE, reference=lambda x: x)
  assert "is not finite: nan where " in text
  text, _ = message(properties.check_agrees, lambda x: x, WIDE, reference=lambda x: x * np.nan)
  assert "what it is compared with is not finite: nan" in text
  text, _ = message(properties.check_rows_stochastic, lambda x: x * np.nan, WIDE)
  assert "output[0, 0, 0] is not finite: nan" in text
  properties.check_causal(lambda x: np.where(x > 9, x, -np.inf), WIDE)


def test_a_number_has_no_place():
  text, broken = message(properties.check_permutation_invariant, lambda x: x[0, 0, 0], WIDE)
  assert "at output it is" in text and broken.where == "output"


def test_there_and_back_is_exact_for_integers_alone():
  matrix = np.random.default_rng(1).standard_normal((4, 4))
  back = np.linalg.inv(matrix)
  properties.check_inverse(lambda x: x @ matrix, WIDE, inverse=lambda y: y @ back)
  with pytest.raises(properties.LawBroken):
    properties.check_inverse(lambda x: x @ matrix, WIDE, inverse=lambda y: y @ back * (1 + 1e-9))
  with pytest.raises(properties.LawBroken):
    properties.check_inverse(lambda x: x @ matrix, WIDE, inverse=lambda y: y @ back, tolerance=0)
  whole = np.arange(12).reshape(3, 4) * 10**9
  properties.check_inverse(lambda x: x.T, whole, inverse=lambda y: y.T)
  with pytest.raises(properties.LawBroken):
    properties.check_inverse(lambda x: x.T, whole, inverse=lambda y: y.T + 1)


def test_masks_of_attention_are_taken():
  x, keep = jnp.asarray(WIDE, jnp.float32), jnp.asarray([[True, True, False, True, False], [True] * 4 + [False]])

  def right(x, mask):
    return jax.nn.dot_product_attention(*[x[:, :, None]] * 3, mask=mask)[:, :, 0]

  for mask in (keep[:, None, None], keep[:1, None, None]):
    properties.check_mask_isolates(right, x, mask)
    with pytest.raises(properties.LawBroken):
      properties.check_mask_isolates(lambda x, mask: x + x.mean(1, keepdims=True), x, mask)
  properties.check_mask_stops_nan(
    lambda x, mask: right(jnp.where(mask[:, 0, 0, :, None], x, 0), mask), x, keep[:, None, None]
  )
  with pytest.raises(ValueError, match=r"the mask has shape \[5, 5\], but for .* \[2, 5, 4\] it must be \[b, n\]"):
    properties.check_mask_isolates(right, x, jnp.tri(5) > 0)
  with pytest.raises(ValueError, match=r"shape \[2, 5, 5\], but must be \[b, n\], \[n\] or \[b, 1, 1, n\]"):
    properties.check_mask_isolates(right, x, jnp.tile(jnp.tri(5)[None] > 0, (2, 1, 1)))


def test_results_without_the_tokens_are_told_from_those_with():
  for fn, told in ((lambda x: x[0, 0], r"shape \[4\]"), (lambda x: x[:, 1:], "has 4 places along axis -2")):
    with pytest.raises(ValueError, match=told):
      properties.check_permutation_equivariant(fn, WIDE)
    with pytest.raises(ValueError, match=told):
      properties.check_causal(fn, WIDE)
  with pytest.raises(ValueError, match="has 1 places along axis 0, but must have 2"):
    properties.check_batch_independent(lambda x: x[:1], WIDE)


def test_a_function_without_a_key_is_told_how_it_is_called():
  for check, keywords in (
    (properties.check_key_decides, {}),
    (properties.check_key_ignored, {}),
    (properties.check_expectation, {"evaluation": lambda x: x}),
  ):
    with pytest.raises(ValueError, match=r"fn takes \(x\), but is called as fn\(\*arrays, key=...\)"):
      check(lambda x: x, WIDE, **keywords)
  properties.check_key_ignored(lambda x, **keywords: x, WIDE)
  properties.check_key_ignored(jax.jit(lambda x, key: x), WIDE)


def test_a_stale_entry_of_allow_is_named():
  x = jnp.asarray(WIDE, jnp.float32)
  parameters = {"kernel": jnp.eye(4), "bias": jnp.zeros(4), "idle": jnp.zeros(3)}

  def dense(p, x):
    return jnp.matmul(x, p["kernel"]) + p["bias"][None, None]

  properties.check_every_parameter_used(dense, parameters, x, allow=["idle"])
  with pytest.raises(ValueError, match="allow has 'bias', but must name what has no influence"):
    properties.check_every_parameter_used(dense, parameters, x, allow=["idle", "bias"])
  with pytest.raises(ValueError, match="allow has 'gone', but the parameters are"):
    properties.check_every_parameter_used(dense, parameters, x, allow=["idle", "gone"])
