"""Groups of attention: layers, biases, heads."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn import layers, ops
from tests.properties.attention import HIGHEST, PEERS, attention, places, unit
from tests.properties.group import Group, draw, laws


def fixed(module, x, *arguments, scale=1.0, **keywords):
  """Variables of a layer's shapes; nothing is compiled. scale: how far ones and zeros are moved away from."""
  init = functools.partial(module.init, **keywords)
  rng = np.random.default_rng(1)

  def drawn(path, leaf):
    kind = path[-1].key
    if kind in ("scale", "var"):
      a = np.ones(leaf.shape)
    elif kind in ("bias", "mean"):
      a = np.zeros(leaf.shape)
    else:
      a = rng.standard_normal(leaf.shape) / np.sqrt(max(np.prod(leaf.shape[:-1]), 1))
    return np.float32(a + scale * 0.1 * np.cos(np.arange(a.size)).reshape(a.shape))

  return jax.tree_util.tree_map_with_path(drawn, jax.eval_shape(init, jax.random.key(1), x, *arguments))


TOKENS = (draw((2, 5, 4)), draw((3, 7, 4), seed=1))
MHA = nn.MultiHeadDotProductAttention(2, precision=HIGHEST)
MHA_VARIABLES = fixed(MHA, TOKENS[0][0])
RELATIVE = layers.RelativeAttention(2, relative="none")
RELATIVE_VARIABLES = fixed(RELATIVE, TOKENS[0][0][:, None])
PROJECTIONS = draw((4, 2, 3), (4, 2, 3), (4, 2, 3), (2, 3, 4), seed=5)


def projected(x, *, bias=None, mask=None, core=None, parameters=PROJECTIONS, **keywords):
  q, k, v = (jnp.einsum("bnc,chd->bnhd", x, p, precision=HIGHEST) for p in parameters[:3])
  core = core or jax.nn.dot_product_attention
  return jnp.einsum("bnhd,hdo->bno", core(q, k, v, bias, mask, **keywords), parameters[3], precision=HIGHEST)


def sinusoids(x):
  n, c = x.shape[1:]
  angles = np.arange(n)[:, None] / 10 ** (np.arange(c)[None] / c)
  return jnp.asarray(np.sin(angles + np.arange(c)[None] % 2 * np.pi / 2), x.dtype)[None]


SELF = {
  "jax.nn.dot_product_attention": projected,
  "flax.linen.MultiHeadDotProductAttention": lambda x: MHA.apply(MHA_VARIABLES, x),
}
LAYER = Group(
  arrays=TOKENS,
  laws=laws("permutation_equivariant not_affine content_matters batch_independent jit_agrees"),
  ours={"RelativeAttention": lambda x: RELATIVE.apply(RELATIVE_VARIABLES, x[:, None])[:, 0]},
  theirs=SELF,
  mutants={
    "permutation_equivariant: positions added": lambda x: projected(x + sinusoids(x)),
    "permutation_equivariant: causal": lambda x: projected(x, is_causal=True),
    "batch_independent: queries of the whole batch": lambda x: projected(x + 0.01 * x.mean(0, keepdims=True)),
    "not_affine: weights of the first input": lambda x: x + x.mean(1, keepdims=True),
    "content_matters: constant": lambda x: 0 * x + 1,
  },
)

POOLED = Group(
  arrays=TOKENS,
  laws=laws("permutation_invariant batch_independent"),
  ours={"RelativeAttention, mean": lambda x: RELATIVE.apply(RELATIVE_VARIABLES, x[:, None])[:, 0].mean(1)},
  theirs={"jax.numpy.max": lambda x: x.max(1), "flax attention, mean": lambda x: MHA.apply(MHA_VARIABLES, x).mean(1)},
  mutants={
    "permutation_invariant: the first token": lambda x: x[:, 0],
    "permutation_invariant: the last token left out": lambda x: x[:, :-1].mean(1),
    "permutation_invariant: flattened": lambda x: x.reshape(x.shape[0], -1)[:, :6],
    "batch_independent: mean of the batch": lambda x: x.mean((0, 1), keepdims=True) + x.mean(1, keepdims=True),
  },
)

