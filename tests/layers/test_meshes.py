"""Every layer computes the same over Explicit, Auto and Manual mesh axes as on one device, and its gradient too."""

import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from convattn import ops

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from every_layer import EXAMPLES, apply, initialise

FAST = ("RelativeAttention", "MBConv", "TransformerBlock", "LocalAttention")


def mesh_of(kind):
  return jax.make_mesh((2,), ("data",), devices=jax.devices()[:2], axis_types=(kind,))


def divided(mesh, x):
  return jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))


def value_and_gradient(name, variables, x):
  """With the loss divided by no axis, as a user's would be."""

  def loss(variables, x):
    out = apply(EXAMPLES[name], variables, x)
    return jnp.sum(jnp.sin(out)), out

  (_, out), gradients = jax.value_and_grad(loss, has_aux=True)(variables, x)
  return out, gradients


@pytest.mark.parametrize(
  "name", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in EXAMPLES]
)
def test_a_batch_may_be_divided_over_axes_of_any_kind(name):
  variables = initialise(EXAMPLES[name])
  x = np.random.default_rng(0).standard_normal((4, *EXAMPLES[name].shape[1:])).astype(np.float32)
  of = jax.jit(functools.partial(value_and_gradient, name))
  wanted, gradients = of(variables, x)
  scale = max([float(jnp.abs(g).max()) for g in jax.tree.leaves(gradients)], default=1.0)
  for kind in (AxisType.Explicit, AxisType.Auto):
    out, slopes = of(variables, divided(mesh_of(kind), x))
    assert out.sharding.spec[0] == "data" or kind == AxisType.Auto
    np.testing.assert_allclose(out, wanted, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * scale), slopes, gradients)
  rows = PartitionSpec("data")
  manual = jax.shard_map(
    lambda v, x: apply(EXAMPLES[name], v, x),
    mesh=mesh_of(AxisType.Auto),
    in_specs=(PartitionSpec(), rows),
    out_specs=rows,
  )
  np.testing.assert_allclose(jax.jit(manual)(variables, x), wanted, atol=1e-4)


def test_an_operator_keeps_the_batch_divided_and_what_is_no_array():
  mesh = mesh_of(AxisType.Explicit)
  x = divided(mesh, np.random.default_rng(0).standard_normal((4, 3, 5, 2)).astype(np.float32))
  around, inside = jax.jit(lambda x: ops.neighbourhoods(x, 3)[0])(x), ops.neighbourhoods(x, 3)[1]
  assert isinstance(inside, np.ndarray)
  np.testing.assert_array_equal(around, ops.neighbourhoods(np.asarray(x), 3)[0])
  pooled = jax.jit(lambda x: ops.max_pool(x, window=2, stride=2))(x)
  assert jax.typeof(pooled).sharding.spec == PartitionSpec("data", None, None, None)
