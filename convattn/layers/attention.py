"""Self-attention with a relative position table."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.inputs import check_input
from convattn.ops.attention import attend
from convattn.ops.positions import relative_bias, table_grid

RELATIVE = ("pre", "post", "none")


class RelativeAttention(nn.Module):
  """Multi-head self-attention over the pixels of an image, with one scalar per head and relative shift.

      pre:   out = softmax(Q K' / sqrt(d) + B) V         (y_pre of Dai et al. 2021, eq. 3; what CoAtNet uses)
      post:  out = (softmax(Q K' / sqrt(d)) + B) V       (y_post)
      none:  out = softmax(Q K' / sqrt(d)) V

  B[q, k] = bias_table[head, key - query], a parameter of shape [num_heads, 2h-1, 2w-1] for images of h by w pixels.
  [b, h, w, c] -> [b, h, w, width] (c if width is None); query, key and value are `width` wide in all, d = width /
  num_heads. The softmax runs in promote_types(dtype, float32). The weights [b, num_heads, q, k] are sown as
  "attention" in "intermediates". The key's bias has no effect (it shifts all logits of a query alike); published
  sizes include it.

  Raises:
    ValueError: num_heads does not divide the width; `relative` is not one of RELATIVE; or the parameters belong to
      another grid than the image's.
  """

  num_heads: int
  width: int | None = None
  relative: str = "pre"
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    sizes = check_input(self, x, "b h w c", "query/kernel")
    b, h, w = (sizes[axis] for axis in "bhw")
    width = sizes["c"] if self.width is None else self.width
    if width % self.num_heads:
      raise ValueError(f"width is {width}, but must be a multiple of num_heads = {self.num_heads}.")
    if self.relative not in RELATIVE:
      raise ValueError(f"relative is {self.relative!r}, but must be one of {RELATIVE}.")
    fields: dict[str, Any] = {
      "kernel_init": nn.initializers.xavier_uniform(),
      "dtype": self.dtype,
      "param_dtype": self.param_dtype,
    }
    tokens = x.reshape(b, h * w, sizes["c"])
    heads = (self.num_heads, width // self.num_heads)
    query, key, value = (nn.DenseGeneral(heads, name=name, **fields)(tokens) for name in ("query", "key", "value"))
    static = None if self.relative == "none" else relative_bias(self._bias_table(h, w))
    place = "static_weights" if self.relative == "post" else "bias"
    out, weights = attend(query, key, value, **{place: static})
    self.sow("intermediates", "attention", weights)
    return nn.DenseGeneral(width, axis=(-2, -1), name="out", **fields)(out).reshape(b, h, w, width)

  def _bias_table(self, h: int, w: int) -> jax.Array:
    if self.has_variable("params", "bias_table"):
      table: jax.Array = self.get_variable("params", "bias_table")
      grid = table_grid(table)
      if grid != (h, w):
        raise ValueError(
          f"{'/'.join(self.path)}: the image gives a grid of {h}x{w}, but the bias table {tuple(table.shape)} belongs "
          f"to {grid[0]}x{grid[1]}; use images of the size the parameters were made for, or convattn.pretrained.resize."
        )
    initializer = nn.initializers.truncated_normal(0.02)
    return self.param("bias_table", initializer, (self.num_heads, 2 * h - 1, 2 * w - 1), self.param_dtype)
