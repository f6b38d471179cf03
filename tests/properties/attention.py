"""Groups of attention: cores, weights, logits."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from convattn import ops
from tests.properties.group import Group, draw

HIGHEST = "highest"


def weights(query, key, bias=None, scale=None, axis=-1):
  scale = query.shape[-1] ** -0.5 if scale is None else scale
  logits = jnp.einsum("bqhd,bkhd->bhqk", query, key, precision=HIGHEST) * scale
  return jax.nn.softmax(logits if bias is None else logits + jnp.broadcast_to(bias, logits.shape), axis)


def apply(w, value):
  return jnp.einsum("bhqk,bkhe->bqhe", w, value, precision=HIGHEST)


def attention(query, key, value, bias=None, **keywords):
  return apply(weights(query, key, bias, **keywords), value)


def places(n, axis, rank):
  return jnp.arange(n, dtype=jnp.float32).reshape([-1 if i == axis else 1 for i in range(rank)])


class Counter:
  def __init__(self):
    self.calls = 0

  def __call__(self, query, key, value):
    self.calls += 1
    return attention(query, key, value) * (1 + 0.1 * (self.calls % 2))


def batch_mean(query, key, value):
  return attention(query, key - key.mean(0, keepdims=True), value)


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


ALL = {"argnums": (0, 1, 2)}
CORE = Group(
  arrays=(draw((2, 3, 2, 4), (2, 5, 2, 4), (2, 5, 2, 4)), draw((3, 7, 3, 5), (3, 4, 3, 5), (3, 4, 3, 5), seed=1)),
  laws={
    "convex_hull": {"value": 2, "axis": 1},
    "equal_keys_average": {"axis": 1},
    "zero_query_averages": {"axis": 1},
    "large_logits_select": {"axis": 1},
    "duplicates_cancel": {"axis": 1},
    "source_permutation_invariant": {"axis": 1},
    "permutation_equivariant": {"axis": 1},
    "query_key_gauge": {},
    "head_permutation": {"axes": (2, 2, 2), "out_axis": 2},
    "equal_heads_merge": {},
    "batch_independent": ALL,
    "affine": {"argnums": 2},
    "homogeneous": {"argnums": 2},
    "not_affine": {"argnums": 0},
    "content_matters": {},
  },
  ours={"attend": lambda q, k, v: ops.attend(q, k, v)[0]},
  theirs={
    "jax.nn.dot_product_attention": jax.nn.dot_product_attention,
    "flax.linen.dot_product_attention": nn.dot_product_attention,
  },
  mutants={
    "adds a tenth to the weights": ("convex_hull", lambda q, k, v: apply(weights(q, k) + 0.1, v)),
    "a weight below zero": (
      "convex_hull",
      lambda q, k, v: apply(1.15 * weights(q, k) - 0.15 / k.shape[1], v),
    ),
    "counts the last key twice": (
      "equal_keys_average",
      lambda q, k, v: attention(q, jnp.concatenate([k, k[:, -1:]], 1), jnp.concatenate([v, v[:, -1:]], 1)),
    ),
    "position of a key as its logit": (
      "source_permutation_invariant",
      lambda q, k, v: attention(q, k, v, places(k.shape[1], 3, 4) * 0.3),
    ),
    "subtracts a key's norm": (
      "zero_query_averages",
      lambda q, k, v: attention(q, k, v, -jnp.moveaxis((k**2).sum(-1), 1, 2)[:, :, None] / 4),
    ),
    "weights capped": (
      "large_logits_select",
      lambda q, k, v: apply(
        jax.nn.softmax(20 * jnp.tanh(jnp.einsum("bqhd,bkhd->bhqk", q, k, precision=HIGHEST) / q.shape[-1] ** 0.5 / 20)),
        v,
      ),
    ),
    "one more in the denominator": (
      "duplicates_cancel",
      lambda q, k, v: attention(
        q, jnp.pad(k, [(0, 0), (1, 0), (0, 0), (0, 0)]), jnp.pad(v, [(0, 0), (1, 0), (0, 0), (0, 0)])
      ),
    ),
    "softmax over the queries": ("permutation_equivariant", lambda q, k, v: attention(jnp.cumsum(q, 1), k, v)),
    "cosine": (
      "query_key_gauge",
      lambda q, k, v: attention(
        q / jnp.linalg.norm(q, axis=-1, keepdims=True), k / jnp.linalg.norm(k, axis=-1, keepdims=True), v, scale=5
      ),
    ),
    "heads of different temperature": (
      "head_permutation",
      lambda q, k, v: attention(q * places(q.shape[2], 2, 4), k, v),
    ),
    "the wrong head's values": (
      "equal_heads_merge",
      lambda q, k, v: attention(q, k, v * (1 + places(q.shape[2], 2, 4))),
    ),
    "keys centred over the batch": ("batch_independent", batch_mean),
    "squares the values": ("affine", lambda q, k, v: attention(q, k, v + 0.1 * v**2)),
    "adds one": ("homogeneous", lambda q, k, v: attention(q, k, v) + 1),
    "linear in its queries": (
      "not_affine",
      lambda q, k, v: apply(jnp.einsum("bqhd,bkhd->bhqk", q, k, precision=HIGHEST), v),
    ),
    "forgets the queries": ("content_matters", lambda q, k, v: attention(0 * q, k, v)),
  },
)

TRANSFORMED = Group(
  arrays=CORE.arrays,
  laws={
    "jit_agrees": {},
    "vmap_agrees": ALL,
    "deterministic": {},
    "dtype_kept": {},
    "precision": {},
    "gradient_is_slope": ALL,
    "checkpoint_agrees": ALL,
  },
  ours=CORE.ours,
  theirs={
    "jitted jax.nn.dot_product_attention": jax.jit(jax.nn.dot_product_attention),
    "flax.linen.dot_product_attention": nn.dot_product_attention,
  },
  mutants={
    "another path under jit": ("jit_agrees", lambda q, k, v: traced(q, k, v, "Dynamic")),
    "another path where it is rematerialised": ("checkpoint_agrees", lambda q, k, v: traced(q, k, v, "Dynamic")),
    "another path under vmap": ("vmap_agrees", lambda q, k, v: traced(q, k, v, "Batch")),
    "remembers that it was called": ("deterministic", Counter()),
    "returns float32": (
      "dtype_kept",
      lambda q, k, v: attention(q, k, v).astype(jnp.promote_types(q.dtype, jnp.float32)),
    ),
    "computes in bfloat16": (
      "precision",
      lambda q, k, v: attention(*(a.astype(jnp.bfloat16) for a in (q, k, v))).astype(q.dtype),
    ),
    "softmax in float16": (
      "precision",
      lambda q, k, v: apply(weights(q, k).astype(jnp.float16).astype(q.dtype), v),
    ),
    "gradient too large": ("gradient_is_slope", wrong_gradient),
    "queries behind a stop_gradient": (
      "gradient_is_slope",
      lambda q, k, v: attention(jax.lax.stop_gradient(q), k, v),
    ),
  },
)

LINEAR = Group(
  arrays=(draw((3, 4), (4, 2)), draw((2, 5), (5, 3), seed=1)),
  laws={"jvp_is_vjp": {}, "affine": {}},
  ours={"dense_dot": lambda x, w: ops.dense_dot(x, w, (((1,), (0,)), ((), ())))},
  theirs={"jax.numpy.matmul": jnp.matmul, "jax.lax.dot": jax.lax.dot},
  mutants={
    "another transpose": (
      "jvp_is_vjp",
      lambda x, w: jax.custom_derivatives.linear_call(
        lambda w, x: jnp.matmul(x, w), lambda w, y: 1.1 * jnp.matmul(y, w.T), w, x
      ),
    ),
    "transpose of one sign": (
      "jvp_is_vjp",
      lambda x, w: jax.custom_derivatives.linear_call(
        lambda w, x: jnp.matmul(x, w), lambda w, y: jnp.matmul(y, jnp.abs(w).T), w, x
      ),
    ),
  },
)


FORWARD = Group(
  arrays=CORE.arrays,
  laws={"jvp_is_vjp": ALL},
  ours=CORE.ours,
  theirs={
    "jax.nn.dot_product_attention": jax.nn.dot_product_attention,
    "flax.linen.dot_product_attention": nn.dot_product_attention,
  },
)


def bias_core(q, k, bias):
  return weights(q, k, bias)


def drop_last(w):
  return w * (jnp.arange(w.shape[-1]) < w.shape[-1] - 1).astype(w.dtype)[None, None, None]


WEIGHTS = Group(
  arrays=(draw((2, 3, 2, 4), (2, 3, 2, 4), (2, 3, 3)), draw((1, 4, 3, 5), (1, 4, 3, 5), (3, 4, 4), seed=1)),
  laws={
    "rows_stochastic": {},
    "bias_before_softmax": {},
    "logit_shift_invariant": {"argnums": 2},
  },
  ours={"attend": lambda q, k, bias: ops.attend(q, k, k, bias=bias)[1]},
  theirs={
    "jax.nn.softmax": bias_core,
    "flax.linen.dot_product_attention_weights": lambda q, k, bias: nn.dot_product_attention_weights(q, k, bias[None]),
  },
  mutants={
    "softmax over the queries": ("rows_stochastic", lambda q, k, bias: weights(q, k, bias[None], axis=-2)),
    "softmax over the heads": ("rows_stochastic", lambda q, k, bias: weights(q, k, bias[None], axis=1)),
    "last key dropped after the softmax": ("rows_stochastic", lambda q, k, bias: drop_last(weights(q, k, bias[None]))),
    "bias after the softmax": ("bias_before_softmax", lambda q, k, bias: weights(q, k) + 0.1 * bias[None]),
    "bias transposed": ("bias_before_softmax", lambda q, k, bias: weights(q, k, jnp.swapaxes(bias, 1, 2)[None])),
    "bias scaled too": ("bias_before_softmax", lambda q, k, bias: weights(q, k, bias[None] / q.shape[-1] ** 0.5)),
    "bias of another head": ("bias_before_softmax", lambda q, k, bias: weights(q, k, bias[None, ::-1])),
    "squares in place of exponentials": (
      "logit_shift_invariant",
      lambda q, k, bias: (lambda z: z**2 / (z**2).sum(-1, keepdims=True))(jnp.log(weights(q, k)) + bias[None]),
    ),
  },
)


def logits(q, k, bias):
  return jnp.einsum("bqhd,bkhd->bhqk", q, k, precision=HIGHEST) / q.shape[-1] ** 0.5 + bias[None]


LOGITS = Group(
  arrays=(draw((2, 3, 2, 4), (2, 5, 2, 4), (2, 3, 5)), draw((1, 7, 3, 5), (1, 4, 3, 5), (3, 7, 4), seed=1)),
  laws={"bias_adds": {}},
  ours={"log of attend's weights": lambda q, k, bias: _logits_of_attend(q, k, bias)},
  theirs={
    "jax.numpy.einsum": logits,
    "jax.lax.dot_general": lambda q, k, bias: (
      jnp.moveaxis(jax.lax.dot_general(q, k, (((3,), (3,)), ((0, 2), (0, 2))), precision=HIGHEST), 0, 0) + bias[None]
    ),
  },
  mutants={
    "bias scaled": ("bias_adds", lambda q, k, bias: logits(q, k, bias / q.shape[-1] ** 0.5)),
    "bias times content": ("bias_adds", lambda q, k, bias: logits(q, k, 0 * bias) * (1 + bias[None])),
    "bias shared by the heads": ("bias_adds", lambda q, k, bias: logits(q, k, 0 * bias + bias[:1])),
  },
)


def _logits_of_attend(q, k, bias):
  """Up to a number per row, which the same weights without bias give."""
  with_bias, without = (ops.attend(q, k, k, bias=each)[1] for each in (bias, 0 * bias))
  first = (jnp.log(with_bias) - jnp.log(without))[..., :1] - bias[None, ..., :1]
  return jnp.log(with_bias) - first


PRODUCTS = Group(
  arrays=(draw((2, 3, 2, 4), (2, 5, 2, 4)), draw((1, 7, 3, 5), (1, 4, 3, 5), seed=1)),
  laws={"logit_variance": {}},
  ours={"scaled_dot": ops.scaled_dot},
  theirs={
    "jax.numpy.einsum": lambda q, k: logits(q, k, jnp.zeros((q.shape[2], 1, 1))),
    "jax.lax.dot_general": lambda q, k: (
      jax.lax.dot_general(q, k, (((3,), (3,)), ((0, 2), (0, 2)))) / q.shape[-1] ** 0.5
    ),
  },
  mutants={
    "no scale": ("logit_variance", lambda q, k: jnp.einsum("bqhd,bkhd->bhqk", q, k)),
    "scaled by the width": ("logit_variance", lambda q, k: jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1]),
    "one head's half, another's four times": (
      "logit_variance",
      lambda q, k: (
        logits(q, k, jnp.zeros((q.shape[2], 1, 1)))
        * jnp.asarray([0.5, *[1.3229] * (q.shape[2] - 1)])[None, :, None, None]
      ),
    ),
    "scaled twice": ("logit_variance", lambda q, k: jnp.einsum("bqhd,bkhd->bhqk", q * 0.5, k) / q.shape[-1] ** 0.5),
  },
)


def gram(x):
  return jnp.einsum("...id,...jd->...ij", x, x, precision=HIGHEST)


GRAM = Group(
  arrays=(draw((2, 5, 4)), draw((1, 3, 5), seed=1)),
  laws={"symmetric": {}, "positive_semidefinite": {}},
  ours={
    "dot": lambda x: ops.dot(x[:, :, None], x[:, :, None])[:, 0],
    "cosine": lambda x: ops.cosine(x[:, :, None], x[:, :, None])[:, 0],
  },
  theirs={
    "jax.numpy.einsum": gram,
    "jax.numpy.cov": lambda x: jax.vmap(lambda a: jnp.cov(a))(x),
    "gaussian kernel": lambda x: jnp.exp(-jnp.square(x[..., :, None, :] - x[..., None, :, :]).sum(-1)),
  },
  mutants={
    "untied": ("symmetric", lambda x: gram(x) + 0.3 * jnp.tri(x.shape[-2])[None]),
    "negative": ("positive_semidefinite", lambda x: -gram(x)),
    "diagonal taken away": ("positive_semidefinite", lambda x: gram(x) - 4 * jnp.eye(x.shape[-2])[None]),
  },
)

TIED = Group(
  arrays=(draw((2, 5, 2, 4)), draw((1, 3, 3, 5), seed=1)),
  laws={"detailed_balance": {}, "rows_stochastic": {}},
  ours={"attend": lambda x: ops.attend(x, x, x)[1]},
  theirs={
    "jax.nn.softmax": lambda x: weights(x, x),
    "flax.linen.dot_product_attention_weights": lambda x: nn.dot_product_attention_weights(x, x),
  },
  mutants={
    "keys are other than queries": ("detailed_balance", lambda x: weights(x, x[..., ::-1] * places(x.shape[-1], 3, 4))),
    "a bias with a direction": (
      "detailed_balance",
      lambda x: weights(x, x, 0.05 * places(x.shape[1], 2, 4) * places(x.shape[1], 3, 4) ** 2),
    ),
  },
)

GROUPS = {name.lower(): group for name, group in list(globals().items()) if isinstance(group, Group)}
