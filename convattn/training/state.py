"""Everything that a training step changes, and a fingerprint of it."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from convattn.training.sharding import gather


@flax.struct.dataclass
class TrainState:
  """What one update turns into the next. Keys and data order are functions of (seed, step) and so are not in it.

  Attributes:
    step: int32 [], updates applied.
    params: the model's "params".
    model_state: its other collections, such as {"batch_stats": ...}.
    opt_state: optax's.
    ema: {"params", "model_state"}, their running averages in float32 at least; {} without.
    window: sums of the training metrics over the "steps" since the last line of them.
    nonfinite: {"count": int32 [], "first": int32 [], "steps": int32 [8]}, see `count_nonfinite`.
  """

  step: jax.Array
  params: Any
  model_state: dict[str, Any]
  opt_state: optax.OptState
  ema: dict[str, Any]
  window: dict[str, jax.Array]
  nonfinite: dict[str, jax.Array]


def no_nonfinite() -> dict[str, jax.Array]:
  """The counters before the first update."""
  return {
    "count": jnp.zeros((), jnp.int32),
    "first": jnp.full((), -1, jnp.int32),
    "steps": jnp.full((8,), -1, jnp.int32),
  }


def count_nonfinite(counters: dict[str, jax.Array], *, finite: jax.Array, number: jax.Array) -> dict[str, jax.Array]:
  """The counters after update `number` (from 1), whose loss and gradient norm were `finite` (bool []) or were not.

  "count" is the number of updates that were not, "first" the first of them (-1: none); "steps" holds the numbers of the
  newest eight, the n-th (from 0) in place n mod 8, and -1 in places without one.
  """
  count, steps = counters["count"], counters["steps"]
  # A comparison, since an indexed update would lower to a scatter.
  here = ~finite & (jnp.arange(steps.size, dtype=jnp.int32) == count % steps.size)
  return {
    "count": count + ~finite,
    "first": jnp.where(~finite & (count == 0), number, counters["first"]),
    "steps": jnp.where(here, number, steps),
  }


def check_finite(state: TrainState, allowed: int, latest_step: Callable[[], int | None], folder: Path) -> None:
  """Refuses a state in which more updates were not finite than are `allowed` to be skipped.

  Raises:
    FloatingPointError: the steps, the last good checkpoint (`latest_step` is asked for it) and what to do; one line.
  """
  count = int(state.nonfinite["count"])
  if count <= allowed:
    return
  found = jax.device_get(state.nonfinite)
  steps = sorted({int(found["first"]), *(int(step) for step in found["steps"] if step >= 0)})
  good = latest_step()
  raise FloatingPointError(
    f"loss or gradient was not finite at step{'s' * (len(steps) > 1)} {', '.join(map(str, steps))} ({count} in all, "
    f"max_skipped_steps is {allowed}); "
    + (f"the checkpoint of step {good} in {folder} is the last good one. " if good else "")
    + "Raise max_skipped_steps to leave such updates out, and give the same command; or lower "
    "optimizer.peak_learning_rate, raise optimizer.warmup_steps or set optimizer.clip_norm, in another workdir."
  )


def in_float32(tree: Any) -> Any:
  """The tree with its 16-bit numbers in float32, in which small steps add up."""

  def widened(leaf: jax.Array) -> jax.Array:
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

  return jax.tree.map(widened, tree)


def update_average(average: Any, values: Any, share: jax.Array) -> Any:
  """average + share * (values - average), leaf by leaf; `share`, a float32 [], is that of the newest values.

  It is 1 at the first update (see the two below), so that what the average starts from has no part in it. Leaves that
  are not floating point are taken over as they are.
  """

  def update(old: jax.Array, new: jax.Array) -> jax.Array:
    return old + share.astype(old.dtype) * (new - old) if jnp.issubdtype(new.dtype, jnp.floating) else new

  return jax.tree.map(update, average, values)


def debiased_share(decay: float, count: jax.Array) -> jax.Array:
  """The share of the newest of `count` values in their average with a constant decay, which is

  average_n = sum_k decay^(n-k) values_k / sum_k decay^(n-k), k = 1 .. n: (1 - decay) / (1 - decay^n).
  """
  # 1 - decay^n loses most of its digits in float32 when decay is close to 1; expm1 keeps them.
  log_decay = math.log(decay)
  return math.expm1(log_decay) / jnp.expm1(count.astype(jnp.float32) * log_decay)


def warming_share(decay: float, count: jax.Array) -> jax.Array:
  """That of an average whose decay grows with the number n = `count` of values, min(decay, (n - 1) / (n + 8)).

  The first decay is 0, so that the average is the first value and nothing has to be debiased: the shares of all values
  sum to 1. Until (n - 1) / (n + 8) reaches `decay` the average weighs value k by comb(k + 7, 8) / comb(n + 8, 9): it
  lies behind the newest by a tenth of all updates, where a constant decay lets it lie behind by half of them.

  Source: min(decay, (1 + n) / (10 + n)) of TensorFlow's ExponentialMovingAverage, counted from n = -1; it is also the
  polynomial-decay averaging, with eta = 8, of Shamir and Zhang, "Stochastic Gradient Descent for Non-smooth
  Optimization", ICML 2013.
  """
  return jnp.maximum(1 - decay, 9 / (count.astype(jnp.float32) + 8))


def sha256(tree: Any) -> str:
  """Hexadecimal SHA-256 over path, dtype, shape and bytes of every leaf, in the order of the tree.

  How the arrays are divided over devices does not matter; where they are spread over processes, all must call this.
  """
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    array = gather(leaf)
    digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()
