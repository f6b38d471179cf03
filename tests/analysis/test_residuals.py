"""What a derivative keeps, where one can say it beforehand."""

import jax
import jax.numpy as jnp
import pytest

from convattn.analysis.residuals import residuals
from convattn.ops.convolutions import depthwise_conv

PARAMS = jax.ShapeDtypeStruct((5, 3), jnp.float32)
INPUTS = jax.ShapeDtypeStruct((2, 5), jnp.float32)


@jax.jit
def sine(x):
  return jnp.sin(x)


def kept(function, params=PARAMS, inputs=INPUTS):
  return sorted(
    (each.shape, each.dtype.name) for each in residuals(lambda p, x, key: (function(p, x), None), params, inputs)
  )


@pytest.mark.parametrize(
  "function, expected",
  [
    (lambda p, x: x + 1, []),  # linear
    (lambda p, x: jnp.sin(x), [((2, 5), "float32")]),  # its cosine
    (lambda p, x: x @ p, [((2, 5), "float32")]),  # p is there anyway
    (lambda p, x: x @ (p * p), [((2, 5), "float32"), ((5, 3), "float32")]),  # p * p is not
    (
      lambda p, x: (x @ p) * (x @ p[::-1]).sum(),
      [((), "float32"), ((2, 3), "float32"), ((2, 5), "float32"), ((5, 3), "float32")],
    ),
    (lambda p, x: x * jnp.sin(jnp.ones(5))[None], []),  # a constant
    (lambda p, x: x.reshape(5, 2) @ x, [((2, 5), "float32")]),  # a view of what is kept
    (lambda p, x: jax.jit(lambda x: x.T)(x) @ x, [((2, 5), "float32")]),  # behind a call
    (lambda p, x: sine(sine(x)), [((2, 5), "float32")] * 2),  # one program, called twice
    (lambda p, x: x.astype(jnp.bfloat16) @ p.astype(jnp.bfloat16), [((2, 5), "bfloat16"), ((5, 3), "bfloat16")]),
    (jax.checkpoint(lambda p, x: jnp.sin(jnp.sin(x) @ p)), [((2, 5), "float32")]),  # the input alone
  ],
)
def test_what_is_kept(function, expected):
  assert kept(function) == expected


def test_something_is_missed_without_looking_through_views():
  """The negative control: autodiff's own list has the array and its view."""
  _, vjp = jax.eval_shape(lambda x: jax.vjp(lambda x: x.T @ x, x), INPUTS)
  assert sorted(leaf.shape for leaf in jax.tree.leaves(vjp)) == [(2, 5), (5, 2)]


def test_a_mask_is_kept_and_its_key_is_not():
  def dropped(params, inputs, key):
    return jnp.where(jax.random.bernoulli(key, 0.5, (2, 1)), inputs, 0.0), None

  (mask,) = residuals(dropped, PARAMS, INPUTS)
  assert (mask.shape, mask.dtype) == ((2, 1), bool)
  assert residuals(jax.checkpoint(dropped), PARAMS, INPUTS) == []


@pytest.mark.parametrize("stride", [1, 2])
def test_a_depthwise_convolution_keeps_its_input_as_the_grouped_form_does(stride):
  kernel = jax.ShapeDtypeStruct((3, 3, 1, 4), jnp.float32)
  images = jax.ShapeDtypeStruct((2, 5, 7, 4), jnp.float32)
  assert kept(lambda k, x: depthwise_conv(x, k, stride=stride), kernel, images) == [((2, 5, 7, 4), "float32")]
