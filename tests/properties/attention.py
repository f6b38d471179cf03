"""Groups of attention: cores, weights, layers, masks, heads."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn import layers, ops
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


def fixed(module, x, *arguments, scale=1.0, **keywords):
  """A layer's variables, and the layer as a function of its input alone."""
  variables = module.init(jax.random.key(1), x, *arguments, **keywords)
  return jax.tree.map(
    lambda a: a + scale * 0.1 * jnp.cos(jnp.arange(a.size, dtype=jnp.float32)).reshape(a.shape), variables
  )


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
  laws={
    "permutation_equivariant": {},
    "not_affine": {},
    "content_matters": {},
    "batch_independent": {},
    "jit_agrees": {},
  },
  ours={"RelativeAttention": lambda x: RELATIVE.apply(RELATIVE_VARIABLES, x[:, None])[:, 0]},
  theirs=SELF,
  mutants={
    "positions added": ("permutation_equivariant", lambda x: projected(x + sinusoids(x))),
    "causal": ("permutation_equivariant", lambda x: projected(x, is_causal=True)),
    "queries of the whole batch": ("batch_independent", lambda x: projected(x + 0.01 * x.mean(0, keepdims=True))),
    "weights of the first input": ("not_affine", lambda x: x + x.mean(1, keepdims=True)),
    "constant": ("content_matters", lambda x: 0 * x + 1),
  },
)

POOLED = Group(
  arrays=TOKENS,
  laws={"permutation_invariant": {}, "batch_independent": {}},
  ours={"RelativeAttention, mean": lambda x: RELATIVE.apply(RELATIVE_VARIABLES, x[:, None])[:, 0].mean(1)},
  theirs={
    "jax.numpy.max": lambda x: x.max(1),
    "flax attention, mean": lambda x: MHA.apply(MHA_VARIABLES, x).mean(1),
  },
  mutants={
    "the first token": ("permutation_invariant", lambda x: x[:, 0]),
    "the last token left out": ("permutation_invariant", lambda x: x[:, :-1].mean(1)),
    "flattened": ("permutation_invariant", lambda x: x.reshape(x.shape[0], -1)[:, :6]),
    "mean of the batch": ("batch_independent", lambda x: x.mean((0, 1), keepdims=True) + x.mean(1, keepdims=True)),
  },
)

WITH_POSITIONS = Group(
  arrays=TOKENS,
  laws={"positions_matter": {}},
  ours={
    "RelativeAttention, table": lambda x: layers.RelativeAttention(2).apply(
      fixed(layers.RelativeAttention(2), x[:, None], scale=9), x[:, None]
    )[:, 0]
  },
  theirs={
    "flax attention after sinusoids": lambda x: MHA.apply(MHA_VARIABLES, x + sinusoids(x)),
    "flax.linen.Conv": lambda x: nn.Conv(4, (3,)).apply(fixed(nn.Conv(4, (3,)), x), x),
    "flax.linen.Conv on a ring": lambda x: nn.Conv(4, (3,), padding="CIRCULAR").apply(
      fixed(nn.Conv(4, (3,), padding="CIRCULAR"), x), x
    ),
    "jax.nn causal": lambda x: projected(x, is_causal=True),
  },
  mutants={
    "positions left out": ("positions_matter", projected),
    "the same position for all": ("positions_matter", lambda x: projected(x + sinusoids(x)[:, :1])),
  },
)

BIASED = Group(
  arrays=(draw((2, 5, 4), (2, 5, 5)), draw((3, 7, 4), (2, 7, 7), seed=1)),
  laws={"bias_permutes_along": {}, "zero_is_neutral": {"without": projected}},
  ours={
    "attend": lambda x, bias: projected(x, core=lambda q, k, v, b, m: ops.attend(q, k, v, bias=bias)[0]),
  },
  theirs={
    "jax.nn.dot_product_attention": lambda x, bias: projected(x, bias=bias[None]),
    "flax.linen.dot_product_attention": lambda x, bias: projected(x, bias=bias[None], core=nn.dot_product_attention),
  },
  mutants={
    "causal too": ("bias_permutes_along", lambda x, bias: projected(x, bias=bias[None], is_causal=True)),
    "bias of the row before": ("bias_permutes_along", lambda x, bias: projected(x, bias=jnp.roll(bias, 1, 1)[None])),
    "bias on the values too": (
      "zero_is_neutral",
      lambda x, bias: projected(x, bias=bias[None]) * 1.01,
    ),
  },
)

