"""`dense_dot` is `lax.dot_general`, written so that a CPU contracts one axis."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.ops import dense_dot

# name -> (shape of x, shape of the kernel, how many axes are contracted)
PRODUCTS = {
  "[.., c] [c, o]": ((2, 3, 5, 4), (4, 7), 1),
  "[.., n, d] [n, d, o]": ((2, 5, 3, 4), (3, 4, 7), 2),
  "[.., c] [c, n, d]": ((2, 5, 4), (4, 3, 7), 1),
  "[c] [c, o]": ((4,), (4, 7), 1),
  "[.., c] [c]": ((2, 5, 4), (4,), 1),
  "no positions": ((0, 5, 4), (4, 7), 1),
}


def last_with_first(x, count):
  return (tuple(range(x.ndim - count, x.ndim)), tuple(range(count))), ((), ())


def draw(*shape, dtype=None):
  return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape), dtype)


def gradients(dot, numbers):
  return jax.jit(jax.value_and_grad(lambda x, kernel: jnp.sum(jnp.sin(dot(x, kernel, numbers))), (0, 1)))


@pytest.mark.parametrize("name", PRODUCTS)
def test_equals_dot_general(name):
  shape, kernel_shape, count = PRODUCTS[name]
  with jax.enable_x64(True):
    x, kernel = draw(*shape), draw(*kernel_shape)
    numbers = last_with_first(x, count)
    out = dense_dot(x, kernel, numbers)
    assert out.shape == (*shape[: len(shape) - count], *kernel_shape[count:])
    np.testing.assert_allclose(out, jax.lax.dot_general(x, kernel, numbers), rtol=1e-12, atol=1e-12)
    found, expected = (gradients(dot, numbers)(x, kernel) for dot in (dense_dot, jax.lax.dot_general))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), found, expected)


def test_axes_may_be_a_list_as_flax_has_it():
  x, kernel = draw(2, 5, 3, 4), draw(3, 4, 7)
  np.testing.assert_array_equal(
    dense_dot(x, kernel, (([2, 3], [0, 1]), ([], []))), dense_dot(x, kernel, last_with_first(x, 2))
  )


@pytest.mark.parametrize(
  "numbers",
  [
    (((2,), (0,)), ((0,), (1,))),  # batch axes
    (((2,), (1,)), ((0,), (0,))),  # batch axes first
    (((2,), (1,)), ((), ())),  # not the kernel's first axis
    (((1,), (0,)), ((), ())),  # not x's last axis
    (((2, 1), (0, 1)), ((), ())),  # x's last axes, turned
    (((1, 2), (1, 0)), ((), ())),  # the kernel's first axes, turned
    (((0, 2), (0, 1)), ((), ())),  # an axis between them
  ],
)
def test_other_axes_are_refused(numbers):
  x, kernel = jnp.ones((3, 3, 3)), jnp.ones((3, 3, 3))
  jax.lax.dot_general(x, kernel, numbers)  # a product, but not ours
  with pytest.raises(ValueError) as error:
    dense_dot(x, kernel, numbers)
  assert str(error.value).startswith(
    f"dimension_numbers are {numbers}, but must pair the last axes of x (3, 3, 3) with the first of kernel (3, 3, 3), "
  )


@pytest.mark.parametrize("precision", ["highest", None])
def test_precision_is_handed_on(precision):
  x, kernel = draw(2, 5, 4), draw(4, 7)
  numbers = last_with_first(x, 1)
  step = jax.jit(jax.value_and_grad(lambda x, k: jnp.sum(dense_dot(x, k, numbers, precision) ** 2), (0, 1)))
  text = step.lower(x, kernel).as_text()
  assert text.count("stablehlo.dot_general") == 3
  # Of both operands; "DEFAULT" is written too.
  assert len(re.findall(r"\bHIGHEST\b", text)) == (6 if precision else 0)


def test_preferred_element_type_is_handed_on():
  # 1 + 2^-10 is no bfloat16.
  x, kernel = jnp.asarray([[1, 2**-10]], jnp.bfloat16), jnp.ones((2, 3), jnp.bfloat16)
  numbers = last_with_first(x, 1)
  wide = dense_dot(x, kernel, numbers, preferred_element_type=jnp.float32)
  assert wide.dtype == jnp.float32
  np.testing.assert_array_equal(wide, 1 + 2**-10)
  narrow = dense_dot(x, kernel, numbers)
  assert narrow.dtype == jnp.bfloat16
  np.testing.assert_array_equal(narrow, jnp.ones((1, 3), jnp.bfloat16))


def contractions(dot, shape, kernel_shape, count):
  """How many axes each product of a gradient's program contracts, and how often it turns an array of positions."""
  x, kernel = draw(*shape, dtype=np.float32), draw(*kernel_shape, dtype=np.float32)
  text = gradients(dot, last_with_first(x, count)).lower(x, kernel).as_text()
  axes = [len(found.split(",")) for found in re.findall(r"contracting_dims = \[([^\]]*)\] x", text)]
  positions = int(np.prod(shape[: len(shape) - count]))
  turned = [
    found
    for found in re.findall(r"stablehlo.transpose.*\(tensor<([\dx]*)x?f32>\)", text)
    if np.prod([int(size) for size in found.split("x") if size]) % positions == 0
  ]
  return axes, len(turned)


@pytest.mark.parametrize("name", ["[.., c] [c, o]", "[.., n, d] [n, d, o]", "[.., c] [c, n, d]"])
def test_a_gradient_contracts_one_axis_and_turns_no_array_of_positions(name):
  shape, kernel_shape, count = PRODUCTS[name]
  shape = (11, 13, *shape[1:])  # positions that divide no kernel
  assert contractions(dense_dot, shape, kernel_shape, count) == ([1, 1, 1], 0)
  theirs, _ = contractions(jax.lax.dot_general, shape, kernel_shape, count)
  assert max(theirs) == len(shape) - count  # of the kernel's gradient: all positions
