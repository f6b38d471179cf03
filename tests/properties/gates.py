"""Groups of gated branches."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn import layers
from tests.properties.attention import attention, places, weights
from tests.properties.attention_layers import fixed, projected
from tests.properties.group import Group, draw, laws
from tests.properties.layers import X, Y

SAGAN = layers.SAGANAttention(reduction=1, value_reduction=1)


def sagan_parameters(w, gate):
  kernels = {name: {"kernel": w[:, None]} for name in ("query", "key", "value")}
  return {**kernels, "out": {"kernel": w[None]}, "gamma": gate[0]}


GATED = Group(
  arrays=(draw((2, 5, 4), (4, 4), (1,)), draw((1, 3, 6), (6, 6), (1,), seed=1)),
  laws=laws("zero_branch_is_identity", only_gate_learns=1),
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
    "zero_branch_is_identity: normalised after the sum": lambda x, w, gate: jax.nn.standardize(
      x + gate[None, None] * jnp.einsum("bnc,cd->bnd", x, w)
    ),
    "zero_branch_is_identity: no shortcut": lambda x, w, gate: gate[None, None] * jnp.einsum("bnc,cd->bnd", x, w),
    "zero_branch_is_identity: gate starts at one": lambda x, w, gate: (
      x + (1 + gate[None, None]) * jnp.einsum("bnc,cd->bnd", x, w)
    ),
    "only_gate_learns: gate squared": lambda x, w, gate: x + gate[None, None] ** 2 * jnp.einsum("bnc,cd->bnd", x, w),
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
  laws=laws(gate_limits={"opened": positional, "closed": content}),
  theirs={"jax.nn.sigmoid of outputs": gated, "jax.nn.sigmoid of weights": gated_weights},
  mutants={
    "gate_limits: gate the other way round": lambda x, gate: gated(x, -gate),
    "gate_limits: no sigmoid": lambda x, gate: gated(x, gate, lambda g: g),
    "gate_limits: half open at most": lambda x, gate: gated(x, gate, lambda g: 0.5 * jax.nn.sigmoid(g)),
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
  laws=laws(gate_limits={"opened": lambda x: gpsa_branch(x, True), "closed": lambda x: gpsa_branch(x, False)}),
  ours={"GatedPositionalAttention": gpsa},
  theirs={},
  mutants={"gate_limits: one head stays half open": lambda x, gate: gpsa(x, gate * jnp.asarray([1, 0]))},
)
