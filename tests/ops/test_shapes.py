"""Every array argument of every public op, with one wrong rank and one wrong size."""

import functools
import inspect

import jax
import jax.numpy as jnp
import pytest

from convattn import ops

IMAGE, TABLE = (2, 5, 6, 3), (2, 3, 5)
DEPTHWISE = {"x": IMAGE, "kernel": (3, 3, 1, 3)}
QUERY_KEY = {"query": (2, 3, 2, 4), "key": (2, 5, 2, 4)}
OTHER_KEY = QUERY_KEY | {"key": (2, 5, 2, 6)}  # of another width
GOOD = {
  "additive": OTHER_KEY | {"query_weight": (2, 4, 3), "key_weight": (2, 6, 3), "vector": (2, 3)},
  "attend": {
    "query": (2, 3, 2, 4),
    "key": (2, 5, 2, 4),
    "value": (2, 5, 2, 7),
    "bias": (2, 3, 5),
    "static_weights": (2, 3, 5),
    "mask": (2, 1, 3, 5),
  },
  "attention_weights": {"logits": (2, 2, 3, 5), "bias": (2, 3, 5), "mask": (1, 2, 1, 5)},
  "avg_pool": {"x": IMAGE},
  "bilinear": OTHER_KEY | {"weight": (2, 4, 6)},
  "causal_conv": {"x": (2, 5, 3), "kernel": (2, 3, 4)},
  "centred_bias": {"centre": (2, 5, 3, 2)},
  "clipped_logits": {"query": (2, 5, 3, 4), "table": (3, 4)},
  "clipped_values": {"weights": (2, 3, 5, 5), "table": (3, 4)},
  "conv": {"x": IMAGE, "kernel": (3, 3, 3, 4)},
  "cosine": QUERY_KEY,
  "depthwise_conv": DEPTHWISE,
  "depthwise_conv_grouped": DEPTHWISE,
  "depthwise_conv_shifted": DEPTHWISE,
  "dot": QUERY_KEY,
  "exact_match": QUERY_KEY,
  "max_pool": {"x": IMAGE},
  "neighbourhoods": {"x": IMAGE},
  "padding_mask": {"lengths": (3,)},
  "parameter_free_attention": {"x": (2, 5, 3)},
  "quadratic_table": {"centre": (3, 2), "alpha": (3,)},
  "quadratic_table_general": {"centre": (3, 2), "root": (3, 2, 2)},
  "relative_bias": {"table": TABLE},
  "resize_table": {"table": TABLE},
  "relative_bias_gather": {"table": TABLE},
  "relative_bias_one_hot": {"table": TABLE},
  "row_column_logits": {"query": (2, 6, 3, 4), "rows": (3, 4), "columns": (5, 4)},
  "scaled_dot": QUERY_KEY,
  "skew": {"shifts": TABLE},
  "unskew": {"pairs": (2, 3, 3)},
  "weighted_sum": {"weights": (2, 2, 3, 5), "value": (2, 5, 2, 7)},
  "window_partition": {"x": (2, 4, 6, 3)},
  "window_reverse": {"windows": (8, 6, 3)},
}
OTHER = {
  "avg_pool": {"window": 2, "stride": 2},
  "centred_bias": {"grid": (2, 3), "deviation": 1.0},
  "max_pool": {"window": 2, "stride": 2},
  "neighbourhoods": {"window": 3},
  "padding_mask": {"keys": 4},
  "quadratic_table": {"grid": (2, 3)},
  "quadratic_table_general": {"grid": (2, 3)},
  "resize_table": {"grid": (4, 2)},
  "window_partition": {"window": (2, 3)},
  "window_reverse": {"window": (2, 3), "grid": (4, 6)},
}
NOT_ARRAYS = {
  "RESIZE_METHODS",
  "causal_mask",
  "log_shifts",
  "neighbour_mask",
  "relative_offsets",
  "shifted_window_mask",
  "sinusoids",
}
OF_ANY_SHAPE = {"dense_dot", "gelu"}  # what dense_dot refuses is in test_dense.py
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
  ("causal_conv", "kernel"): 1,
  ("clipped_values", "table"): 0,
  ("conv", "kernel"): 2,
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
  arrays = {key: jax.ShapeDtypeStruct(shape, bool if key == "mask" else float) for key, shape in shapes.items()}
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
