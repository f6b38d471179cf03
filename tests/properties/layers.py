"""Groups of normalisations, parameters, gates and dropout."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn import layers
from tests.properties.attention import attention, places, weights
from tests.properties.attention_layers import fixed, projected
from tests.properties.group import Group, draw

NORMALISED = Group(
  arrays=(draw((2, 5, 7)), draw((3, 3, 8), seed=1)),
  laws={
    "scale_invariant": {"tolerance": 1e-4},
    "shift_invariant": {},
    "standardised": {},
    "odd": {},
    "batch_independent": {},
    "pointwise": {"axes": (1,)},
  },
  ours={
    "LayerNorm": lambda x: layers.LayerNorm(1e-5).apply(
      layers.LayerNorm().init(jax.random.key(0), x, train=False), x, train=False
    )
  },
  theirs={
    "flax.linen.LayerNorm": lambda x: nn.LayerNorm(epsilon=1e-5, use_scale=False, use_bias=False).apply({}, x),
    "jax.nn.standardize": lambda x: jax.nn.standardize(x, -1, epsilon=1e-5),
  },
  mutants={
    "a large epsilon": ("scale_invariant", lambda x: jax.nn.standardize(x, -1, epsilon=0.1)),
    "mean not subtracted": ("shift_invariant", lambda x: x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)),
    "variance of n - 1": (
      "standardised",
      lambda x: (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True, ddof=1) + 1e-5),
    ),
    "absolute value": ("odd", lambda x: jnp.abs(jax.nn.standardize(x, -1, epsilon=1e-5))),
    "over the batch": ("batch_independent", lambda x: jax.nn.standardize(x, 0, epsilon=1e-5)),
    "over the tokens": ("pointwise", lambda x: jax.nn.standardize(x, (-2, -1), epsilon=1e-5)),
  },
)

IMAGE_AXES = {"axes": (0, 1, 2)}
OVER_BATCH = Group(
  arrays=(draw((2, 5, 3, 4)), draw((3, 3, 7, 2), seed=1)),
  laws={
    "standardised": IMAGE_AXES,
    "shift_invariant": IMAGE_AXES,
    "scale_invariant": {**IMAGE_AXES, "tolerance": 1e-4},
  },
  ours={
    "BatchNorm": lambda x: layers.BatchNorm().apply(
      fixed(layers.BatchNorm(), x, train=True, scale=0), x, train=True, mutable=["batch_stats"]
    )[0]
  },
  theirs={
    "flax.linen.BatchNorm": lambda x: nn.BatchNorm(False).apply(
      fixed(nn.BatchNorm(False), x, scale=0), x, mutable=["batch_stats"]
    )[0],
    "jax.nn.standardize": lambda x: jax.nn.standardize(x, (0, 1, 2)),
  },
  mutants={
    "running averages": (
      "standardised",
      lambda x: nn.BatchNorm(True).apply(nn.BatchNorm(True).init(jax.random.key(0), x), x),
    ),
    "statistics of the first image": (
      "standardised",
      lambda x: (x - x[:1].mean((1, 2), keepdims=True)) / x[:1].std((1, 2), keepdims=True),
    ),
  },
)

X = draw((2, 5, 4))[0]
Y = draw((3, 7, 4), seed=1)[0]
DENSE = nn.Dense(3)
MHA = nn.MultiHeadDotProductAttention(2)
CONV = nn.Conv(3, (3,))


def trees(module, *inputs):
  return tuple((fixed(module, x), x) for x in inputs)


def without(name):
  """The parameter has no influence."""

  def apply(variables, x):
    variables = jax.tree_util.tree_map_with_path(
      lambda path, a: 0 * a if name in jax.tree_util.keystr(path) else a, variables
    )
    return MHA.apply(variables, x)

  return apply


MHA_PARAMETERS = Group(
  arrays=trees(MHA, X, Y),
  laws={"every_parameter_used": {"allow": ("key/bias",)}, "gradient_is_slope": {}},
  theirs={
    "flax.linen.MultiHeadDotProductAttention": MHA.apply,
    "jitted": jax.jit(MHA.apply),
  },
  mutants={
    "queries left out": ("every_parameter_used", without("query")),
    "output bias forgotten": ("every_parameter_used", without("['out']['bias']")),
    "values behind a stop_gradient": (
      "every_parameter_used",
      lambda v, x: MHA.apply({"params": {**v["params"], "value": jax.lax.stop_gradient(v["params"]["value"])}}, x),
    ),
  },
)
DENSE_PARAMETERS = Group(
  arrays=trees(DENSE, X, Y),
  laws={"every_parameter_used": {}, "gradient_is_slope": {}, "checkpoint_agrees": {}},
  theirs={"flax.linen.Dense": DENSE.apply},
  mutants={
    "bias forgotten": ("every_parameter_used", lambda v, x: jnp.einsum("bnc,co->bno", x, v["params"]["kernel"])),
  },
)
CONV_PARAMETERS = Group(
  arrays=trees(CONV, X, Y),
  laws={"every_parameter_used": {}, "gradient_is_slope": {}},
  theirs={"flax.linen.Conv": CONV.apply},
  mutants={
    "norm after the bias": ("every_parameter_used", lambda v, x: jax.nn.standardize(CONV.apply(v, x), 1)),
  },
)
RELATIVE = layers.RelativeAttention(2)
OUR_PARAMETERS = Group(
  arrays=tuple((fixed(RELATIVE, x), x) for x in (draw((2, 3, 2, 4))[0], draw((1, 2, 5, 4), seed=1)[0])),
  laws={"every_parameter_used": {"allow": ("key/bias",)}, "gradient_is_slope": {}},
  ours={"RelativeAttention": jax.jit(RELATIVE.apply)},
  theirs={},
)

REMAT = Group(
  arrays=((DENSE.init(jax.random.key(0), X), X), (DENSE.init(jax.random.key(1), Y), Y)),
  laws={"checkpoint_agrees": {}, "jvp_is_vjp": {}},
  theirs={"flax.linen.Dense": DENSE.apply, "jitted": jax.jit(DENSE.apply)},
)

SAGAN = layers.SAGANAttention(reduction=1, value_reduction=1)


def sagan_parameters(w, gate):
  kernels = {name: {"kernel": w[:, None]} for name in ("query", "key", "value")}
  return {**kernels, "out": {"kernel": w[None]}, "gamma": gate[0]}


GATED = Group(
  arrays=(draw((2, 5, 4), (4, 4), (1,)), draw((1, 3, 6), (6, 6), (1,), seed=1)),
  laws={"zero_branch_is_identity": {}, "only_gate_learns": {"argnums": 1}},
  ours={
    "SAGANAttention": lambda x, w, gate: SAGAN.apply({"params": sagan_parameters(w, gate)}, x[:, None])[:, 0],
    "LayerScale": lambda x, w, gate: (
      x
      + layers.LayerScale(1.0).apply(
        {"params": {"scale": jnp.broadcast_to(gate, w.shape[:1])}}, jnp.einsum("bnc,cd->bnd", x, w)
      )
    ),
  },
  theirs={
    "dense": lambda x, w, gate: x + gate[None, None] * jnp.einsum("bnc,cd->bnd", x, w),
    "attention": lambda x, w, gate: (
      x + gate[None, None] * jax.nn.dot_product_attention(*(jnp.einsum("bnc,cd->bnd", x, w)[:, :, None],) * 3)[:, :, 0]
    ),
    "flax.linen.Dense": lambda x, w, gate: (
      x + gate[None, None] * nn.Dense(w.shape[1], use_bias=False).apply({"params": {"kernel": w}}, x)
    ),
  },
  mutants={
    "normalised after the sum": (
      "zero_branch_is_identity",
      lambda x, w, gate: jax.nn.standardize(x + gate[None, None] * jnp.einsum("bnc,cd->bnd", x, w)),
    ),
    "no shortcut": ("zero_branch_is_identity", lambda x, w, gate: gate[None, None] * jnp.einsum("bnc,cd->bnd", x, w)),
    "gate starts at one": (
      "zero_branch_is_identity",
      lambda x, w, gate: x + (1 + gate[None, None]) * jnp.einsum("bnc,cd->bnd", x, w),
    ),
    "gate squared": (
      "only_gate_learns",
      lambda x, w, gate: x + gate[None, None] ** 2 * jnp.einsum("bnc,cd->bnd", x, w),
    ),
  },
)


def content(x):
  return projected(x)


def positional(x):
  return projected(
    x, core=lambda q, k, v, *_: attention(0 * q, k, v, -jnp.square(places(x.shape[1], 2, 4) - places(x.shape[1], 3, 4)))
  )


def gated(x, gate, mix=jax.nn.sigmoid):
  g = mix(gate)[None, None]
  return (1 - g) * content(x) + g * positional(x)


def gated_weights(x, gate):
  def core(q, k, v, *_):
    g = jax.nn.sigmoid(gate)[None, None, None]
    position = -jnp.square(places(x.shape[1], 2, 4) - places(x.shape[1], 3, 4))
    w = (1 - g) * weights(q, k) + g * weights(0 * q, k, position)
    return jnp.einsum("bhqk,bkhe->bqhe", w, v)

  return projected(x, core=core)


GATES = Group(
  arrays=((X, *draw((1,))), (Y, *draw((1,), seed=2))),
  laws={"gate_limits": {"opened": positional, "closed": content}},
  theirs={"jax.nn.sigmoid of outputs": gated, "jax.nn.sigmoid of weights": gated_weights},
  mutants={
    "gate the other way round": ("gate_limits", lambda x, gate: gated(x, -gate)),
    "no sigmoid": ("gate_limits", lambda x, gate: gated(x, gate, lambda g: g)),
    "half open at most": ("gate_limits", lambda x, gate: gated(x, gate, lambda g: 0.5 * jax.nn.sigmoid(g))),
  },
)


GPSA = layers.GatedPositionalAttention(2)
GPSA_VARIABLES = fixed(GPSA, X[:, None])


def gpsa(x, gate):
  return GPSA.apply({"params": {**GPSA_VARIABLES["params"], "gate": gate}}, x)


def gpsa_branch(x, position):
  """One of its two attentions, written out: by position, or by content."""
  parameters = GPSA_VARIABLES["params"]
  (b, h, w, c), (row, column) = x.shape, np.divmod(np.arange(x.shape[1] * x.shape[2]), x.shape[2])
  rows, columns = (jnp.asarray(place[None] - place[:, None], x.dtype) for place in (row, column))
  query, key, value = (
    jnp.einsum("bnc,chd->bnhd", x.reshape(b, h * w, c), parameters[name]["kernel"], precision="highest")
    for name in ("query", "key", "value")
  )
  logits = jnp.einsum("hr,rqk->hqk", parameters["position"], jnp.stack([rows, columns, rows**2 + columns**2]))
  attended = attention(0 * query, key, value, logits[None]) if position else attention(query, key, value)
  out = jnp.einsum("bnhd,hdo->bno", attended, parameters["out"]["kernel"], precision="highest")
  return out.reshape(x.shape) + parameters["out"]["bias"][None, None, None]


OUR_GATES = Group(
  arrays=((X[:, None], *draw((2,))), (Y.reshape(1, 3, 7, 4), *draw((2,), seed=2))),
  laws={"gate_limits": {"opened": lambda x: gpsa_branch(x, True), "closed": lambda x: gpsa_branch(x, False)}},
  ours={"GatedPositionalAttention": gpsa},
  theirs={},
  mutants={"one head stays half open": ("gate_limits", lambda x, gate: gpsa(x, gate * jnp.asarray([1, 0])))},
)


def dropout(x, key, rate=0.4, scale=None):
  keep = jax.random.bernoulli(key, 1 - rate, x.shape)
  return jnp.where(keep, x / (1 - rate if scale is None else scale), 0)


DROPPED = Group(
  arrays=(draw((2, 5, 4)), draw((3, 7), seed=1)),
  laws={"key_decides": {}, "expectation": {"evaluation": lambda x: x}},
  ours={"StochasticDepth": lambda x, key: layers.StochasticDepth(0.4).apply({}, x, train=True, rngs={"dropout": key})},
  theirs={
    "flax.linen.Dropout": lambda x, key: nn.Dropout(0.4, deterministic=False).apply({}, x, rngs={"dropout": key}),
    "jax.random.bernoulli": lambda x, key: dropout(x, key),
    "noise": lambda x, key: x + jax.random.normal(key, x.shape),
  },
  mutants={
    "a key of its own": ("key_decides", lambda x, key: x),
    "not divided by the rate kept": ("expectation", lambda x, key: dropout(x, key, scale=1)),
    "divided by a rate a little too large": ("expectation", lambda x, key: dropout(x, key, scale=0.63)),
    "divided by the rate dropped": ("expectation", lambda x, key: dropout(x, key, scale=0.4)),
    "keeps too few": ("expectation", lambda x, key: dropout(x, key, rate=0.45, scale=0.6)),
  },
)
EVALUATED = Group(
  arrays=DROPPED.arrays,
  laws={"key_ignored": {}},
  ours={"StochasticDepth": lambda x, key: layers.StochasticDepth(0.4).apply({}, x, train=False, rngs={"dropout": key})},
  theirs={
    "flax.linen.Dropout": lambda x, key: nn.Dropout(0.4, deterministic=True).apply({}, x, rngs={"dropout": key}),
    "rate 0": lambda x, key: dropout(x, key, rate=0.0),
  },
  mutants={
    "still drops": ("key_ignored", dropout),
    "a little noise": ("key_ignored", lambda x, key: x + 1e-6 * jax.random.normal(key, x.shape)),
  },
)

GROUPS = {name.lower(): group for name, group in list(globals().items()) if isinstance(group, Group)}