COPIES = Group(
  arrays=(
    draw((2, 3, 2, 4), (2, 5, 2, 4), (2, 5, 2, 4), (2, 2, 3, 5)),
    draw((1, 7, 3, 5), (1, 4, 3, 5), (1, 4, 3, 5), (1, 3, 7, 4), seed=1),
  ),
  laws={"copies_add_log_bias": {"axis": 1}, "convex_hull": {"value": 2, "axis": 1}},
  ours={
    "attend": lambda q, k, v, bias: jax.vmap(lambda *a: ops.attend(*(x[None] for x in a[:3]), bias=a[3])[0][0])(
      q, k, v, bias
    )
  },
  theirs={
    "jax.nn.dot_product_attention": jax.nn.dot_product_attention,
    "flax.linen.dot_product_attention": nn.dot_product_attention,
  },
  mutants={
    "bias counts half": ("copies_add_log_bias", lambda q, k, v, bias: attention(q, k, v, bias / 2)),
    "divides by the number of keys": (
      "copies_add_log_bias",
      lambda q, k, v, bias: attention(q / k.shape[1], k, v, bias),
    ),
  },
)


def heads(q, k, v, out):
  return jnp.einsum("bqhe,heo->bqo", attention(q, k, v), out, precision=HIGHEST)


def core_and_dense(core):
  return lambda q, k, v, out: jnp.einsum("bqhe,heo->bqo", core(q, k, v), out, precision=HIGHEST)


HEADS = Group(
  arrays=(
    draw((2, 3, 2, 4), (2, 5, 2, 4), (2, 5, 2, 4), (2, 4, 3)),
    draw((1, 4, 3, 5), (1, 7, 3, 5), (1, 7, 3, 5), (3, 5, 2), seed=1),
  ),
  laws={
    "head_permutation": {"axes": (2, 2, 2, 0)},
    "heads_add_up": {},
    "value_output_gauge": {"value": 2, "output": 3},
    "query_key_gauge": {},
  },
  ours={"attend": core_and_dense(lambda q, k, v: ops.attend(q, k, v)[0])},
  theirs={
    "jax.nn.dot_product_attention": core_and_dense(jax.nn.dot_product_attention),
    "flax.linen.dot_product_attention": core_and_dense(nn.dot_product_attention),
  },
  mutants={
    "output matrix of the next head": (
      "head_permutation",
      lambda q, k, v, out: heads(q * places(q.shape[2], 2, 4), k, v, out),
    ),
    "heads normalised together": ("heads_add_up", lambda q, k, v, out: jnp.tanh(heads(q, k, v, out))),
    "activation before the output matrix": (
      "value_output_gauge",
      lambda q, k, v, out: jnp.einsum("bqhe,heo->bqo", jax.nn.relu(attention(q, k, v)), out),
    ),
    "keys normalised": (
      "query_key_gauge",
      lambda q, k, v, out: heads(q, k / jnp.linalg.norm(k, axis=-1, keepdims=True), v, out),
    ),
  },
)


def causal_conv(x, ahead=0):
  kernel = PROJECTIONS[0].reshape(4, 6)[:, :4][None] * jnp.asarray([0.3, -1, 0.5, 2])[:3, None, None]
  return jax.lax.conv_general_dilated(
    x, kernel, (1,), [(2 - ahead, ahead)], dimension_numbers=("NWC", "WIO", "NWC"), precision=HIGHEST
  )


def masked(x, ahead=0, hidden=-jnp.inf):
  n = x.shape[1]
  seen = np.tril(np.ones((n, n), bool), ahead)
  return projected(x, bias=jnp.where(seen, 0.0, hidden)[None, None])


def peeking(x):
  future = jnp.roll(x, -1, 1)
  return projected(x, is_causal=True) + (future - jax.lax.stop_gradient(future))


def after_softmax(x):
  def core(q, k, v, bias, mask):
    w = weights(q, k)
    return apply(w * jnp.tri(w.shape[-1])[None, None], v)

  return projected(x, core=core)


