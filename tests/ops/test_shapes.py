"""Every array argument of every public op, with one wrong rank and one wrong size."""

import inspect

import jax.numpy as jnp
import pytest

from convattn import ops

IMAGE, TABLE = (2, 5, 6, 3), (2, 3, 5)
DEPTHWISE = {"x": IMAGE, "kernel": (3, 3, 1, 3)}
GOOD = {
  "attend": {
    "query": (2, 3, 2, 4),
    "key": (2, 5, 2, 4),
    "value": (2, 5, 2, 7),
    "bias": (2, 3, 5),
    "static_weights": (2, 3, 5),
  },
  "avg_pool": {"x": IMAGE},
  "conv": {"x": IMAGE, "kernel": (3, 3, 3, 4)},
  "depthwise_conv": DEPTHWISE,
  "depthwise_conv_grouped": DEPTHWISE,
  "depthwise_conv_shifted": DEPTHWISE,
  "max_pool": {"x": IMAGE},
  "relative_bias": {"table": TABLE},
  "resize_table": {"table": TABLE},
  "relative_bias_gather": {"table": TABLE},
  "relative_bias_one_hot": {"table": TABLE},
}
OTHER = {
  "avg_pool": {"window": 2, "stride": 2},
  "max_pool": {"window": 2, "stride": 2},
  "resize_table": {"grid": (4, 2)},
}
NOT_ARRAYS = {"RESIZE_METHODS", "log_shifts", "relative_offsets"}
OF_ANY_SHAPE = {"dense_dot", "gelu"}  # what dense_dot refuses is in test_dense.py
ANY_SIZE = {("avg_pool", "x"), ("max_pool", "x")}  # nothing to disagree with


def call(name, **changed):
  arrays = {key: jnp.zeros(shape) for key, shape in (GOOD[name] | changed).items()}
  return getattr(ops, name)(**arrays, **OTHER.get(name, {}))


def wrong_size(name, argument):
  """The last axis is tied to another argument, or for a table must be odd."""
  shape = GOOD[name][argument]
  axis = 1 if (name, argument) in {("attend", "value")} else 2 if (name, argument) == ("conv", "kernel") else -1
  changed = list(shape)
  changed[axis] += 1
  return tuple(changed)


def blamed(name, argument):
  """The first argument binds the sizes, so the disagreement is noticed at the next one."""
  second = {"attend": "key", "conv": "kernel"}
  first = next(iter(GOOD[name]))
  return argument if argument != first or len(GOOD[name]) == 1 else second.get(name, list(GOOD[name])[1])


def test_every_public_op_is_listed():
  assert set(ops.__all__) == set(GOOD) | NOT_ARRAYS | OF_ANY_SHAPE
  for name, arguments in GOOD.items():
    scalars = set(inspect.signature(getattr(ops, name)).parameters) - set(arguments)
    assert scalars <= {"window", "stride", "grid", "method"}
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
