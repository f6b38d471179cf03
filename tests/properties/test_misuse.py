"""Every check with arguments of a wrong form, and with arguments on which it could not fail: one line says so."""

import inspect
import linecache
import re
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import properties
from tests.properties.test_laws import GROUPS

RANDOM = np.random.default_rng(0)


def normal(*shape):
  return RANDOM.standard_normal(shape).astype(np.float32)


def same(*arrays, key=None):
  """Of any rank, for NumPy's arrays and tracers alike."""
  leaf = jax.tree.leaves(arrays[0])[0]
  return leaf * 1


def example(law):
  """Arrays that the law takes, and its keywords with `same` in place of functions."""
  group = next(group for group in GROUPS.values() if law in group.laws)
  arrays = jax.tree.map(np.asarray, list(group.arrays[0]))
  keywords = {name: same if callable(value) else value for name, value in group.keywords(law, group.arrays[0]).items()}
  return arrays, keywords


def broken(change):
  """Another form of every array, in trees too."""
  return lambda arrays: jax.tree.map(change, arrays)


FORMS = {
  "0-d": broken(lambda a: a.ravel()[0].reshape(())),
  "1-d": broken(lambda a: a.ravel()[:3]),
  "one axis more": broken(lambda a: a[None]),
  "one axis less": broken(lambda a: a[0]),
  "bool": broken(lambda a: a > 0),
  "integers": broken(lambda a: (3 * a).astype(np.int32)),
  "zeros": broken(np.zeros_like),
  "empty": broken(lambda a: a[:0]),
  "complex": broken(lambda a: a + 1j),
  "text": broken(lambda a: np.full(a.shape, "x")),
  "as given": lambda arrays: arrays,
}


def outcome(law, fn, arrays, keywords):
  """What is raised, or None."""
  try:
    properties.LAWS[law].check(fn, *arrays, **keywords)
  except Exception as error:
    return error
  return None


def fault(error):
  """Empty for what our own line raised, in one line that says what is wanted."""
  if error is None:
    return ""
  last, text = traceback.extract_tb(error.__traceback__)[-1], str(error)
  ours = "/convattn/properties/" in last.filename and linecache.getline(last.filename, last.lineno).strip().startswith(
    "raise"
  )
  told = type(error) is properties.LawBroken or (
    type(error) is ValueError and re.search("must|need|pass|no two|use at|but the", text) is not None
  )
  return "" if ours and told and "\n" not in text else f"{type(error).__name__}, {last.filename}, {last.line}: {text}"


SLOW = ("one axis more", "1-d")


@pytest.mark.parametrize("form", [pytest.param(f, marks=[pytest.mark.slow] if f in SLOW else []) for f in FORMS])
def test_wrong_forms_of_arrays_are_told_what_is_wanted(form):
  faults = {}
  for law in properties.LAWS:
    arrays, keywords = example(law)
    raised = outcome(law, same, FORMS[form](arrays), keywords)
    faults[law] = fault(raised)
    if form in ("empty", "complex", "text"):
      assert isinstance(raised, ValueError), law
  assert {law: each for law, each in faults.items() if each} == {}


@pytest.mark.parametrize("tolerance", [-1e-3, float("nan"), float("inf"), "tight", [1e-3]])
def test_a_tolerance_is_a_finite_number(tolerance):
  for law in properties.LAWS:
    arrays, keywords = example(law)
    raised = outcome(law, same, arrays, {**keywords, "tolerance": tolerance})
    assert isinstance(raised, ValueError) and "tolerance is" in str(raised) and not fault(raised), law


def test_a_tolerance_of_twice_everything_is_none():
  with pytest.raises(ValueError, match="tolerance is 2, but must be below 2"):
    properties.check_agrees(lambda x: x, normal(3), reference=lambda x: -x, tolerance=2)
  with pytest.raises(properties.LawBroken):
    properties.check_agrees(lambda x: x, normal(3), reference=lambda x: -x, tolerance=1.9)


def test_a_whole_number_is_a_seed():
  for law in properties.LAWS:
    arrays, keywords = example(law)
    raised = [outcome(law, same, arrays, {**keywords, "key": key}) for key in (3, jax.random.key(3))]
    assert str(raised[0]) == str(raised[1]) and not fault(raised[0]), (law, raised)
    for key in ("a", 1.5, -1, True):
      wrong = outcome(law, same, arrays, {**keywords, "key": key})
      assert isinstance(wrong, ValueError) and "key is" in str(wrong) and not fault(wrong), law


