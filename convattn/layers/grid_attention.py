"""Attention over all pixels of an image, with positions of several kinds, or gated between content and position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from convattn.layers.choices import chosen
from convattn.layers.grid_positions import GRID_POSITIONS, check_bias
from convattn.layers.heads import from_heads, head_width, to_heads
from convattn.layers.inputs import check_input
from convattn.layers.seen import Parts, parts_wanted, sow_parts, value_lengths, without_hidden
from convattn.ops.attention import attention_weights, weighted_sum
from convattn.ops.positions import relative_bias
from convattn.ops.similarities import scaled_dot


class GridAttention(nn.Module):
  """Multi-head self-attention over pixels, by content, by position, or both.

      out = concat_n(softmax(content Q_n K_n' / sqrt(d) + bias_n) V_n) W_O

  [b, h, w, c] -> [b, h, w, out_width]; query, key and value are `width` wide in all (width c, out_width width if None).
  `position` is one of GRID_POSITIONS, what makes another module such as these, or "none" (or None); its parameters are
  below "position". Without `content` there is neither query nor key: the layer is linear in x but for
  "predicted_centre", which still reads it, and each head of "row_column", or of another position that reads queries,
  has one learned query for all pixels ("learned embedding" of Cordonnier et al. 2020). The key has no bias, which the
  softmax would not see. The weights [b, n, q, k] (b = 1 where they are alike for all images) are sown as "attention"
  in "intermediates".

  Raises:
    ValueError: num_heads does not divide the width, an unknown position, neither content nor position, or parameters
      of another grid.
  """

  num_heads: int
  position: str | Callable[..., nn.Module] | None
  content: bool = True
  width: int | None = None
  out_width: int | None = None
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool | None = None) -> jax.Array:
    sizes = check_input(self, x, "b h w c", "value/kernel")
    b, h, w = (sizes[axis] for axis in "bhw")
    dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    make_position = chosen("position", self.position, GRID_POSITIONS | {"none": None})
    position: Any = None if make_position is None else make_position(name="position", **dtypes)
    if position is None and not self.content:
      raise ValueError("position is 'none' and content is False, but attention needs one of them.")
    width = sizes["c"] if self.width is None else self.width
    size = head_width(width, self.num_heads)
    tokens = x.reshape(b, h * w, sizes["c"]).astype(self.dtype)
    value = to_heads(self, "value", self.num_heads, size)(tokens)
    if self.content:
      query = to_heads(self, "query", self.num_heads, size)(tokens)
      key = to_heads(self, "key", self.num_heads, size, use_bias=False)(tokens)
      content = scaled_dot(query, key)
      logits = content
    else:
      content = None
      query = self._queries(h * w, size, learned=getattr(position, "reads_query", True))
      logits = jnp.zeros((1, 1, 1, 1), jnp.promote_types(self.dtype, jnp.float32))
    bias = None
    if position is not None:
      bias = check_bias(position, position(tokens, query, (h, w), train=train), b, self.num_heads, h * w)
      logits = logits + (bias if bias.ndim == 4 else bias[None])
    mask = without_hidden(self, None, h * w)
    weights = attention_weights(logits, mask=mask)
    self.sow("intermediates", "attention", weights)
    out = weighted_sum(jnp.broadcast_to(weights, (b, *weights.shape[1:])), value)
    out_width = width if self.out_width is None else self.out_width
    out = from_heads(self, out_width)(out).reshape(b, h, w, out_width)
    if parts_wanted(self):
      sow_parts(self, Parts(weights, content, bias, mask, value_lengths(self, value)))
    return out

  def _queries(self, pixels: int, size: int, *, learned: bool) -> jax.Array:
    shape = (self.num_heads, size)
    if not learned:
      return jnp.zeros((1, pixels, *shape), self.dtype)  # only its shape is read
    query = self.param("head_query", nn.initializers.normal(1.0), shape, self.param_dtype).astype(self.dtype)
    return jnp.broadcast_to(query[None, None], (1, pixels, *shape))


class GatedPositionalAttention(nn.Module):
  """GPSA of ConViT: each head gates between content and position (d'Ascoli et al. 2021, eq. 7 and 8).

      A = (1 - g) softmax(Q K' / sqrt(d)) + g softmax(v . r),   g = sigmoid(gate),   r = (row, column, row^2 + column^2)

  r is of the shift key - query. At the start it resembles a convolution: gate is 1 (g = 0.73), head (i, j) of the
  k x k, k = floor(sqrt(num_heads)), has the quadratic encoding of `locality` around the shift (i - (k-1)/2,
  j - (k-1)/2), heads beyond k^2 look everywhere alike, and values are the input. For an even k the centres lie between
  pixels: such heads are 2 x 2 means.

  [b, h, w, c] -> [b, h, w, c] at any grid. Query, key and value have no bias. Rows of A sum to one without the paper's
  division. The weights [b, n, q, k] are sown as "attention" in "intermediates".

  Raises:
    ValueError: num_heads does not divide the width.
  """

  num_heads: int
  locality: float = 1.0
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    sizes = check_input(self, x, "b h w c", "query/kernel")
    b, h, w, c = (sizes[axis] for axis in "bhwc")
    size = head_width(c, self.num_heads)
    tokens = x.reshape(b, h * w, c)
    query, key = (to_heads(self, name, self.num_heads, size, use_bias=False)(tokens) for name in ("query", "key"))
    # DenseGeneral draws its kernel as the matrix [c, n * d].
    value = to_heads(self, "value", self.num_heads, size, use_bias=False, kernel_init=_identity)(tokens)
    mask = without_hidden(self, None, h * w)
    content = attention_weights(scaled_dot(query, key), mask=mask)
    vector = self.param("position", self._local, (self.num_heads, 3), self.param_dtype).astype(content.dtype)
    row, column = np.mgrid[1 - h : h, 1 - w : w]
    table = jnp.einsum("nr,ruv->nuv", vector, jnp.asarray(np.stack([row, column, row**2 + column**2]), content.dtype))
    position = attention_weights(relative_bias(table)[None], mask=mask)
    gate = self.param("gate", nn.initializers.ones, (self.num_heads,), self.param_dtype)
    gate = nn.sigmoid(gate.astype(content.dtype))[None, :, None, None]
    weights = (1 - gate) * content + gate * position
    self.sow("intermediates", "attention", weights)
    out = from_heads(self, c)(weighted_sum(weights, value)).reshape(b, h, w, c)
    if parts_wanted(self):
      logits, lengths = scaled_dot(query, key), value_lengths(self, value)
      sow_parts(self, Parts(weights, logits, relative_bias(table), mask, lengths, gate[0, :, 0, 0]))
    return out

  def _local(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    del key
    vectors = np.zeros(shape)
    side = int(self.num_heads**0.5)
    for head in range(side**2):
      centre = np.array(divmod(head, side)) - (side - 1) / 2
      vectors[head] = self.locality * np.array([*(2 * centre), -1])
    return jnp.asarray(vectors, dtype)


def _identity(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
  del key
  return jnp.eye(shape[0], dtype=dtype).reshape(shape)
