"""Products with gradients of our own: all that JAX does with the plain product, it does with ours."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from convattn.ops.gradients import with_gradients

B, C, D = 8, 3, 5
SCALE = 1.5  # a static argument


def product(x, kernel, *, scale):
  return scale * (x @ kernel)


def of_kernel(x, cotangent, kernel, *, scale, wrong=1.0):
  assert (kernel.shape, kernel.dtype) == ((x.shape[1], cotangent.shape[1]), x.dtype)
  return wrong * scale * (x.T @ cotangent)


def of_x(kernel, cotangent, x, *, scale, wrong=1.0):
  assert (x.shape, x.dtype) == ((cotangent.shape[0], kernel.shape[0]), kernel.dtype)
  return wrong * scale * (cotangent @ kernel.T)


PLAIN = functools.partial(product, scale=SCALE)
OURS = {
  "kernel": functools.partial(with_gradients(product, kernel_gradient=of_kernel), scale=SCALE),
  "both": functools.partial(with_gradients(product, kernel_gradient=of_kernel, x_gradient=of_x), scale=SCALE),
}
each = pytest.mark.parametrize("given", OURS)


def wrong(given):
  """Gradients three times as large as they should be, in the kernel or in x."""
  factors = {"kernel_gradient": of_kernel, "x_gradient": of_x}
  factors[f"{given}_gradient"] = functools.partial(factors[f"{given}_gradient"], wrong=3.0)
  return functools.partial(with_gradients(product, **factors), scale=SCALE)


def draw(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def arguments():
  """x, kernel, and a direction for each."""
  return draw(B, C), draw(C, D, seed=1), draw(B, C, seed=2), draw(C, D, seed=3)


def loss(f):
  return lambda x, kernel: jnp.sum(jnp.sin(f(x, kernel)))


def scanned(f):
  """The loss, image by image in a loop."""
  return lambda x, k: jax.lax.scan(lambda total, row: (total + loss(f)(row[None], k), None), jnp.zeros(()), x)[0]


def alone(f):
  """The loss of a single image."""
  return lambda row, kernel: loss(f)(row[None], kernel)


def checkpointed(f, policy=None):
  return jax.checkpoint(loss(f), policy=policy)


# name -> f -> a function of (x, kernel, a tangent of x, a tangent of kernel)
FORWARD = {
  "value": lambda f: lambda x, k, dx, dk: f(x, k),
  "jvp": lambda f: lambda x, k, dx, dk: jax.jvp(f, (x, k), (dx, dk)),
  "jvp in x": lambda f: lambda x, k, dx, dk: jax.jvp(lambda x: f(x, k), (x,), (dx,)),
  "jvp in the kernel": lambda f: lambda x, k, dx, dk: jax.jvp(lambda k: f(x, k), (k,), (dk,)),
  "jvp of jvp": lambda f: lambda *a: jax.jvp(lambda x, k: jax.jvp(f, (x, k), a[2:])[1], a[:2], a[2:]),
  "jacfwd": lambda f: lambda x, k, dx, dk: jax.jacfwd(f, (0, 1))(x, k),
  "linearize": lambda f: lambda x, k, dx, dk: jax.linearize(f, x, k)[1](dx, dk),
  "vmap over x": lambda f: lambda x, k, dx, dk: jax.vmap(f, (2, None), 1)(jnp.stack([x, dx], 2), k),
  "vmap over kernels": lambda f: lambda x, k, dx, dk: jax.vmap(f, (None, 0))(x, jnp.stack([k, dk])),
  "vmap over both": lambda f: lambda x, k, dx, dk: jax.vmap(f, (1, 0))(jnp.stack([x, dx], 1), jnp.stack([k, dk])),
  "jvp of vmap": lambda f: lambda *a: jax.jvp(jax.vmap(f, (0, None)), (a[0][:, None], a[1]), (a[2][:, None], a[3])),
}
REVERSE = {
  "grad": lambda f: lambda x, k, dx, dk: jax.grad(loss(f), (0, 1))(x, k),
  "jacrev": lambda f: lambda x, k, dx, dk: jax.jacrev(f, (0, 1))(x, k),
  "checkpoint": lambda f: lambda x, k, dx, dk: jax.grad(checkpointed(f), (0, 1))(x, k),
  "checkpoint, dots saved": lambda f: (
    lambda x, k, dx, dk: jax.grad(checkpointed(f, jax.checkpoint_policies.dots_saveable), (0, 1))(x, k)
  ),
  "scan": lambda f: lambda x, k, dx, dk: jax.grad(scanned(f), (0, 1))(x, k),
  "per example": lambda f: lambda x, k, dx, dk: jax.vmap(jax.grad(alone(f), (0, 1)), (0, None))(x, k),
  "per kernel": lambda f: lambda x, k, dx, dk: jax.vmap(jax.grad(loss(f), (0, 1)), (None, 0))(x, jnp.stack([k, dk])),
  "transposed tangent": lambda f: (
    lambda x, k, dx, dk: [
      jax.linear_transpose(lambda dx: jax.jvp(lambda x: f(x, k), (x,), (dx,))[1], x)(x @ k)[0],
      jax.linear_transpose(lambda dk: jax.jvp(lambda k: f(x, k), (k,), (dk,))[1], k)(x @ k)[0],
    ]
  ),
}
HIGHER = {
  "jacfwd of grad": lambda f: lambda x, k, dx, dk: jax.jacfwd(jax.grad(loss(f), (0, 1)), (0, 1))(x, k),
  "jacrev of jacfwd": lambda f: lambda x, k, dx, dk: jax.jacrev(jax.jacfwd(loss(f), (0, 1)), (0, 1))(x, k),
  "grad of grad": lambda f: (
    lambda x, k, dx, dk: jax.grad(
      lambda x, k: sum(jnp.sum(jnp.sin(g)) for g in jax.grad(loss(f), (0, 1))(x, k)), (0, 1)
    )(x, k)
  ),
  "third order": lambda f: (
    lambda x, k, dx, dk: jax.jvp(
      jax.grad(lambda x, k: jax.jvp(jax.grad(loss(f), 1), (x, k), (dx, dk))[1].sum(), 1), (x, k), (dx, dk)
    )
  ),
  "grad of vmap": lambda f: (
    lambda x, k, dx, dk: jax.grad(lambda x, k: jax.vmap(alone(f), (0, None))(x, k).sum(), (0, 1))(x, k)
  ),
}
ALL = FORWARD | REVERSE | HIGHER


def assert_close(found, expected):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), found, expected)


@pytest.mark.parametrize("name", ALL)
def test_equals_the_plain_product_and_reverse_mode_and_nothing_else_uses_the_given_gradients(name):
  """Wrong ones show, in their own argument only."""
  functions = {"plain": PLAIN, **OURS, "wrong in x": wrong("x"), "wrong in kernel": wrong("kernel")}
  with jax.enable_x64(True):
    found = jax.jit(lambda *a: {key: ALL[name](f)(*a) for key, f in functions.items()})(*arguments())
    expected = found.pop("plain")
    assert min(np.abs(leaf).max() for leaf in jax.tree.leaves(expected)) > 1e-2
    for given in OURS:
      assert_close(found[given], expected)
    for given, factors in (("wrong in x", (3, 1)), ("wrong in kernel", (1, 3))):
      if name in FORWARD:
        assert_close(found[given], expected)
      elif name in REVERSE:
        assert_close(found[given], type(expected)(a * factor for a, factor in zip(expected, factors, strict=True)))


@each
def test_without_jit(given):
  with jax.enable_x64(True):
    for name in ("value", "jvp", "grad", "per example"):
      assert_close(ALL[name](OURS[given])(*arguments()), ALL[name](PLAIN)(*arguments()))


@each
def test_no_term_for_what_is_not_differentiated(given):
  """Products in the program: one for the value, one for each argument that is differentiated."""
  x, k, dx, dk = arguments()
  f = OURS[given]

  def products(function, *arrays):
    return jax.jit(function).lower(*arrays).as_text().count("stablehlo.dot_general")

  assert products(lambda x, dx: jax.jvp(lambda x: f(x, k), (x,), (dx,)), x, dx) == 2
  assert products(lambda k, dk: jax.jvp(lambda k: f(x, k), (k,), (dk,)), k, dk) == 2
  assert products(lambda *a: jax.jvp(f, a[:2], a[2:]), x, k, dx, dk) == 3
  # Without a gradient of x's own, the product of its tangent stays visible.
  tangent_of_x = str(jax.make_jaxpr(lambda x, dx: jax.jvp(lambda x: f(x, k), (x,), (dx,)))(x, dx))
  assert ("product_of_tangent" in tangent_of_x) == (given == "both")
  assert products(jax.value_and_grad(loss(f), 0), x, k) == 2
  assert products(jax.value_and_grad(loss(f), 1), x, k) == 2
  assert products(jax.value_and_grad(loss(f), (0, 1)), x, k) == 3


@each
def test_rematerialisation_policies_see_the_product(given):
  x, k, *_ = arguments()
  counts = [
    jax.jit(jax.value_and_grad(checkpointed(f, policy), (0, 1))).lower(x, k).as_text().count("stablehlo.dot_general")
    for f in (PLAIN, OURS[given])
    for policy in (jax.checkpoint_policies.dots_saveable, jax.checkpoint_policies.nothing_saveable)
  ]
  assert counts == [3, 4, 3, 4]


def mesh():
  return jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))


@each
@pytest.mark.parametrize("name", ["value", "jvp", "grad", "jacfwd of grad"])
def test_a_batch_spread_over_devices(name, given):
  with jax.enable_x64(True):
    spread = tuple(jax.device_put(a, NamedSharding(mesh(), P("data") if a.shape[0] == B else P())) for a in arguments())
    assert len(spread[0].sharding.device_set) == 4
    assert_close(jax.jit(ALL[name](OURS[given]))(*spread), jax.jit(ALL[name](PLAIN))(*arguments()))


def gradients_in_shards(f, **keywords):
  """Each device its own images; the kernel's gradient is summed over them."""

  def gradients(x, kernel):
    of_x, of_kernel = jax.grad(loss(f), (0, 1))(x, kernel)
    return of_x, of_kernel if keywords.get("check_vma", True) else jax.lax.psum(of_kernel, "data")

  specs = (P("data"), P())
  return jax.jit(jax.shard_map(gradients, mesh=mesh(), in_specs=specs, out_specs=specs, **keywords))