@pytest.mark.parametrize(
  ("nothing", "message"),
  [
    (None, "returned None"),
    ({}, "a dict without any array"),
    (np.zeros((0, 3)), "no array with a number"),
    ("x", "'x'"),
  ],
)
def test_a_function_that_returns_nothing_passes_no_check(nothing, message):
  for law in properties.LAWS:
    arrays, keywords = example(law)
    raised = outcome(law, lambda *a, key=None: nothing, arrays, keywords)
    assert isinstance(raised, ValueError) and message in str(raised), f"{law}: {raised}"


def test_neither_does_a_reference():
  for law, row in properties.LAWS.items():
    arrays, keywords = example(law)
    functions = [name for name in inspect.signature(row.check).parameters if keywords.get(name) is same]
    for name in functions:
      raised = outcome(law, lambda *a, key=None: same(*a) * 1, arrays, {**keywords, name: lambda *a: None})
      assert raised is not None, law
      assert isinstance(raised, properties.LawBroken) or f"`{name}` returned None" in str(raised), f"{law}: {raised}"


TOKENS, IMAGE = normal(2, 7, 3), normal(2, 5, 6, 3)
CANNOT_FAIL = {
  "a radius as large as the grid": ("local", [IMAGE], {"radius": 6}, "radius is 6"),
  "a negative radius": ("local", [IMAGE], {"radius": -1}, "radius is -1"),
  "a radius as large as the row of tokens": ("local", [TOKENS], {"radius": 7}, "radius is 7"),
  "zeros are affine": ("affine", [0 * TOKENS], {}, "0 everywhere"),
  "zeros are odd": ("odd", [0 * TOKENS], {}, "0 everywhere"),
  "zeros are homogeneous": ("homogeneous", [0 * TOKENS], {}, "0 everywhere"),
  "zeros are invariant": ("scale_invariant", [0 * TOKENS], {}, "0 everywhere"),
  "constants are invariant": ("shift_invariant", [0 * TOKENS + 1], {}, "1 everywhere"),
  "integers have no precision": ("precision", [np.arange(6)], {}, "int64"),
  "a lag that hides nothing": ("causal", [TOKENS], {"lag": -9}, "lag is -9, .* at least -5"),
  "the least lag but one": ("causal", [TOKENS], {"lag": -6}, "lag is -6"),
  "a Jacobian's lag": ("causal_jacobian", [TOKENS], {"lag": -6}, "lag is -6"),
  "a dilation of one": ("dilated", [IMAGE], {"dilation": 1}, "dilation is 1"),
  "one group": ("depthwise", [IMAGE], {"groups": 1}, "groups is 1"),
  "a stride of one": ("stride_subsamples", [IMAGE], {"stride": 1, "unstrided": same}, "stride is 1"),
  "one head": ("equal_heads_merge", [normal(2, 5, 1, 4)] * 3, {}, "at least 2 places"),
  "a full rank": ("rank_at_most", [normal(3, 4)], {"rank": 3}, "rank is 3"),
  "a grid of one place": ("block_toeplitz", [normal(1, 1)], {"grid": (1, 1)}, r"grid is \(1, 1\)"),
  "a line of weights": ("weights_separate", [normal(5, 5)], {"grid": (1, 5)}, r"grid is \(1, 5\)"),
  "one logit": ("symmetric", [normal(1, 1)], {}, "everywhere"),
  "two weights": ("detailed_balance", [np.abs(normal(2, 2))], {}, "3 x 3"),
  "one call": ("deterministic", [TOKENS], {"calls": 1}, "calls is 1"),
  "no direction": ("gradient_is_slope", [TOKENS], {"directions": 0}, "directions is 0"),
  "no argument": ("gradient_is_slope", [TOKENS], {"argnums": ()}, r"argnums is \(\)"),
  "an infinite bound": ("bounded", [TOKENS], {"bound": float("inf")}, "bound is inf"),
  "a bound that is no number": ("bounded", [TOKENS], {"bound": float("nan")}, "bound is nan"),
  "a parameter that is used": ("every_parameter_used", [{"a": TOKENS}], {"allow": ["a"]}, "allow has 'a'"),
  "its own reference": ("agrees", [TOKENS], {"reference": same}, "the function itself"),
  "one copy": ("copies_add_log_bias", [*[normal(2, 5, 4)] * 3, normal(5, 5)], {"copies": 1}, "copies is 1"),
  "a bias of zeros": ("bias_adds", [normal(5, 5), np.zeros((5, 5))], {}, "0 everywhere"),
  "a bias of ones": ("bias_before_softmax", [normal(5, 5), np.ones((5, 5))], {}, "the same all along"),
  "a shift of zero": ("logit_shift_invariant", [normal(5, 5)], {"sizes": (0.0,)}, "more than 0"),
  "a mirrored table": ("shift_sign", [np.array([1.0, 2, 1])], {}, "its own mirror"),
  "a symmetric image": ("flip_equivariant", [np.ones((2, 3, 3, 1))], {}, "stay as they are"),
  "one stride in all": ("circular_translation", [normal(1, 2, 2, 3)], {"stride": 2}, "two strides"),
  "equal heads": ("head_permutation", [np.ones((2, 3))], {"axes": (0,)}, "all heads"),
  "no dtype": ("dtype_kept", [TOKENS], {"dtypes": ()}, r"dtypes is \(\)"),
  "a gate that stays": ("gate_limits", [TOKENS, normal(1)], {"limit": 0.0, "opened": same, "closed": same}, "limit is"),
}


