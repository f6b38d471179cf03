"""Batch and layer normalisation with one calling convention, so that a block is handed the one or the other."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.choices import chosen, refuse_beside
from convattn.layers.inputs import check_input


class BatchNorm(nn.Module):
  """(x - mean) / sqrt(variance + epsilon) * scale + bias, per channel (Ioffe & Szegedy 2015).

  Input and output [b, h, w, c]. In training mean and variance are those of the whole batch (under jit of the global
  batch, whatever devices it lies on), and the running averages in "batch_stats" follow them; else the running
  averages are used. Statistics are computed in promote_types(dtype, float32) and kept in promote_types(param_dtype,
  float32); the variance is the mean squared
  deviation (PyTorch's running variance is larger by n / (n - 1)). Where each call sees a share of the batch, under
  `jax.vmap`, `jax.pmap` or `jax.shard_map`, `axis_name` names the axes over which the shares are one batch.
  """

  epsilon: float = 1e-5
  momentum: float = 0.9  # share of the old running average
  axis_name: str | tuple[str, ...] | None = None
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    channels = check_input(self, x, "b h w c", "scale")["c"]
    scale = self.param("scale", nn.initializers.ones, (channels,), self.param_dtype)
    bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype)
    # In 16 bits a tenth of the way there would soon round to nothing, and the averages would stop short.
    kept = jnp.promote_types(self.param_dtype, jnp.float32)
    running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), kept)
    running_variance = self.variable("batch_stats", "var", jnp.ones, (channels,), kept)
    wide = x.astype(jnp.promote_types(self.dtype, jnp.float32))
    if train:
      # Of the shares' means the mean is that of all: their batches are equally large.
      together = functools.partial(jax.lax.pmean, axis_name=self.axis_name) if self._has_axes() else lambda share: share
      mean = together(wide.mean((0, 1, 2)))
      variance = together(jnp.square(wide - mean[None, None, None]).mean((0, 1, 2)))
      if not self.is_initializing():
        for running, now in ((running_mean, mean), (running_variance, variance)):
          running.value = (self.momentum * running.value + (1 - self.momentum) * now).astype(kept)
    else:
      mean, variance = running_mean.value.astype(wide.dtype), running_variance.value.astype(wide.dtype)
    # One multiplication and one addition per number. With (x - mean) in it XLA on a CPU keeps that array too, for the
    # gradient: 520 ms in place of 442 for an MBConv block at 112x112 (8 images, float32, 2 cores). It costs digits
    # only where a mean is thousands of deviations away from 0.
    factor = jax.lax.rsqrt(variance + self.epsilon) * scale.astype(wide.dtype)
    shift = bias.astype(wide.dtype) - mean * factor
    return (wide * factor[None, None, None] + shift[None, None, None]).astype(self.dtype)

  def _has_axes(self) -> bool:
    return self.axis_name is not None and not self.is_initializing()  # variables may be made outside the axes


class LayerNorm(nn.Module):
  """(x - mean) / sqrt(variance + epsilon) * scale + bias, mean and variance over the channels (Ba et al. 2016).

  Input and output [..., c]. Statistics are computed in promote_types(dtype, float32). `train` changes nothing.
  """

  epsilon: float = 1e-6
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    del train
    check_input(self, x, "... c", "scale")
    scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), self.param_dtype)
    bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), self.param_dtype)
    wide = x.astype(jnp.promote_types(self.dtype, jnp.float32))
    mean = wide.mean(-1, keepdims=True)
    variance = jnp.square(wide - mean).mean(-1, keepdims=True)
    scale, bias = (jnp.expand_dims(a.astype(wide.dtype), range(wide.ndim - 1)) for a in (scale, bias))
    return ((wide - mean) * (jax.lax.rsqrt(variance + self.epsilon) * scale) + bias).astype(self.dtype)


NORMS = {"batch": BatchNorm, "layer": LayerNorm}

Norm = str | Callable[..., nn.Module]
"""A name of NORMS, or what makes a module of one's own from (dtype, param_dtype, name), called as (x, *, train)."""


def norm_of(block: Any, dtype: DTypeLike | None = None) -> Callable[..., nn.Module]:
  """What makes the norm of a block with the fields norm, norm_epsilon, dtype and param_dtype, given its name.

  `dtype` is that of the norm's computation (the block's if None).

  Raises:
    ValueError: an unknown norm, or a norm_epsilon beside a norm that is handed in.
  """
  if not isinstance(block.norm, str):
    refuse_beside(block, "norm", "norm_epsilon")
  return norm_maker(block.norm, block.norm_epsilon, dtype=dtype or block.dtype, param_dtype=block.param_dtype)


def norm_maker(norm: Norm, epsilon: float | None = None, **dtypes: Any) -> Callable[..., nn.Module]:
  """What makes the norm, given its name in the model; ValueError for an unknown one.

  `epsilon` is that of a norm by name (None: its own default); one that is handed in has its own.
  """
  own = {"epsilon": epsilon} if isinstance(norm, str) and epsilon is not None else {}
  return functools.partial(chosen("norm", norm, NORMS), **own, **dtypes)