def tangents_in_shards(f):
  in_specs = (P("data"), P(), P("data"), P())
  forward = lambda *a: jax.jvp(f, a[:2], a[2:])  # noqa: E731
  return jax.jit(jax.shard_map(forward, mesh=mesh(), in_specs=in_specs, out_specs=(P("data"), P("data"))))


@each
@pytest.mark.parametrize("keywords", [{}, {"check_vma": False}], ids=str)
def test_gradients_inside_shard_map(given, keywords):
  with jax.enable_x64(True):
    x, k, *_ = arguments()
    expected = jax.jit(jax.grad(loss(PLAIN), (0, 1)))(x, k)
    assert_close(gradients_in_shards(PLAIN, **keywords)(x, k), expected)
    assert_close(gradients_in_shards(OURS[given], **keywords)(x, k), expected)


@each
def test_gradients_through_and_tangents_inside_shard_map(given):
  with jax.enable_x64(True):
    x, k, *_ = arguments()
    shards = jax.shard_map(OURS[given], mesh=mesh(), in_specs=(P("data"), P()), out_specs=P("data"))
    assert_close(jax.jit(jax.grad(loss(shards), (0, 1)))(x, k), jax.jit(jax.grad(loss(PLAIN), (0, 1)))(x, k))
    assert_close(tangents_in_shards(OURS[given])(*arguments()), jax.jit(FORWARD["jvp"](PLAIN))(*arguments()))
