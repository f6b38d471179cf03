"""Groups of attention under jit, vmap, other dtypes and derivatives."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from convattn import ops
from tests.properties.attention import ALL, CORE, PEERS, apply, attention, weights
from tests.properties.group import Group, draw, laws


class Counter:
  def __init__(self):
    self.calls = 0

  def __call__(self, query, key, value):
    self.calls += 1
    return attention(query, key, value) * (1 + 0.1 * (self.calls % 2))


def traced(query, key, value, tracer):
  """Another result where the arguments are tracers of this kind."""
  return attention(query, key, value) * (1.05 if tracer in type(query).__name__ else 1)


@jax.custom_vjp
def wrong_gradient(query, key, value):
  return attention(query, key, value)


wrong_gradient.defvjp(
  lambda q, k, v: (attention(q, k, v), (q, k, v)),
  lambda saved, cotangent: tuple(1.2 * g for g in jax.vjp(attention, *saved)[1](cotangent)),
)


TRANSFORMED = Group(
  arrays=CORE.arrays,
  laws=laws(
    "jit_agrees deterministic dtype_kept precision", vmap_agrees=ALL, gradient_is_slope=ALL, checkpoint_agrees=ALL
  ),
  ours=CORE.ours,
  theirs={
    "jitted jax.nn.dot_product_attention": jax.jit(jax.nn.dot_product_attention),
    "flax.linen.dot_product_attention": nn.dot_product_attention,
  },
  mutants={
    "jit_agrees: another path under jit": lambda q, k, v: traced(q, k, v, "Dynamic"),
    "checkpoint_agrees: another path where it is rematerialised": lambda q, k, v: traced(q, k, v, "Dynamic"),
    "vmap_agrees: another path under vmap": lambda q, k, v: traced(q, k, v, "Batch"),
    "deterministic: remembers that it was called": Counter(),
    "dtype_kept: returns float32": lambda q, k, v: attention(q, k, v).astype(jnp.promote_types(q.dtype, jnp.float32)),
    "precision: computes in bfloat16": lambda q, k, v: attention(*(a.astype(jnp.bfloat16) for a in (q, k, v))).astype(
      q.dtype
    ),
    "precision: softmax in float16": lambda q, k, v: apply(weights(q, k).astype(jnp.float16).astype(q.dtype), v),
    "gradient_is_slope: gradient too large": wrong_gradient,
    "gradient_is_slope: queries behind a stop_gradient": lambda q, k, v: attention(jax.lax.stop_gradient(q), k, v),
  },
)


def kinked(fn, gradient):
  """Another gradient than its own: of the point and the cotangent."""
  wrong = jax.custom_vjp(fn)
  wrong.defvjp(lambda x: (fn(x), x), lambda x, cotangent: (gradient(x, cotangent),))
  return wrong


def behind_dense(fn):
  """Between two dense layers."""
  w = jnp.asarray(draw((5, 5), seed=3)[0])
  return lambda x: fn(x @ w) @ w


def times(factor):
  return kinked(jax.nn.relu, lambda x, cotangent: factor * jnp.where(x > 0, cotangent, 0))


KINKED = Group(
  arrays=(draw((3, 4, 5), seed=7), draw((16, 5), seed=1)),
  laws=laws("gradient_is_slope precision"),
  ours={"max_pool": lambda x: ops.max_pool(x[None, ..., None] if x.ndim == 2 else x[..., None], window=3, stride=2)},
  theirs={
    "jax.nn.relu": jax.nn.relu,
    "dense, relu, dense": behind_dense(jax.nn.relu),
    "jax.nn.relu6": lambda x: jax.nn.relu6(4 * x),
    "jax.nn.leaky_relu": jax.nn.leaky_relu,
    "jax.numpy.clip": lambda x: jnp.clip(x, -0.5, 0.5),
    "jax.numpy.abs": jnp.abs,
    "jax.numpy.sort": lambda x: jnp.sort(x, None),
    "jax.numpy.max": lambda x: x.max(0),
  },
  mutants={
    "gradient_is_slope: a hundredth too large": times(1.01),
    "gradient_is_slope: a hundredth too small": behind_dense(times(0.99)),
    "gradient_is_slope: leaks at negative places": behind_dense(
      kinked(jax.nn.relu, lambda x, cotangent: jnp.where(x > 0, 1, 0.1) * cotangent)
    ),
    "gradient_is_slope: clip's, where it is clipped": kinked(
      lambda x: jnp.clip(x, -0.5, 0.5), lambda x, cotangent: cotangent
    ),
    "gradient_is_slope: a term is missing": lambda x: jnp.abs(x) + 0.3 * jax.lax.stop_gradient(x),
  },
)

LINEAR = Group(
  arrays=(draw((3, 4), (4, 2)), draw((2, 5), (5, 3), seed=1)),
  laws=laws("jvp_is_vjp affine"),
  ours={"dense_dot": lambda x, w: ops.dense_dot(x, w, (((1,), (0,)), ((), ())))},
  theirs={"jax.numpy.matmul": jnp.matmul, "jax.lax.dot": jax.lax.dot},
  mutants={
    "jvp_is_vjp: another transpose": lambda x, w: jax.custom_derivatives.linear_call(
      lambda w, x: jnp.matmul(x, w), lambda w, y: 1.1 * jnp.matmul(y, w.T), w, x
    ),
    "jvp_is_vjp: transpose of one sign": lambda x, w: jax.custom_derivatives.linear_call(
      lambda w, x: jnp.matmul(x, w), lambda w, y: jnp.matmul(y, jnp.abs(w).T), w, x
    ),
  },
)


FORWARD = Group(arrays=CORE.arrays, laws=laws(jvp_is_vjp=ALL), ours=CORE.ours, theirs=PEERS)