RING = nn.Conv(4, (3,), padding="CIRCULAR")
WITH_POSITIONS = Group(
  arrays=TOKENS,
  laws=laws("positions_matter"),
  ours={
    "RelativeAttention, table": lambda x: layers.RelativeAttention(2).apply(
      fixed(layers.RelativeAttention(2), x[:, None], scale=9), x[:, None]
    )[:, 0]
  },
  theirs={
    "flax attention after sinusoids": lambda x: MHA.apply(MHA_VARIABLES, x + sinusoids(x)),
    "flax.linen.Conv": lambda x: nn.Conv(4, (3,)).apply(fixed(nn.Conv(4, (3,)), x), x),
    "flax.linen.Conv on a ring": lambda x: RING.apply(fixed(RING, x), x),
    "jax.nn causal": lambda x: projected(x, is_causal=True),
  },
  mutants={
    "positions_matter: positions left out": projected,
    "positions_matter: the same position for all": lambda x: projected(x + sinusoids(x)[:, :1]),
  },
)

BIASED = Group(
  arrays=(draw((2, 5, 4), (2, 5, 5)), draw((3, 7, 4), (2, 7, 7), seed=1)),
  laws=laws("bias_permutes_along", zero_is_neutral={"without": projected}),
  ours={"attend": lambda x, bias: projected(x, core=lambda q, k, v, b, m: ops.attend(q, k, v, bias=bias)[0])},
  theirs={
    "jax.nn.dot_product_attention": lambda x, bias: projected(x, bias=bias[None]),
    "flax.linen.dot_product_attention": lambda x, bias: projected(x, bias=bias[None], core=nn.dot_product_attention),
  },
  mutants={
    "bias_permutes_along: causal too": lambda x, bias: projected(x, bias=bias[None], is_causal=True),
    "bias_permutes_along: bias of the row before": lambda x, bias: projected(x, bias=jnp.roll(bias, 1, 1)[None]),
    "zero_is_neutral: bias on the values too": lambda x, bias: projected(x, bias=bias[None]) * 1.01,
  },
)

COPIES = Group(
  arrays=(
    draw((2, 3, 2, 4), (2, 5, 2, 4), (2, 5, 2, 4), (2, 2, 3, 5)),
    draw((1, 7, 3, 5), (1, 4, 3, 5), (1, 4, 3, 5), (1, 3, 7, 4), seed=1),
  ),
  laws=laws(copies_add_log_bias={"axis": 1}, convex_hull={"value": 2, "axis": 1}),
  ours={"attend": lambda q, k, v, bias: ops.attend(q, k, v, bias=bias)[0]},
  theirs=PEERS,
  mutants={
    "copies_add_log_bias: bias counts half": lambda q, k, v, bias: attention(q, k, v, bias / 2),
    "copies_add_log_bias: divides by the number of keys": lambda q, k, v, bias: attention(q / k.shape[1], k, v, bias),
  },
)


def core_and_dense(core):
  return lambda q, k, v, out: jnp.einsum("bqhe,heo->bqo", core(q, k, v), out, precision=HIGHEST)


heads = core_and_dense(attention)


HEADS = Group(
  arrays=(
    draw((2, 3, 2, 4), (2, 5, 2, 4), (2, 5, 2, 4), (2, 4, 3)),
    draw((1, 4, 3, 5), (1, 7, 3, 5), (1, 7, 3, 5), (3, 5, 2), seed=1),
  ),
  laws=laws(
    "heads_add_up query_key_gauge",
    head_permutation={"axes": (2, 2, 2, 0)},
    value_output_gauge={"value": 2, "output": 3},
  ),
  ours={"attend": core_and_dense(lambda q, k, v: ops.attend(q, k, v)[0])},
  theirs={name: core_and_dense(core) for name, core in PEERS.items()},
  mutants={
    "head_permutation: output matrix of the next head": core_and_dense(
      lambda q, k, v: attention(q * places(q.shape[2], 2, 4), k, v)
    ),
    "heads_add_up: heads normalised together": lambda q, k, v, out: jnp.tanh(heads(q, k, v, out)),
    "value_output_gauge: activation before the output matrix": core_and_dense(lambda *a: jax.nn.relu(attention(*a))),
    "query_key_gauge: keys normalised": lambda q, k, v, out: heads(q, unit(k), v, out),
  },
)
