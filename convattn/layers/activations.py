"""Activations by name."""

import functools

import jax

# flax's and jax's own `gelu` is the tanh form unless told otherwise.
ACTIVATIONS = {
  "gelu": functools.partial(jax.nn.gelu, approximate=False),
  "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
}