CAUSAL = Group(
  arrays=TOKENS,
  laws={"causal": {}, "causal_jacobian": {}, "positions_matter": {}},
  ours={
    "attend with a bias": lambda x: projected(
      x,
      core=lambda q, k, v, *_: ops.attend(
        q, k, v, bias=jnp.broadcast_to(jnp.where(jnp.tri(x.shape[1]) > 0, 0, -jnp.inf), (2, x.shape[1], x.shape[1]))
      )[0],
    )
  },
  theirs={
    "jax.nn.dot_product_attention": lambda x: projected(x, is_causal=True),
    "jitted": jax.jit(lambda x: projected(x, is_causal=True)),
    "flax.linen.MultiHeadDotProductAttention": lambda x: MHA.apply(
      MHA_VARIABLES, x, mask=nn.make_causal_mask(x[..., 0])
    ),
    "jax.lax.conv_general_dilated": causal_conv,
    "flax.linen.Conv": lambda x: nn.Conv(3, (2,), padding="CAUSAL").apply(
      fixed(nn.Conv(3, (2,), padding="CAUSAL"), x), x
    ),
    "jax.numpy.cumsum": lambda x: jnp.cumsum(x, 1),
  },
  mutants={
    "sees one ahead": ("causal", lambda x: masked(x, ahead=1)),
    "a soft mask": ("causal", lambda x: masked(x, hidden=-10.0)),
    "masked after the softmax": ("causal", after_softmax),
    "convolution padded alike": ("causal", lambda x: causal_conv(x, ahead=1)),
    "mask transposed": (
      "causal",
      lambda x: projected(x, bias=jnp.where(jnp.tri(x.shape[1]).T > 0, 0, -jnp.inf)[None, None]),
    ),
    "scaled by the sequence's mean": (
      "causal",
      lambda x: projected(x / (1 + jnp.abs(x).mean(1, keepdims=True)), is_causal=True),
    ),
    "a value through a rounding": ("causal", lambda x: jnp.round(jnp.roll(x, -1, 1)) + jnp.cumsum(x, 1)),
    "gradient of the next token": ("causal_jacobian", peeking),
  },
)


def token_mask(x, keep):
  return jnp.broadcast_to(keep[:, None, None], (x.shape[0], 1, x.shape[1], x.shape[1]))


def masked_mean(x, keep):
  return x + jnp.mean(x, 1, keepdims=True, where=keep[..., None])


def masked_sum_over_all(x, keep):
  return x + jnp.where(keep[..., None], x, 0).sum(1, keepdims=True) / x.shape[1]


def lengths(*rows, size):
  return jnp.asarray([[place < row for place in range(size)] for row in rows])


MASKED = Group(
  arrays=((*draw((2, 5, 4)), lengths(3, 4, size=5)), (*draw((3, 7, 4), seed=1), lengths(7, 2, 5, size=7))),
  laws={"mask_isolates": {}, "mask_is_truncation": {}},
  ours={
    "attend with a bias": lambda x, keep: jax.vmap(
      lambda x, keep: projected(
        x[None],
        core=lambda q, k, v, *_: ops.attend(
          q, k, v, bias=jnp.broadcast_to(jnp.where(keep, 0, -jnp.inf)[None, None], (2, x.shape[0], x.shape[0]))
        )[0],
      )[0]
    )(x, keep),
    "attend with a mask": lambda x, keep: projected(
      x, core=lambda q, k, v, *_: ops.attend(q, k, v, mask=keep[:, None, None])[0]
    ),
  },
  theirs={
    "jax.nn.dot_product_attention": lambda x, keep: projected(x, mask=token_mask(x, keep)),
    "flax.linen.MultiHeadDotProductAttention": lambda x, keep: MHA.apply(MHA_VARIABLES, x, mask=token_mask(x, keep)),
    "jax.numpy.mean": masked_mean,
  },
  mutants={
    "a soft mask": ("mask_isolates", lambda x, keep: projected(x, bias=jnp.where(token_mask(x, keep), 0.0, -12.0))),
    "a soft mask that only large content passes": (
      "mask_isolates",
      lambda x, keep: projected(x, bias=jnp.where(token_mask(x, keep), 0.0, -100.0)),
    ),
    "mask forgotten": ("mask_isolates", lambda x, keep: projected(x)),
    "mask of the first sample": (
      "mask_isolates",
      lambda x, keep: projected(x, mask=token_mask(x, keep[:1] | ~keep | keep)),
    ),
    "statistics over the padding": ("mask_isolates", lambda x, keep: masked_mean(x - x.mean(1, keepdims=True), keep)),
    "divides by the padded length": ("mask_is_truncation", masked_sum_over_all),
    "hidden values set to zero, not their weights": (
      "mask_is_truncation",
      lambda x, keep: projected(jnp.where(keep[..., None], x, 0)),
    ),
  },
)


def sanitised(x, keep):
  return projected(jnp.where(keep[..., None], x, 0), mask=token_mask(x, keep))


