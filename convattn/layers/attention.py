"""Self-attention over the pixels of an image, with a relative position."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.layers.choices import check_choice, refuse_beside
from convattn.layers.grid_positions import TABLE_RESIZE, PositionMLP, check_bias, position_maker
from convattn.layers.heads import head_width
from convattn.layers.inputs import check_input
from convattn.layers.seen import Parts, parts_wanted, sow_parts, value_lengths, without_hidden
from convattn.ops.attention import attend
from convattn.ops.dense import dense_dot
from convattn.ops.similarities import scaled_dot

RELATIVE = ("pre", "post", "none")


class RelativeAttention(nn.Module):
  """Multi-head self-attention over the pixels of an image, with one scalar per head and relative shift.

      pre:   out = softmax(Q K' / sqrt(d) + B) V         (y_pre of Dai et al. 2021, eq. 3; what CoAtNet uses)
      post:  out = (softmax(Q K' / sqrt(d)) + B) V       (y_post)
      none:  out = softmax(Q K' / sqrt(d)) V

  B comes from `position`: what makes a module as layers.grid_positions has them, such as
  `functools.partial(BiasMLP, hidden=64)`, or None for none. Its variables lie beside those of the attention. By name,
  "table" is a BiasTable with table_resize, "mlp" a BiasMLP with position_hidden and position_dropout; these three
  fields are for the names alone. `train` is for the position's dropout, which must be told.

  [b, h, w, c] -> [b, h, w, out_width]; query, key and value are `width` wide in all, d = width / num_heads (width c,
  out_width = width if None). The softmax runs in promote_types(dtype, float32). The weights [b, num_heads, q, k] are
  sown as "attention" in "intermediates". The key's bias has no effect (it shifts all logits of a query alike);
  published sizes include it.

  Raises:
    ValueError: num_heads does not divide the width; `relative` or a name is not among its choices; an option of the
      names beside a position that is handed in; a bias for each image with "post"; or what `position` raises, for
      instance where parameters belong to another grid than the image's.
  """

  num_heads: int
  width: int | None = None
  out_width: int | None = None
  relative: str = "pre"
  position: str | Callable[..., nn.Module] | None = "table"
  position_hidden: int = PositionMLP.hidden
  position_dropout: float = 0.0
  table_resize: str = "none"
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool | None = None) -> jax.Array:
    sizes = check_input(self, x, "b h w c", "query/kernel")
    b, h, w = (sizes[axis] for axis in "bhw")
    width = sizes["c"] if self.width is None else self.width
    check_choice("relative", self.relative, RELATIVE)
    dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    dense = functools.partial(
      nn.DenseGeneral, dot_general=dense_dot, kernel_init=nn.initializers.xavier_uniform(), **dtypes
    )
    tokens = x.reshape(b, h * w, sizes["c"])
    heads = (self.num_heads, head_width(width, self.num_heads))
    query, key, value = (dense(features=heads, name=name)(tokens) for name in ("query", "key", "value"))
    static = None
    make_position = self._position_maker()
    if self.relative != "none" and make_position is not None:
      position: Any = make_position(**dtypes)
      nn.share_scope(self, position)
      static = check_bias(position, position(tokens, query, (h, w), train=train), b, self.num_heads, h * w)
      if self.relative == "post" and static.ndim == 4:
        raise ValueError(f"relative is 'post', but {type(position).__name__} gives each image its own bias; use 'pre'.")
    bias, weights_after = (None, static) if self.relative == "post" else (static, None)
    mask = without_hidden(self, None, h * w)
    out, weights = attend(query, key, value, bias=bias, static_weights=weights_after, mask=mask)
    self.sow("intermediates", "attention", weights)
    out_width = width if self.out_width is None else self.out_width
    out = dense(features=out_width, axis=(-2, -1), name="out")(out).reshape(b, h, w, out_width)
    if parts_wanted(self):
      content, lengths = scaled_dot(query, key), value_lengths(self, value)
      sow_parts(self, Parts(weights, content, bias, mask, lengths))
    return out

  def _position_maker(self) -> Callable[..., nn.Module] | None:
    if not isinstance(self.position, str):
      refuse_beside(self, "position", "position_hidden", "position_dropout", "table_resize")
      return self.position
    check_choice("table_resize", self.table_resize, TABLE_RESIZE)
    options: dict[str, Any] = {"hidden": self.position_hidden, "dropout": self.position_dropout}
    return position_maker(self.position, resize=self.table_resize, **options)
