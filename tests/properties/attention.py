"""Groups of attention: cores, weights, logits."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from convattn import ops
from tests.properties.group import Group, draw, laws

HIGHEST = "highest"


def dots(query, key):
  return jnp.einsum("bqhd,bkhd->bhqk", query, key, precision=HIGHEST)


def weights(query, key, bias=None, scale=None, axis=-1):
  logits = dots(query, key) * (query.shape[-1] ** -0.5 if scale is None else scale)
  return jax.nn.softmax(logits if bias is None else logits + jnp.broadcast_to(bias, logits.shape), axis)


def unit(a):
  return a / jnp.linalg.norm(a, axis=-1, keepdims=True)


def apply(w, value):
  return jnp.einsum("bhqk,bkhe->bqhe", w, value, precision=HIGHEST)


def attention(query, key, value, bias=None, **keywords):
  return apply(weights(query, key, bias, **keywords), value)


def places(n, axis, rank):
  return jnp.arange(n, dtype=jnp.float32).reshape([-1 if i == axis else 1 for i in range(rank)])


def batch_mean(query, key, value):
  return attention(query, key - key.mean(0, keepdims=True), value)


ALL = {"argnums": (0, 1, 2)}
PEERS = {
  "jax.nn.dot_product_attention": jax.nn.dot_product_attention,
  "flax.linen.dot_product_attention": nn.dot_product_attention,
}
TIME = {"axis": 1}
OF_KEYS = """equal_keys_average zero_query_averages large_logits_select duplicates_cancel source_permutation_invariant
permutation_equivariant"""
CORE = Group(
  arrays=(draw((2, 3, 2, 4), (2, 5, 2, 4), (2, 5, 2, 4)), draw((3, 7, 3, 5), (3, 4, 3, 5), (3, 4, 3, 5), seed=1)),
  laws=laws(
    "query_key_gauge equal_heads_merge content_matters",
    **dict.fromkeys(OF_KEYS.split(), TIME),
    convex_hull={"value": 2, "axis": 1},
    head_permutation={"axes": (2, 2, 2), "out_axis": 2},
    batch_independent=(0, 1, 2),
    affine=2,
    homogeneous=2,
    not_affine=0,
  ),
  ours={"attend": lambda q, k, v: ops.attend(q, k, v)[0]},
  theirs=PEERS,
  mutants={
    "convex_hull: adds a tenth to the weights": lambda q, k, v: apply(weights(q, k) + 0.1, v),
    "convex_hull: a weight below zero": lambda q, k, v: apply(1.15 * weights(q, k) - 0.15 / k.shape[1], v),
    "equal_keys_average: counts the last key twice": lambda q, k, v: attention(
      q, jnp.concatenate([k, k[:, -1:]], 1), jnp.concatenate([v, v[:, -1:]], 1)
    ),
    "source_permutation_invariant: position of a key as its logit": lambda q, k, v: attention(
      q, k, v, places(k.shape[1], 3, 4) * 0.3
    ),
    "zero_query_averages: subtracts a key's norm": lambda q, k, v: attention(
      q, k, v, -jnp.moveaxis((k**2).sum(-1), 1, 2)[:, :, None] / 4
    ),
    "large_logits_select: weights capped": lambda q, k, v: apply(
      jax.nn.softmax(20 * jnp.tanh(dots(q, k) / q.shape[-1] ** 0.5 / 20)), v
    ),
    "duplicates_cancel: one more in the denominator": lambda q, k, v: attention(
      q, jnp.pad(k, [(0, 0), (1, 0), (0, 0), (0, 0)]), jnp.pad(v, [(0, 0), (1, 0), (0, 0), (0, 0)])
    ),
    "permutation_equivariant: softmax over the queries": lambda q, k, v: attention(jnp.cumsum(q, 1), k, v),
    "query_key_gauge: cosine": lambda q, k, v: attention(unit(q), unit(k), v, scale=5),
    "head_permutation: heads of different temperature": lambda q, k, v: attention(q * places(q.shape[2], 2, 4), k, v),
    "equal_heads_merge: the wrong head's values": lambda q, k, v: attention(q, k, v * (1 + places(q.shape[2], 2, 4))),
    "batch_independent: keys centred over the batch": batch_mean,
    "affine: squares the values": lambda q, k, v: attention(q, k, v + 0.1 * v**2),
    "homogeneous: adds one": lambda q, k, v: attention(q, k, v) + 1,
    "not_affine: linear in its queries": lambda q, k, v: apply(dots(q, k), v),
    "content_matters: forgets the queries": lambda q, k, v: attention(0 * q, k, v),
  },
)


def drop_last(w):
  return w * (jnp.arange(w.shape[-1]) < w.shape[-1] - 1).astype(w.dtype)[None, None, None]


WEIGHTS = Group(
  arrays=(draw((2, 3, 2, 4), (2, 3, 2, 4), (2, 3, 3)), draw((1, 4, 3, 5), (1, 4, 3, 5), (3, 4, 4), seed=1)),
  laws=laws("rows_stochastic bias_before_softmax", logit_shift_invariant=2),
  ours={"attend": lambda q, k, bias: ops.attend(q, k, k, bias=bias)[1]},
  theirs={
    "jax.nn.softmax": weights,
    "flax.linen.dot_product_attention_weights": lambda q, k, bias: nn.dot_product_attention_weights(q, k, bias[None]),
  },
  mutants={
    "rows_stochastic: softmax over the queries": lambda q, k, bias: weights(q, k, bias[None], axis=-2),
    "rows_stochastic: softmax over the heads": lambda q, k, bias: weights(q, k, bias[None], axis=1),
    "rows_stochastic: last key dropped after the softmax": lambda q, k, bias: drop_last(weights(q, k, bias[None])),
    "bias_before_softmax: bias after the softmax": lambda q, k, bias: weights(q, k) + 0.1 * bias[None],
    "bias_before_softmax: bias transposed": lambda q, k, bias: weights(q, k, jnp.swapaxes(bias, 1, 2)[None]),
    "bias_before_softmax: bias scaled too": lambda q, k, bias: weights(q, k, bias[None] / q.shape[-1] ** 0.5),
    "bias_before_softmax: bias of another head": lambda q, k, bias: weights(q, k, bias[None, ::-1]),
    "logit_shift_invariant: squares in place of exponentials": lambda q, k, bias: (
      lambda z: z**2 / (z**2).sum(-1, keepdims=True)
    )(jnp.log(weights(q, k)) + bias[None]),
  },
)


def logits(q, k, bias=0.0):
  return dots(q, k) / q.shape[-1] ** 0.5 + jnp.broadcast_to(bias, (1, q.shape[2], q.shape[1], k.shape[1]))


def general(q, k):
  return jax.lax.dot_general(q, k, (((3,), (3,)), ((0, 2), (0, 2))), precision=HIGHEST)


LOGITS = Group(
  arrays=(draw((2, 3, 2, 4), (2, 5, 2, 4), (2, 3, 5)), draw((1, 7, 3, 5), (1, 4, 3, 5), (3, 7, 4), seed=1)),
  laws=laws("bias_adds"),
  ours={"log of attend's weights": lambda q, k, bias: logits_of_attend(q, k, bias)},
  theirs={"jax.numpy.einsum": logits, "jax.lax.dot_general": lambda q, k, bias: general(q, k) + bias[None]},
  mutants={
    "bias_adds: bias scaled": lambda q, k, bias: logits(q, k, bias / q.shape[-1] ** 0.5),
    "bias_adds: bias times content": lambda q, k, bias: logits(q, k, 0 * bias) * (1 + bias[None]),
    "bias_adds: bias shared by the heads": lambda q, k, bias: logits(q, k, 0 * bias + bias[:1]),
  },
)


def logits_of_attend(q, k, bias):
  """Up to a number per row, which the same weights without bias give."""
  with_bias, without = (ops.attend(q, k, k, bias=each)[1] for each in (bias, 0 * bias))
  first = (jnp.log(with_bias) - jnp.log(without))[..., :1] - bias[None, ..., :1]
  return jnp.log(with_bias) - first


PRODUCTS = Group(
  arrays=(draw((2, 3, 2, 4), (2, 5, 2, 4)), draw((1, 7, 3, 5), (1, 4, 3, 5), seed=1)),
  laws=laws("logit_variance"),
  ours={"scaled_dot": ops.scaled_dot},
  theirs={
    "jax.numpy.einsum": lambda q, k: logits(q, k),
    "jax.lax.dot_general": lambda q, k: general(q, k) / q.shape[-1] ** 0.5,
  },
  mutants={
    "logit_variance: no scale": dots,
    "logit_variance: scaled by the width": lambda q, k: dots(q, k) / q.shape[-1],
    "logit_variance: one head's half, another's four times": lambda q, k: (
      logits(q, k) * jnp.asarray([0.5, *[1.3229] * (q.shape[2] - 1)])[None, :, None, None]
    ),
    "logit_variance: scaled twice": lambda q, k: logits(q * 0.5, k),
  },
)


def gram(x):
  return jnp.einsum("...id,...jd->...ij", x, x, precision=HIGHEST)


GRAM = Group(
  arrays=(draw((2, 5, 4)), draw((1, 3, 5), seed=1)),
  laws=laws("symmetric positive_semidefinite"),
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
    "symmetric: untied": lambda x: gram(x) + 0.3 * jnp.tri(x.shape[-2])[None],
    "positive_semidefinite: negative": lambda x: -gram(x),
    "positive_semidefinite: diagonal taken away": lambda x: gram(x) - 4 * jnp.eye(x.shape[-2])[None],
  },
)

TIED = Group(
  arrays=(draw((2, 5, 2, 4)), draw((1, 3, 3, 5), seed=1)),
  laws=laws("detailed_balance rows_stochastic"),
  ours={"attend": lambda x: ops.attend(x, x, x)[1]},
  theirs={
    "jax.nn.softmax": lambda x: weights(x, x),
    "flax.linen.dot_product_attention_weights": lambda x: nn.dot_product_attention_weights(x, x),
  },
  mutants={
    "detailed_balance: keys are other than queries": lambda x: weights(x, x[..., ::-1] * places(x.shape[-1], 3, 4)),
    "detailed_balance: a bias with a direction": lambda x: weights(
      x, x, 0.05 * places(x.shape[1], 2, 4) * places(x.shape[1], 3, 4) ** 2
    ),
  },
)
