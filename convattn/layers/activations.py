"""Activations by name."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax

from convattn.ops.activations import gelu

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "gelu": gelu,
  "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
  "silu": nn.silu,
  "relu": nn.relu,
}
