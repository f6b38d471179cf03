"""Activations by name."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax

# flax's and jax's own `gelu` is the tanh form unless told otherwise.
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "gelu": functools.partial(jax.nn.gelu, approximate=False),
  "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
  "silu": nn.silu,
  "relu": nn.relu,
}
