"""Everything that a training step changes, and a fingerprint of it."""

import hashlib
import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax


@flax.struct.dataclass
class TrainState:
  """What one update turns into the next. Keys and data order are functions of (seed, step) and so are not in it.

  Attributes:
    step: int32 [], updates applied.
    params: the model's "params".
    model_state: its other collections, such as {"batch_stats": ...}.
    opt_state: optax's.
    ema: {"params", "model_state"}, their running averages; {} without.
    window: sums of the training metrics over the "steps" since the last line of them.
  """

  step: jax.Array
  params: Any
  model_state: dict[str, Any]
  opt_state: optax.OptState
  ema: dict[str, Any]
  window: dict[str, jax.Array]


def update_average(average: Any, values: Any, *, decay: float, count: jax.Array) -> Any:
  """The running average of `values` after its `count`-th update (from 1), without a share of the start.

  average_n = sum_k decay^(n-k) values_k / sum_k decay^(n-k), k = 1 .. n, which is
  average_(n-1) + weight * (values_n - average_(n-1)) with weight = (1 - decay) / (1 - decay^n). Leaves that are not
  floating point are taken over as they are.
  """
  # 1 - decay^n loses most of its digits in float32 when decay is close to 1; expm1 keeps them.
  log_decay = math.log(decay)
  weight = math.expm1(log_decay) / jnp.expm1(count.astype(jnp.float32) * log_decay)

  def update(old: jax.Array, new: jax.Array) -> jax.Array:
    return old + weight.astype(old.dtype) * (new - old) if jnp.issubdtype(new.dtype, jnp.floating) else new

  return jax.tree.map(update, average, values)


def sha256(tree: Any) -> str:
  """Hexadecimal SHA-256 over path, dtype, shape and bytes of every leaf, in the order of the tree."""
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    array = np.asarray(jax.device_get(leaf))
    digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()
