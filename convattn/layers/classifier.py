"""From the last stage's image to logits."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.choices import check_choices
from convattn.layers.inputs import check_input
from convattn.layers.normalization import Norm, norm_of
from convattn.ops.dense import dense_dot

HEADS = ("tanh", "plain", "norm_first")


class Classifier(nn.Module):
  """Global mean, norm, then a dense layer to the classes: [b, h, w, c] -> [b, num_classes].

  kind "tanh" has Dense(c) and tanh before the last dense layer. The paper's text does not mention it, but its published
  parameter counts need it. kind "plain" goes without. kind "norm_first" goes without too and
  normalises every pixel before the mean. Norm is LayerNorm, or BatchNorm. num_classes = 0 leaves the last dense layer
  out: [b, c]. Logits are in promote_types(dtype, float32).
  """

  num_classes: int
  kind: str = "tanh"
  norm: Norm = "layer"
  norm_epsilon: float = 1e-6
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    check_choices(self, kind=HEADS)
    first = "hidden/kernel" if self.kind == "tanh" else "logits/kernel" if self.num_classes else None
    channels = check_input(self, x, "b h w c", first)["c"]
    # The mean and the head are a thousandth of the work: they stay wide.
    wide = jnp.promote_types(self.dtype, jnp.float32)
    fields: dict[str, Any] = {"dtype": wide, "param_dtype": self.param_dtype}
    norm = norm_of(self, wide)(name="norm")
    dense = functools.partial(nn.Dense, kernel_init=nn.initializers.xavier_uniform(), dot_general=dense_dot, **fields)
    x = x.astype(wide)
    if self.kind == "norm_first":
      x = norm(x, train=train).mean((1, 2))
    else:
      x = norm(x.mean((1, 2), keepdims=True), train=train)[:, 0, 0]
    if self.kind == "tanh":
      x = jnp.tanh(dense(features=channels, name="hidden")(x))
    if self.num_classes == 0:
      return x
    return dense(features=self.num_classes, name="logits")(x)