SANITISED = Group(
  arrays=MASKED.arrays,
  laws={"mask_stops_nan": {}, "mask_isolates": {}},
  ours={
    "attend, cleaned": lambda x, keep: projected(
      jnp.where(keep[..., None], x, 0),
      core=lambda q, k, v, *_: ops.attend(q, k, v, mask=keep[:, None, None])[0],
    ),
    "attention_weights": lambda x, keep: ops.attention_weights(
      ops.dot(x[:, :, None], x[:, :, None]), mask=keep[:, None, None]
    ),
  },
  theirs={
    "jax.numpy.mean": masked_mean,
    "jax.nn.dot_product_attention, cleaned": sanitised,
    "flax attention, cleaned": lambda x, keep: MHA.apply(
      MHA_VARIABLES, jnp.where(keep[..., None], x, 0), mask=token_mask(x, keep)
    ),
  },
  mutants={
    "values not cleaned": ("mask_stops_nan", lambda x, keep: projected(x, mask=token_mask(x, keep))),
    "cleans NaN alone": (
      "mask_stops_nan",
      lambda x, keep: x + (jnp.where(jnp.isnan(x), 0, x) * keep[..., None]).sum(1, keepdims=True),
    ),
    "times the mask": ("mask_stops_nan", lambda x, keep: x + (x * keep[..., None]).sum(1, keepdims=True)),
    "half cleaned": (
      "mask_isolates",
      lambda x, keep: x + jnp.nan_to_num(jnp.where(keep[..., None], x, x * 0.1)).sum(1, keepdims=True),
    ),
  },
)

PAIRS = (
  (
    *draw((2, 3, 2, 4), (2, 5, 2, 4)),
    jnp.asarray(np.random.default_rng(0).random((2, 1, 3, 5)) < 0.7).at[..., 0].set(True),
  ),
  (
    *draw((1, 7, 3, 5), (1, 4, 3, 5), seed=1),
    jnp.asarray(np.random.default_rng(1).random((1, 1, 7, 4)) < 0.6).at[..., 1].set(True),
  ),
)


def masked_weights(q, k, mask, hidden):
  return weights(q, k, jnp.where(mask, 0.0, hidden))


UNIFORM = Group(
  arrays=PAIRS,
  laws={"fully_masked_row": {"policy": "uniform"}, "rows_stochastic": {}},
  ours={
    "attend with a finite bias": lambda q, k, mask: jnp.concatenate(
      [
        ops.attend(
          q[i : i + 1],
          k[i : i + 1],
          k[i : i + 1],
          bias=jnp.broadcast_to(jnp.where(mask[i], 0, jnp.finfo(jnp.float32).min / 2), (q.shape[2], *mask.shape[2:])),
        )[1]
        for i in range(q.shape[0])
      ]
    )
  },
  theirs={
    "flax.linen.dot_product_attention_weights": lambda q, k, mask: nn.dot_product_attention_weights(q, k, mask=mask),
    "jax.nn.softmax of finite logits": lambda q, k, mask: masked_weights(q, k, mask, -1e30),
  },
  mutants={
    "minus infinity": ("fully_masked_row", lambda q, k, mask: masked_weights(q, k, mask, -jnp.inf)),
    "keeps the first key": (
      "fully_masked_row",
      lambda q, k, mask: masked_weights(
        q, k, jnp.where(mask.any(-1, keepdims=True), mask, jnp.arange(mask.shape[-1]) < 1), -1e30
      ),
    ),
  },
)


def zeroed(q, k, mask):
  w = masked_weights(q, k, mask, -1e30)
  return jnp.where(mask.any(-1, keepdims=True), w, 0)


ZEROED = Group(
  arrays=PAIRS,
  laws={"fully_masked_row": {"policy": "zeros"}},
  ours={"attend": lambda q, k, mask: ops.attend(q, k, k, mask=mask)[1]},
  theirs={
    "jax.numpy.where": zeroed,
    "jax.numpy.exp": lambda q, k, mask: (lambda e: e / jnp.maximum(e.sum(-1, keepdims=True), 1e-30))(
      jnp.exp(logits(q, k, jnp.zeros((q.shape[2], 1, 1)))) * mask
    ),
  },
  mutants={
    "uniform": ("fully_masked_row", lambda q, k, mask: masked_weights(q, k, mask, -1e30)),
    "the last row alone": (
      "fully_masked_row",
      lambda q, k, mask: masked_weights(q, k, mask, -1e30).at[:, :, -1].set(zeroed(q, k, mask)[:, :, -1]),
    ),
    "all rows zero where one is": (
      "fully_masked_row",
      lambda q, k, mask: jnp.where(mask.any(-1).all(), zeroed(q, k, mask), 0),
    ),
  },
)
FINITE = Group(
  arrays=PAIRS,
  laws={"fully_masked_row": {"policy": "finite", "axis": 1}},
  ours={"attend": lambda q, k, mask: ops.attend(q, k, k, mask=mask)[0]},
  theirs={
    "jax.nn.dot_product_attention": lambda q, k, mask: jax.nn.dot_product_attention(q, k, k, mask=mask),
    "flax.linen.dot_product_attention": lambda q, k, mask: nn.dot_product_attention(q, k, k, mask=mask),
  },
  mutants={
    "minus infinity": ("fully_masked_row", lambda q, k, mask: apply(masked_weights(q, k, mask, -jnp.inf), k)),
  },
)
GROUPS = {name.lower(): group for name, group in list(globals().items()) if isinstance(group, Group)}
