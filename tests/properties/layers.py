"""Groups of normalisations, parameters and dropout."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from convattn import layers
from tests.properties.attention_layers import fixed
from tests.properties.group import Group, draw, laws

NORMALISED = Group(
  arrays=(draw((2, 5, 7)), draw((3, 3, 8), seed=1)),
  laws=laws(
    "shift_invariant standardised odd batch_independent", scale_invariant={"tolerance": 1e-4}, pointwise={"axes": (1,)}
  ),
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
    "scale_invariant: a large epsilon": lambda x: jax.nn.standardize(x, -1, epsilon=0.1),
    "shift_invariant: mean not subtracted": lambda x: x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5),
    "standardised: variance of n - 1": lambda x: (
      (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True, ddof=1) + 1e-5)
    ),
    "odd: absolute value": lambda x: jnp.abs(jax.nn.standardize(x, -1, epsilon=1e-5)),
    "batch_independent: over the batch": lambda x: jax.nn.standardize(x, 0, epsilon=1e-5),
    "pointwise: over the tokens": lambda x: jax.nn.standardize(x, (-2, -1), epsilon=1e-5),
  },
)

IMAGE_AXES = {"axes": (0, 1, 2)}
OVER_BATCH = Group(
  arrays=(draw((2, 5, 3, 4)), draw((3, 3, 7, 2), seed=1)),
  laws=laws(standardised=IMAGE_AXES, shift_invariant=IMAGE_AXES, scale_invariant={**IMAGE_AXES, "tolerance": 1e-4}),
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
    "standardised: running averages": lambda x: nn.BatchNorm(True).apply(
      nn.BatchNorm(True).init(jax.random.key(0), x), x
    ),
    "standardised: statistics of the first image": lambda x: (
      (x - x[:1].mean((1, 2), keepdims=True)) / x[:1].std((1, 2), keepdims=True)
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
  laws=laws("gradient_is_slope", every_parameter_used={"allow": ("key/bias",)}),
  theirs={"flax.linen.MultiHeadDotProductAttention": MHA.apply, "jitted": jax.jit(MHA.apply)},
  mutants={
    "every_parameter_used: queries left out": without("query"),
    "every_parameter_used: output bias forgotten": without("['out']['bias']"),
    "every_parameter_used: values behind a stop_gradient": lambda v, x: MHA.apply(
      {"params": {**v["params"], "value": jax.lax.stop_gradient(v["params"]["value"])}}, x
    ),
  },
)
DENSE_PARAMETERS = Group(
  arrays=trees(DENSE, X, Y),
  laws=laws("every_parameter_used gradient_is_slope checkpoint_agrees"),
  theirs={"flax.linen.Dense": DENSE.apply},
  mutants={"every_parameter_used: bias forgotten": lambda v, x: jnp.einsum("bnc,co->bno", x, v["params"]["kernel"])},
)
CONV_PARAMETERS = Group(
  arrays=trees(CONV, X, Y),
  laws=laws("every_parameter_used gradient_is_slope"),
  theirs={"flax.linen.Conv": CONV.apply},
  mutants={"every_parameter_used: norm after the bias": lambda v, x: jax.nn.standardize(CONV.apply(v, x), 1)},
)
RELATIVE = layers.RelativeAttention(2)
OUR_PARAMETERS = Group(
  arrays=tuple((fixed(RELATIVE, x), x) for x in (draw((2, 3, 2, 4))[0], draw((1, 2, 5, 4), seed=1)[0])),
  laws=laws("gradient_is_slope", every_parameter_used={"allow": ("key/bias",)}),
  ours={"RelativeAttention": jax.jit(RELATIVE.apply)},
  theirs={},
)

REMAT = Group(
  arrays=((DENSE.init(jax.random.key(0), X), X), (DENSE.init(jax.random.key(1), Y), Y)),
  laws=laws("checkpoint_agrees jvp_is_vjp"),
  theirs={"flax.linen.Dense": DENSE.apply, "jitted": jax.jit(DENSE.apply)},
)


def dropout(x, key, rate=0.4, scale=None, shape=None):
  keep = jax.random.bernoulli(key, 1 - rate, x.shape if shape is None else shape)
  return jnp.where(keep, x / (1 - rate if scale is None else scale), 0)


DROPPED = Group(
  arrays=(draw((2, 5, 4)), draw((3, 7), seed=1)),
  laws=laws("key_decides draws_per_example", expectation={"evaluation": lambda x: x}),
  ours={"StochasticDepth": lambda x, key: layers.StochasticDepth(0.4).apply({}, x, train=True, rngs={"dropout": key})},
  theirs={
    "flax.linen.Dropout": lambda x, key: nn.Dropout(0.4, deterministic=False).apply({}, x, rngs={"dropout": key}),
    "jax.random.bernoulli": lambda x, key: dropout(x, key),
    "noise": lambda x, key: x + jax.random.normal(key, x.shape),
  },
  mutants={
    "key_decides: a key of its own": lambda x, key: x,
    "draws_per_example: one draw for the batch": lambda x, key: dropout(x, key, shape=(1, *x.shape[1:])),
    "draws_per_example: one draw of stochastic depth for the batch": lambda x, key: dropout(x, key, shape=(1,)),
    "draws_per_example: pairs share a draw": lambda x, key: (
      jnp.repeat(dropout(jnp.ones_like(x[::2]), key), 2, 0)[: len(x)] * x
    ),
    "expectation: not divided by the rate kept": lambda x, key: dropout(x, key, scale=1),
    "expectation: divided by a rate a little too large": lambda x, key: dropout(x, key, scale=0.63),
    "expectation: divided by the rate dropped": lambda x, key: dropout(x, key, scale=0.4),
    "expectation: keeps too few": lambda x, key: dropout(x, key, rate=0.45, scale=0.6),
  },
)
EVALUATED = Group(
  arrays=DROPPED.arrays,
  laws=laws("key_ignored"),
  ours={"StochasticDepth": lambda x, key: layers.StochasticDepth(0.4).apply({}, x, train=False, rngs={"dropout": key})},
  theirs={
    "flax.linen.Dropout": lambda x, key: nn.Dropout(0.4, deterministic=True).apply({}, x, rngs={"dropout": key}),
    "rate 0": lambda x, key: dropout(x, key, rate=0.0),
  },
  mutants={
    "key_ignored: still drops": dropout,
    "key_ignored: still drops one sample in a hundred": lambda x, key: dropout(x, key, rate=0.01, shape=(1,)),
    "key_ignored: a little noise": lambda x, key: x + 1e-6 * jax.random.normal(key, x.shape),
  },
)
