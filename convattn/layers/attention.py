"""Self-attention with a relative position table."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.inputs import check_input
from convattn.ops.attention import attend
from convattn.ops.dense import dense_dot
from convattn.ops.positions import RESIZE_METHODS, log_shifts, relative_bias, resize_table, table_grid

RELATIVE = ("pre", "post", "none")
POSITIONS = ("table", "mlp")
TABLE_RESIZE = ("none", *RESIZE_METHODS)


class PositionMLP(nn.Module):
  """A bias table computed from the shifts: table[:, i, j] = W2 relu(W1 log_shifts[i, j] + b1) + b2.

  () -> [num_heads, 2h-1, 2w-1] for the `grid` (h, w), in promote_types(dtype, float32). It has no parameter that
  belongs to a grid, so it serves images of any size. dropout is the share of hidden units set to 0, drawn from the
  "dropout" stream; whoever builds the layer sets it to 0 outside training. Sources: Liu et al. 2022 (Swin Transformer
  V2), and for coordinates, bias and dropout timm's models of this kind.
  """

  num_heads: int
  grid: tuple[int, int]
  hidden: int = 512
  dropout: float = 0.0
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self) -> jax.Array:
    fields: dict[str, Any] = {
      "kernel_init": nn.initializers.xavier_uniform(),
      "dtype": jnp.promote_types(self.dtype, jnp.float32),
      "param_dtype": self.param_dtype,
    }
    hidden = nn.relu(nn.Dense(self.hidden, name="hidden", **fields)(log_shifts(*self.grid)))
    hidden = nn.Dropout(self.dropout, deterministic=self.dropout == 0)(hidden)
    return jnp.moveaxis(nn.Dense(self.num_heads, name="out", **fields)(hidden), -1, 0)


class RelativeAttention(nn.Module):
  """Multi-head self-attention over the pixels of an image, with one scalar per head and relative shift.

      pre:   out = softmax(Q K' / sqrt(d) + B) V         (y_pre of Dai et al. 2021, eq. 3; what CoAtNet uses)
      post:  out = (softmax(Q K' / sqrt(d)) + B) V       (y_post)
      none:  out = softmax(Q K' / sqrt(d)) V

  B[q, k] = bias_table[head, key - query]. With position "table" that is a parameter of shape [num_heads, 2h-1, 2w-1]
  for images of h by w pixels; images of another size are refused, or with `table_resize` one of ops.RESIZE_METHODS see
  the table interpolated to their grid. With "mlp" it is computed by a PositionMLP.

  [b, h, w, c] -> [b, h, w, out_width]; query, key and value are `width` wide in all, d = width / num_heads (width c,
  out_width = width if None). The softmax runs in promote_types(dtype, float32). The weights [b, num_heads, q, k] are
  sown as "attention" in "intermediates". The key's bias has no effect (it shifts all logits of a query alike);
  published sizes include it.

  Raises:
    ValueError: num_heads does not divide the width; `relative`, `position` or `table_resize` is not among its choices;
      or the parameters belong to another grid than the image's.
  """

  num_heads: int
  width: int | None = None
  out_width: int | None = None
  relative: str = "pre"
  position: str = "table"
  position_hidden: int = 512
  position_dropout: float = 0.0
  table_resize: str = "none"
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    sizes = check_input(self, x, "b h w c", "query/kernel")
    b, h, w = (sizes[axis] for axis in "bhw")
    width = sizes["c"] if self.width is None else self.width
    if width % self.num_heads:
      raise ValueError(f"width is {width}, but must be a multiple of num_heads = {self.num_heads}.")
    for name, choices in (("relative", RELATIVE), ("position", POSITIONS), ("table_resize", TABLE_RESIZE)):
      if getattr(self, name) not in choices:
        raise ValueError(f"{name} is {getattr(self, name)!r}, but must be one of {', '.join(map(repr, choices))}.")
    fields: dict[str, Any] = {
      "kernel_init": nn.initializers.xavier_uniform(),
      "dtype": self.dtype,
      "param_dtype": self.param_dtype,
    }
    dense = functools.partial(nn.DenseGeneral, dot_general=dense_dot, **fields)
    tokens = x.reshape(b, h * w, sizes["c"])
    heads = (self.num_heads, width // self.num_heads)
    query, key, value = (dense(features=heads, name=name)(tokens) for name in ("query", "key", "value"))
    static = None if self.relative == "none" else relative_bias(self._table(h, w))
    bias, weights_after = (None, static) if self.relative == "post" else (static, None)
    out, weights = attend(query, key, value, bias=bias, static_weights=weights_after)
    self.sow("intermediates", "attention", weights)
    out_width = width if self.out_width is None else self.out_width
    return dense(features=out_width, axis=(-2, -1), name="out")(out).reshape(b, h, w, out_width)

  def _table(self, h: int, w: int) -> jax.Array:
    if self.position == "mlp":
      fields: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
      mlp = PositionMLP(self.num_heads, (h, w), self.position_hidden, self.position_dropout, name="bias_mlp", **fields)
      table: jax.Array = mlp()
      return table
    if not self.has_variable("params", "bias_table"):
      initializer = nn.initializers.truncated_normal(0.02)
      return self.param("bias_table", initializer, (self.num_heads, 2 * h - 1, 2 * w - 1), self.param_dtype)
    # The parameter as it is: `self.param` would compare shapes first, and complain without saying what to do.
    table = self.get_variable("params", "bias_table")
    grid = table_grid(table)
    if grid == (h, w):
      return table
    if self.table_resize == "none":
      raise ValueError(
        f"{'/'.join(self.path)}: the image gives a grid of {h}x{w}, but the bias table {tuple(table.shape)} belongs "
        f"to {grid[0]}x{grid[1]}; use images of the size the parameters were made for, convattn.pretrained.resize, or "
        f"a model with table_resize."
      )
    return resize_table(table, (h, w), self.table_resize)
