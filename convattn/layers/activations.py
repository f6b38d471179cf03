"""Activations by name."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax

from convattn.layers.choices import chosen
from convattn.ops.activations import gelu

Activation = str | Callable[[jax.Array], jax.Array]
"""A name of ACTIVATIONS, or a function of one's own."""

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "gelu": gelu,
  "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
  "silu": nn.silu,
  "relu": nn.relu,
}


def activation_function(activation: Activation) -> Callable[[jax.Array], jax.Array]:
  """The function, by its name or itself; ValueError for an unknown name."""
  function: Callable[[jax.Array], jax.Array] = chosen("activation", activation, ACTIVATIONS)
  return function