EYE = np.eye(4, dtype=np.float32)
WRONG = [
  ("local", [IMAGE], {"radius": 1, "axes": 1}, r"axes is 1, but must be a tuple, such as \(1,\)"),
  ("flip_equivariant", [IMAGE], {"axes": 1}, "axes is 1"),
  ("block_toeplitz", [normal(5, 5)], {"grid": 5}, "grid is 5"),
  ("every_parameter_used", [{"a": TOKENS}], {"allow": "a"}, "allow is 'a'"),
  ("logit_shift_invariant", [TOKENS], {"sizes": 3.0}, "sizes is 3.0"),
  ("rows_stochastic", [TOKENS], {"output": "a"}, "output is 'a'"),
  ("local", [IMAGE], {"radius": 1, "offset": 0.5}, "offset is 0.5"),
  ("symmetric", [normal(5, 5)], {"axes": (0,)}, r"both axes of \(0,\)"),
  ("transpose_equivariant", [IMAGE], {"axes": ((1,),)}, "two different ones"),
  ("rotation_equivariant", [IMAGE], {"axes": ((1, -3),)}, "two different ones"),
  ("dtype_kept", [IMAGE], {"dtypes": ("floaty",)}, "dtypes has 'floaty'"),
  ("clipped", [normal(9, 9)], {"distance": 1.5}, "distance is 1.5"),
  ("causal", [np.ones((2, 4, 3), np.float32)], {}, "the same all along axis -2"),
  ("permutation_equivariant", [np.zeros((2, 1, 3), np.float32)], {}, "at least 2 places"),
  ("causal", [EYE], {"argnums": 1}, "argnums names argument 1, but 1 arrays were given"),
  ("causal", [EYE], {"axis": 2}, r"axis is 2, but argument 0 has shape \[4, 4\]"),
  ("flip_equivariant", [EYE], {"axes": (0, 1)}, "an entry for each of 1 arguments"),
  ("fully_masked_row", [EYE > 0], {"policy": "zero"}, "policy is 'zero'"),
  ("mask_isolates", [EYE, np.ones(4, bool)], {}, r"the mask is bool\[4\]"),
  ("every_parameter_used", [{"a": EYE}], {"allow": ["b"]}, "allow has 'b', but the parameters are a"),
  ("gradient_is_slope", [np.arange(3)], {}, "must be float32 or float64"),
  ("local", [EYE], {"radius": 1, "axes": (-3,)}, "axis is -3"),
  ("reach", [EYE], {"radius": 4, "axes": (0, 1)}, "pass a larger image"),
  ("block_toeplitz", [EYE], {"grid": (2, 3)}, r"must be \[..., 6, 6\]"),
  ("interior_translation", [EYE], {"radius": 3, "axes": (0, 1)}, "no output lies 3 places from every border"),
  ("clipped", [EYE], {"distance": 3}, "use at least 5"),
  ("clipped", [normal(6, 6)], {"distance": 1, "grid": (2, 2)}, "there are 6 queries"),
  ("shift_sign", [normal(7, 7, 7)], {}, r"give grid=\(h, w\)"),
  ("only_reached_shifts_learn", [normal(5, 5)], {"axis": (0, 1), "length": (2, 2, 2)}, "must be as many"),
  ("running_average", [TOKENS], {"momentum": 0.5}, "the same the other way round"),
  ("draws_per_example", [TOKENS[:1]], {}, "must have 2 at least"),
]


@pytest.mark.parametrize(("law", "arrays", "keywords", "message"), [*CANNOT_FAIL.values(), *WRONG])
def test_a_check_with_wrong_arguments_or_such_that_it_cannot_fail_says_so(law, arrays, keywords, message):
  result = (lambda *a: jnp.ones((3, 3))) if law == "shift_sign" else same
  raised = outcome(law, result, arrays, keywords)
  assert isinstance(raised, ValueError)
  assert re.search(message, str(raised)) and not fault(raised), str(raised)
