"""How many digits the normalisations keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from convattn.layers import BatchNorm

SHAPE = (3, 5, 6, 4)  # [b, h, w, c]
DEVIATIONS = np.asarray([0, 1, 30, 1000])  # of each channel's mean from 0
SPREAD = np.asarray([1, 0.5, 7, 3])


def far_images(dtype):
  x = np.random.default_rng(0).standard_normal(SHAPE)
  return jnp.asarray((x + DEVIATIONS) * SPREAD, dtype)


def variables(x, dtype):
  """Running averages close to those of x, scale and bias away from 1 and 0."""
  exact = np.asarray(x, np.float64)
  averages = {"mean": exact.mean((0, 1, 2)) + 0.1, "var": exact.var((0, 1, 2)) * 1.2}
  parameters = {"scale": [0.5, 2, 1, 1.5], "bias": [0.1, -0.2, 0.3, 0.4]}
  cast = lambda tree: {name: jnp.asarray(leaf, dtype) for name, leaf in tree.items()}  # noqa: E731
  return {"params": cast(parameters), "batch_stats": cast(averages)}


def equation(x, v, train):
  """The docstring's, in float64, of the numbers that the layer sees."""
  x = np.asarray(x, np.float64)
  p, s = ({name: np.asarray(leaf, np.float64) for name, leaf in v[key].items()} for key in ("params", "batch_stats"))
  mean, variance = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if train else (s["mean"], s["var"])
  return (x - mean) / np.sqrt(variance + 1e-5) * p["scale"] + p["bias"], p["scale"]


def batch_norm(v, x, train, **fields):
  return jax.jit(lambda v, x: BatchNorm(**fields).apply(v, x, train=train, mutable=["batch_stats"])[0])(v, x)


def errors(dtype, train):
  """The largest error of each channel, in deviations of the output."""
  x = far_images(dtype)
  v = variables(x, dtype)
  expected, scale = equation(x, v, train)
  found = np.asarray(batch_norm(v, x, train, dtype=dtype, param_dtype=dtype), np.float64)
  return np.abs(found - expected).max((0, 1, 2)) / scale


@pytest.mark.parametrize("train", [True, False])
def test_a_mean_far_from_zero_costs_its_own_digits_only(train):
  assert np.all(errors(np.float32, train) <= 2**-22 * (DEVIATIONS + 4))
  with jax.enable_x64(True):
    assert np.all(errors(np.float64, train) <= 1e-12)


@pytest.mark.parametrize("train", [True, False])
def test_bfloat16_is_float32_rounded(train):
  x = far_images(jnp.bfloat16)
  v = variables(x, np.float32)
  narrow = batch_norm(v, x, train, dtype=jnp.bfloat16)
  assert narrow.dtype == jnp.bfloat16
  wide = batch_norm(v, x.astype(jnp.float32), train)
  assert wide.dtype == jnp.float32
  np.testing.assert_array_equal(narrow, wide.astype(jnp.bfloat16))
  assert np.any(narrow.astype(jnp.float32) != wide)


@pytest.mark.parametrize("param_dtype", ["bfloat16", "float16", "float32", "float64"])
def test_running_averages_arrive_whatever_the_dtype_of_the_parameters(param_dtype):
  """In 16 bits they would stop where a tenth of the way rounds to nothing: 5 % short in bfloat16."""
  with jax.enable_x64(param_dtype == "float64"):
    layer, x = BatchNorm(param_dtype=jnp.dtype(param_dtype)), far_images(jnp.float32)
    v = layer.init(jax.random.key(0), x, train=False)
    kept = jnp.promote_types(param_dtype, jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(v["batch_stats"])} == {kept}
    step = jax.jit(lambda v: v | layer.apply(v, x, train=True, mutable=["batch_stats"])[1])
    for _ in range(200):
      v = step(v)
    assert {leaf.dtype for leaf in jax.tree.leaves(v["batch_stats"])} == {kept}
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(v["batch_stats"]["mean"], exact.mean((0, 1, 2)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(v["batch_stats"]["var"], exact.var((0, 1, 2)), rtol=1e-4)


def over_vmap(f):
  return jax.vmap(f, (None, 0), axis_name="share")


def over_shard_map(f):
  mesh = jax.make_mesh((2,), ("share",), devices=jax.devices()[:2], axis_types=(AxisType.Auto,))
  one = lambda v, x: jax.tree.map(lambda leaf: leaf[None], f(v, x[0]))  # noqa: E731
  return jax.shard_map(
    one, mesh=mesh, in_specs=(PartitionSpec(), PartitionSpec("share")), out_specs=PartitionSpec("share")
  )


def over_pmap(f):
  return jax.pmap(f, axis_name="share", in_axes=(None, 0), devices=jax.devices()[:2])


@pytest.mark.parametrize("over", [over_vmap, over_shard_map, pytest.param(over_pmap, marks=pytest.mark.slow)])
def test_shares_of_a_batch_are_normalised_as_one(over):
  """Outputs, running averages and gradients; without the axis each share would be a batch of its own."""
  x = np.random.default_rng(0).standard_normal((4, 3, 5, 2)).astype(np.float32) + np.arange(4)[:, None, None, None]
  whole = BatchNorm()
  v = whole.init(jax.random.key(0), x, train=False)

  def step(layer, reduce, v, x):
    def loss(params):
      out, after = layer.apply(v | {"params": params}, x, train=True, mutable=["batch_stats"])
      return jnp.sum(jnp.sin(out)), (out, after["batch_stats"])

    gradients, (out, after) = jax.grad(loss, has_aux=True)(v["params"])
    return out, after, reduce(gradients)

  wanted = jax.jit(lambda v, x: step(whole, lambda g: g, v, x))(v, x)

  def shares(axis_name, total):
    divided = x.reshape(2, 2, *x.shape[1:])
    return over(lambda v, x: step(BatchNorm(axis_name=axis_name), total, v, x))(v, divided)

  # shard_map adds the gradients of what is the same on all devices by itself.
  total = (lambda g: g) if over is over_shard_map else (lambda g: jax.lax.psum(g, "share"))
  out, after, gradients = shares("share", total)
  np.testing.assert_allclose(np.asarray(out).reshape(x.shape), wanted[0], atol=1e-5)
  for ours, theirs in ((after, wanted[1]), (gradients, wanted[2])):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, np.stack([b, b]), atol=1e-4), ours, theirs)
  alone = np.asarray(shares(None, lambda g: g)[0]).reshape(x.shape)
  assert np.abs(alone - wanted[0]).max() > 0.1
