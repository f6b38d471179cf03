"""Groups of what training draws, keeps and reads: rare dropout, running averages, rows of tables."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from convattn import layers, ops
from tests.properties.group import Group, draw, laws
from tests.properties.layers import dropout

RARE = Group(
  arrays=(draw((1, 4)), draw((2, 3), seed=1)),
  laws=laws("key_decides", expectation={"evaluation": lambda x: x}),
  ours={"StochasticDepth": lambda x, key: layers.StochasticDepth(0.01).apply({}, x, train=True, rngs={"dropout": key})},
  theirs={"jax.random.bernoulli": lambda x, key: dropout(x, key, rate=0.01, shape=(len(x), 1))},
  mutants={"key_decides: rounded away": lambda x, key: x + 1e-9 * dropout(x, key, rate=0.01)},
)


def moments(x):
  return {"mean": x.mean((0, 1)), "var": x.var((0, 1))}


def averaged(stats, x, m=0.9, fresh=None):
  return jax.tree.map(lambda old, new: m * old + (1 - m if fresh is None else fresh) * new, stats, moments(x))


RUNNING = Group(
  arrays=tuple(
    ({"mean": mean, "var": jnp.abs(var) + 1}, x)
    for mean, var, x in (draw((4,), (4,), (2, 5, 4)), draw((4,), (4,), (3, 7, 4), seed=1))
  ),
  laws=laws(running_average={"momentum": 0.9, "value": moments}),
  ours={
    "BatchNorm": lambda stats, x: layers.BatchNorm(momentum=0.9).apply(
      {"params": {"scale": jnp.ones(4), "bias": jnp.zeros(4)}, "batch_stats": stats},
      x[:, None],
      train=True,
      mutable=["batch_stats"],
    )[1]["batch_stats"]
  },
  theirs={
    "flax.linen.BatchNorm": lambda stats, x: nn.BatchNorm(False, momentum=0.9).apply(
      {"params": {"scale": jnp.ones(4), "bias": jnp.zeros(4)}, "batch_stats": stats}, x, mutable=["batch_stats"]
    )[1]["batch_stats"],
    "optax.incremental_update": lambda stats, x: optax.incremental_update(moments(x), stats, 0.1),
    "jax.numpy": averaged,
  },
  mutants={
    "running_average: the wrong way round": lambda stats, x: averaged(stats, x, m=0.1),
    "running_average: another momentum": lambda stats, x: averaged(stats, x, m=0.89),
    "running_average: what is new counts fully": lambda stats, x: averaged(stats, x, fresh=1),
    "running_average: of the mean alone": lambda stats, x: averaged(stats, x) | {"var": moments(x)["var"]},
    "running_average: standard deviations": lambda stats, x: (
      averaged(stats, x) | {"var": 0.9 * stats["var"] + 0.1 * jnp.sqrt(moments(x)["var"])}
    ),
  },
)

TOKENS = (jnp.arange(7) % 5).reshape(1, 7), jnp.asarray([[2, 0], [1, 2], [0, 0]])

ROWS = Group(
  arrays=((*draw((5, 3)), TOKENS[0]), (*draw((3, 4), seed=1), TOKENS[1])),
  laws=laws("every_row_read"),
  ours={"clipped_logits": lambda table, tokens: ours_by_shift(table)},
  theirs={
    "gathered": lambda table, tokens: table[tokens],
    "flax.linen.Embed": lambda table, tokens: nn.Embed(*table.shape).apply({"params": {"embedding": table}}, tokens),
    "jax.nn.one_hot": lambda table, tokens: jax.nn.one_hot(tokens, len(table)) @ table,
    "behind a relu": lambda table, tokens: jax.nn.relu(1 + table[tokens]),
  },
  mutants={
    "every_row_read: the first is padding": lambda table, tokens: table[jnp.maximum(tokens, 1)],
    "every_row_read: the last is never reached": lambda table, tokens: table[jnp.minimum(tokens, len(table) - 2)],
    "every_row_read: behind a stop_gradient": lambda table, tokens: jnp.concatenate(
      [jax.lax.stop_gradient(table[:2]), table[2:]]
    )[tokens],
  },
)


def ours_by_shift(table):
  query = jnp.broadcast_to(jnp.eye(table.shape[1])[:, None, None], (table.shape[1], len(table), 1, table.shape[1]))
  return ops.clipped_logits(query, table)
