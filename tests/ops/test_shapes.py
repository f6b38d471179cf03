"""Every array argument of every public op, with one wrong rank and one wrong size."""

import functools
import inspect

import jax
import jax.numpy as jnp
import pytest

from convattn import ops
from tests.ops.every_op import GOOD, IMAGE, NOT_ARRAYS, OF_ANY_SHAPE, OTHER

# Nothing to disagree with. (That the window must divide the image is in test_masks.py.)
ANY_SIZE = {
  ("avg_pool", "x"),
  ("max_pool", "x"),
  ("neighbourhoods", "x"),
  ("padding_mask", "lengths"),
  ("parameter_free_attention", "x"),
  ("window_partition", "x"),
}
# The axis to make longer, where not the last.
AXIS = {
  ("attend", "value"): 1,
  ("attend_pairs", "x"): 1,
  ("attend_row_column", "rows"): 1,
  ("attend_row_column", "columns"): 1,
  ("attend_row_column", "x"): 1,
  ("causal_conv", "kernel"): 1,
  ("clipped_values", "table"): 0,
  ("conv", "kernel"): 2,
  ("pair_weights", "rows"): 1,
  ("pair_weights", "columns"): 1,
  ("weighted_sum", "value"): 1,
  ("window_reverse", "windows"): 1,
}
# Where a later argument than the wrong one is the first to disagree.
BLAMED = {
  ("additive", "query"): "query_weight",
  ("additive", "key"): "key_weight",
  ("additive", "query_weight"): "key_weight",
  ("bilinear", "query"): "weight",
  ("bilinear", "key"): "weight",
  ("centred_bias", "centre"): "centre",
  ("clipped_values", "weights"): "weights",
  ("quadratic_table", "centre"): "centre",
  ("quadratic_table_general", "centre"): "centre",
}


def call(name, **changed):
  shapes = GOOD[name] | changed
  arrays = {key: jax.ShapeDtypeStruct(shape, bool if key == "mask" else jnp.float32) for key, shape in shapes.items()}
  return jax.eval_shape(functools.partial(getattr(ops, name), **OTHER.get(name, {})), **arrays)


def wrong_size(name, argument):
  changed = list(GOOD[name][argument])
  changed[AXIS.get((name, argument), -1)] += 1
  return tuple(changed)


def blamed(name, argument):
  """The first argument binds the sizes, so the disagreement is noticed at the next one."""
  first, *rest = GOOD[name]
  return BLAMED.get((name, argument), rest[0] if argument == first and rest else argument)


def test_every_public_op_is_listed():
  assert set(ops.__all__) == set(GOOD) | NOT_ARRAYS | OF_ANY_SHAPE
  for name, arguments in GOOD.items():
    scalars = set(inspect.signature(getattr(ops, name)).parameters) - set(arguments)
    assert scalars <= {"window", "stride", "grid", "method", "similarity", "dilation", "deviation", "keys"}
    call(name)


@pytest.mark.parametrize("name, argument", [(n, a) for n, arguments in GOOD.items() for a in arguments])
def test_a_wrong_rank_is_named(name, argument):
  with pytest.raises(AssertionError, match=rf"argument '{argument}' has shape .*must be \["):
    call(name, **{argument: (*GOOD[name][argument], 1)})


@pytest.mark.parametrize(
  "name, argument", [(n, a) for n, arguments in GOOD.items() for a in arguments if (n, a) not in ANY_SIZE]
)
def test_a_wrong_size_is_named(name, argument):
  with pytest.raises(AssertionError, match=rf"argument '{blamed(name, argument)}' has shape .*must be \["):
    call(name, **{argument: wrong_size(name, argument)})


def test_a_wrong_dtype_is_named():
  with pytest.raises(AssertionError, match="argument 'kernel' is float32, but must be x's bfloat16"):
    ops.depthwise_conv(jnp.zeros(IMAGE, jnp.bfloat16), jnp.zeros((3, 3, 1, 3)))
  with pytest.raises(AssertionError, match="argument 'x' is int32, but must be floating point"):
    ops.max_pool(jnp.zeros(IMAGE, jnp.int32), window=2, stride=2)
  for wrong in (jnp.ones((2, 1, 3, 5)), jnp.ones((2, 1, 3, 5), jnp.int32)):
    with pytest.raises(AssertionError, match=f"argument 'mask' is {wrong.dtype}, but must be bool"):
      ops.attention_weights(jnp.zeros((2, 2, 3, 5)), mask=wrong)
