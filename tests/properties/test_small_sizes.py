"""Sizes that are small, but on which a check can still fail."""

import jax
import numpy as np
import pytest

from convattn import properties

RANDOM = np.random.default_rng(0)


def normal(*shape):
  return RANDOM.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 1, 9, 1), (1, 9, 1, 1), (1, 9, 9, 1)])
def test_one_channel_one_sample_and_one_row_can_be_checked(shape):
  x = normal(*shape)
  axis = -2 if shape[1] == 1 else -3

  def right(x):
    return x * 2

  def wrong(x):
    return x + np.roll(x, 3, axis) + np.cumsum(x, axis) / 9

  for law, keywords in {
    "local": {"radius": 1},
    "dilated": {"dilation": 2},
    "pointwise": {},
    "windows_isolated": {"window": 3},
    "circular_translation": {},
    "zero_border": {},
    "edge_border": {},
    "interior_translation": {"radius": 1},
    "stride_subsamples": {"stride": 2, "unstrided": right},
  }.items():
    check = properties.LAWS[law].check
    strided = law == "stride_subsamples"
    check((lambda x: right(x)[:, ::2, ::2]) if strided else right, x, **keywords)
    with pytest.raises(properties.LawBroken):
      check((lambda x: wrong(x)[:, ::2, ::2]) if strided else wrong, x, **keywords)
  properties.check_reach(lambda x: x + np.roll(x, 1, (1, 2)) + np.roll(x, -1, (1, 2)), x, radius=0)
  with pytest.raises(properties.LawBroken):
    properties.check_reach(right, x, radius=1)
  properties.check_causal(lambda x: np.cumsum(x, axis), x, axis=axis)
  with pytest.raises(ValueError, match="at least 2 places"):
    properties.check_batch_independent(right, x)


def test_small_sizes_that_can_fail_are_checked():
  """The least lag, two tokens, one query, one head, one key."""
  x = normal(2, 7, 3)
  properties.check_causal(lambda x: np.cumsum(x, 1), x, lag=-5)
  with pytest.raises(properties.LawBroken):
    properties.check_causal(lambda x: x + x.mean(1, keepdims=True), x, lag=-5)
  with pytest.raises(properties.LawBroken):
    properties.check_positive_semidefinite(lambda x: -x * x, normal(1, 1))
  two_alike = np.array([1.0, 1, 2])
  for seed in range(6):
    properties.check_head_permutation(lambda x: x * 2, two_alike, axes=(0,), out_axis=0, key=seed)
  query, key, value = normal(2, 1, 1, 4), normal(2, 1, 1, 4), normal(2, 1, 1, 4)
  properties.check_query_key_gauge(jax.nn.dot_product_attention, query, key, value)
  properties.check_duplicates_cancel(jax.nn.dot_product_attention, query, key, value, axis=1)
  with pytest.raises(properties.LawBroken):
    properties.check_duplicates_cancel(lambda q, k, v: q + v.sum(1, keepdims=True), query, key, value, axis=1)


def test_three_axes_are_tokens_unless_told_otherwise():
  """Samples [b, n, c] are no rows of an image; those of one image [h, w, c] are, when it is said."""
  x = jax.random.normal(jax.random.key(0), (3, 7, 4))
  properties.check_local(lambda x: x + x.mean(0, keepdims=True), x, radius=1)
  properties.check_pointwise(jax.numpy.tanh, x)
  with pytest.raises(properties.LawBroken):
    properties.check_pointwise(lambda x: x + x.mean(1, keepdims=True), x)
  with pytest.raises(properties.LawBroken):
    properties.check_local(lambda x: x + x.mean(0, keepdims=True), x, radius=1, axes=(-3, -2))
