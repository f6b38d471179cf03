"""Stochastic depth (Huang et al. 2016)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


class StochasticDepth(nn.Module):
  """Drops a residual branch, sample by sample: x * keep / (1 - rate), keep ~ Bernoulli(1 - rate).

  Input and output [b, ...]. The identity where `train` is false or the rate is 0; the identity in the mean otherwise.
  Draws from the "dropout" stream of random numbers; each module has its own.

  Raises:
    ValueError: the rate is not in [0, 1).
  """

  rate: float

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    if not 0 <= self.rate < 1:
      raise ValueError(f"stochastic depth rate is {self.rate}, but must be at least 0 and less than 1.")
    if not train or self.rate == 0:
      return x
    keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, (x.shape[0],) + (1,) * (x.ndim - 1))
    return jnp.where(keep, x / (1 - self.rate), jnp.zeros_like(x))
