"""Multi-head self-attention whose weights depend on positions alone, with window-sized parameters."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.equivalence.borders import Axis, Padding, image_axes, read_padding
from convattn.equivalence.inputs import check_images, is_floating, is_whole, per_axis, plain, read_whole, shown
from convattn.layers.seen import AxisCells, Parts, parts_wanted, sow_parts, value_lengths, without_hidden
from convattn.ops.attention import attention_weights
from convattn.ops.products import attend_pairs, attend_row_column, pair_weights


class PositionAttention(nn.Module):
  """Multi-head self-attention over the pixels of an image, by position only. Its kinds say where the weights come from.

      out[q] = bias + sum_h (sum_k A_h[q, k] x[k]) value_h          rows of A_h sum to one

  value_h merges the head's value and output matrices, one [c / groups, features] for each head: the head's full width
  is what makes every convolution reachable. No parameter depends on the size of the image: the weights are made for its
  grid at each call, and applied along columns and rows (`attend_row_column`).

  Images [b, l, c] or [b, h, w, c] -> the same with the outputs' sizes and `features` channels, in the dtype that x and
  the parameters have together. Weights are computed in at least float32. Keys beyond the border: see `Axis.one_hot`.

  The weights [b, num_heads, q, k] are sown as "attention" in "intermediates"; k counts the zero tokens of "SAME".

  Fields:
    num_heads: heads.
    features: channels of the output.
    window: taps along each axis; its length, 1 or 2, is the number of axes.
    padding: one of PADDINGS, pairs (before, after) of zeros, or (name, pairs).
    strides, dilation: one for each axis.
    groups: groups of channels that do not see each other; None: as many as the image's channels make of the value's.

  Raises:
    TypeError: x is no array of real numbers.
    ValueError: wrong rank or number of channels, an image without pixels or smaller than the window, or a field out of
      range.
  """

  num_heads: int
  features: int
  window: tuple[int, ...]
  padding: Padding = "SAME"
  strides: tuple[int, ...] | int = 1
  dilation: tuple[int, ...] | int = 1
  groups: int | None = None
  use_bias: bool = True
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    self._check_fields()
    axes = self._axes(x)
    x = jnp.asarray(x)
    in_features = self._in_features(x.shape[-1])
    shape = (self.num_heads, in_features, self.features)
    value = self.param("value", nn.initializers.lecun_normal(in_axis=(0, 1)), shape, self.param_dtype)
    dtype = jnp.result_type(x.dtype, value.dtype)
    wide = jnp.promote_types(dtype, jnp.float32)
    rows, columns = (weights.astype(wide) for weights in self._row_column(*axes, wide))
    mask = without_hidden(self, None, len(axes[0].keys) * len(axes[1].keys))
    asked = parts_wanted(self) or self.is_mutable_collection("intermediates") or mask is not None
    weights = self._pair_weights(rows, columns, axes, mask) if asked else None  # N x N weights, for those who ask

    image = x if len(self.window) == 2 else x[:, None]
    image = jnp.pad(image.astype(dtype), [(0, 0), axes[0].zeros, axes[1].zeros, (0, 0)])
    if weights is not None:
      self.sow("intermediates", "attention", jnp.broadcast_to(weights[None], (x.shape[0], *weights.shape)))
      if parts_wanted(self):
        sow_parts(self, self._parts(weights, axes, image, value, mask))
    if mask is None or weights is None:
      seen = attend_row_column(rows.astype(dtype), columns.astype(dtype), image).astype(dtype)
    else:
      seen = attend_pairs(weights.astype(dtype), image.reshape(len(x), -1, x.shape[-1])).astype(dtype)
      seen = seen.reshape(len(x), axes[0].outputs, axes[1].outputs, *seen.shape[2:])
    groups = x.shape[-1] // in_features
    seen = seen.reshape(*seen.shape[:4], groups, in_features)
    value = value.astype(dtype).reshape(self.num_heads, in_features, groups, self.features // groups)
    out = jnp.einsum("bijngc,ncgo->bijgo", seen, value, precision="highest", preferred_element_type=wide)
    out = out.reshape(*out.shape[:3], self.features)
    if self.use_bias:
      bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
      out = out + bias.astype(wide)[None, None, None]
    return (out if len(self.window) == 2 else out[:, 0]).astype(dtype)

  def _row_column(self, rows: Axis, columns: Axis, dtype: DTypeLike) -> tuple[jax.Array, jax.Array]:
    """Weights [n, a, outputs, keys] along each axis; a head's attention is the sum over a of their products."""
    raise NotImplementedError(f"{type(self).__name__} is not a layer of its own: use one of its kinds.")

  def _pair_logits(self, rows: Axis, columns: Axis, weights: jax.Array) -> jax.Array:
    """Logits [n, q, k] of these weights."""
    return jnp.log(weights)

  def _pair_weights(self, rows: jax.Array, columns: jax.Array, axes: tuple[Axis, Axis], mask: Any) -> jax.Array:
    weights = pair_weights(rows, columns)
    if mask is None:
      return weights
    return attention_weights(self._pair_logits(*axes, weights)[None], mask=mask)[0]

  def _parts(self, weights: jax.Array, axes: tuple[Axis, Axis], image: jax.Array, value: jax.Array, mask: Any) -> Parts:
    b, c, in_features = len(image), image.shape[-1], value.shape[1]
    keys = image.reshape(b, -1, c // in_features, in_features).astype(weights.dtype)
    value = value.reshape(self.num_heads, in_features, c // in_features, -1).astype(weights.dtype)
    merged = jnp.einsum("bkgc,ncgo->bkngo", keys, value, precision="highest")
    places = axes[-len(self.window) :]
    return Parts(
      weights[None],
      position=self._pair_logits(*axes, weights),
      mask=mask,
      lengths=value_lengths(self, merged.reshape(*merged.shape[:3], -1)),
      # An output lies around the middle of its window.
      query_axes=tuple(AxisCells(a.outputs, a.stride, float(a.queries[0]) + (1 - a.stride) / 2) for a in places),
      key_axes=tuple(AxisCells(len(a.keys), 1, -a.zeros[0]) for a in places),
    )

  def _check_fields(self) -> None:
    for name in ("num_heads", "features"):
      read_whole(name, getattr(self, name))
    window = plain(self.window)
    if not (isinstance(window, tuple) and len(window) in (1, 2) and all(map(is_whole, window))):
      raise ValueError(f"window is {shown(self.window)}, but must be one or two positive integers: taps of each axis.")
    if not is_floating(self.param_dtype):
      raise ValueError(f"param_dtype is {shown(self.param_dtype)}, but must be one of real floats, such as 'float32'.")

  def _position(self, name: str, initializer: nn.initializers.Initializer, *shape: int) -> jax.Array:
    """A parameter that says where heads look, in at least float32: bfloat16 has not every shift beyond 256 pixels."""
    made: jax.Array = self.param(name, initializer, shape, jnp.promote_types(self.param_dtype, jnp.float32))
    return made

  def _axes(self, x: jax.Array) -> tuple[Axis, Axis]:
    """Of the rows and the columns. A sequence is an image of one row."""
    check_images("x", x)
    count = len(self.window)
    if len(x.shape) != count + 2 or 0 in x.shape[1:]:
      raise ValueError(
        f"x has shape {x.shape}, but a window {self.window} needs {('[b, l, c]', '[b, h, w, c]')[count - 1]}, with "
        f"pixels and channels."
      )
    window, strides, dilation = (per_axis(n, getattr(self, n), count) for n in ("window", "strides", "dilation"))
    axes = image_axes(x.shape[1:-1], window, strides, dilation, read_padding(self.padding, count))
    return (Axis(1, 1, 1, 1, 0, 0, "VALID"), axes[0]) if count == 1 else (axes[0], axes[1])

  def _in_features(self, channels: int) -> int:
    """Channels that each output sees."""
    found: Any = self.get_variable("params", "value") if self.has_variable("params", "value") else None
    if self.groups is not None:
      in_features, over = divmod(channels, read_whole("groups", self.groups))
      wanted = f"{self.groups} groups" + ("" if found is None else f" of {found.shape[1]}")
      if over or (found is not None and found.shape[1] != in_features):
        raise ValueError(f"x has {channels} channels, but the layer has {wanted}.")
    elif found is None:
      in_features = channels
    else:
      in_features = found.shape[1]
      if channels % in_features:
        raise ValueError(f"x has {channels} channels, but every head sees {in_features}: give a multiple of them.")
    if self.features % (channels // in_features):
      raise ValueError(
        f"x has {channels} channels, {channels // in_features} groups of {in_features}, but their number must divide "
        f"the {self.features} features."
      )
    return in_features


class QuadraticAttention(PositionAttention):
  """Every head is a Gaussian around a shift of its own: the quadratic encoding of Cordonnier et al. 2020, eq. 9.

      A_h[q, k] = softmax_k(-alpha_h |k - q - shift_h|^2)

  As alpha grows it becomes one-hot: the pixel q + shift_h, or the nearest one inside the image, since the softmax runs
  over the pixels there are (hence "EDGE"); over the zero tokens too ("SAME"); or with distances around a ring
  ("CIRCULAR"). The logits are a sum over rows and columns, so the weights are a product.

  Parameters: shifts [num_heads, axes] in pixels, drawn with standard deviation 2; alpha [num_heads], at first 0.5 (the
  published start of training; at large alpha the gradients in both vanish as alpha exp(-alpha)); value; bias.
  """

  def _row_column(self, rows: Axis, columns: Axis, dtype: DTypeLike) -> tuple[jax.Array, jax.Array]:
    normal, half = nn.initializers.normal(2.0), nn.initializers.constant(0.5)
    shifts = self._position("shifts", normal, self.num_heads, len(self.window)).astype(dtype)
    alpha = self._position("alpha", half, self.num_heads).astype(dtype)
    row_shifts = shifts[:, 0] if len(self.window) == 2 else jnp.zeros(self.num_heads, dtype)
    return gaussian_weights(rows, row_shifts, alpha)[:, None], gaussian_weights(columns, shifts[:, -1], alpha)[:, None]

  def _pair_logits(self, rows: Axis, columns: Axis, weights: jax.Array) -> jax.Array:
    # Those of far keys, whose weights are 0, are numbers too.
    found: Any = (self.get_variable("params", name) for name in ("shifts", "alpha"))
    shifts, alpha = (each.astype(weights.dtype) for each in found)
    row_shifts = shifts[:, 0] if len(self.window) == 2 else jnp.zeros(self.num_heads, weights.dtype)
    down = gaussian_logits(rows, row_shifts, alpha)
    right = gaussian_logits(columns, shifts[:, -1], alpha)
    return (down[:, :, None, :, None] + right[:, None, :, None, :]).reshape(weights.shape)


class TableAttention(PositionAttention):
  """Every head has a table of logits over the taps of the window, and attends to nothing else.

      A_h[q, k] = sum of softmax(table_h)[t] over the taps t that see k from q

  Where the border brings several taps to one pixel, it takes the weight of them all. -inf is a tap without weight; its
  gradient is zero. (Keep such a table out of weight decay: -inf - -inf is not a number.)

  Parameters: table [num_heads, *window], drawn with standard deviation 0.02; value; bias.
  """

  def _row_column(self, rows: Axis, columns: Axis, dtype: DTypeLike) -> tuple[jax.Array, jax.Array]:
    table = self._position("table", nn.initializers.normal(0.02), self.num_heads, *self.window).astype(dtype)
    weights = attention_weights(table.reshape(1, self.num_heads, 1, -1))
    taps = weights.reshape(self.num_heads, rows.taps, columns.taps)
    # A term for each row of the window: the head's row of weights, spread over the image's columns.
    spread = jnp.einsum("nab,bjl->najl", taps, columns.one_hot.astype(dtype), precision="highest")
    return jnp.broadcast_to(rows.one_hot.astype(dtype)[None], (self.num_heads, *rows.one_hot.shape)), spread


def gaussian_weights(axis: Axis, shifts: jax.Array, alpha: jax.Array) -> jax.Array:
  """softmax over keys of -alpha (key - query - shift)^2: [n, outputs, keys] for shifts and alpha [n]."""
  return attention_weights(gaussian_logits(axis, shifts, alpha)[None])[0]


def gaussian_logits(axis: Axis, shifts: jax.Array, alpha: jax.Array) -> jax.Array:
  """-alpha (key - query - shift)^2: [n, outputs, keys] for shifts and alpha [n]."""
  # The square itself, not its expansion: in float32 it keeps the digits that decide between neighbours.
  distance = jnp.asarray(axis.keys[None] - axis.queries[:, None], shifts.dtype)[None] - shifts[:, None, None]
  if axis.padding == "CIRCULAR":
    half = axis.size / 2
    distance = jnp.mod(distance + half, axis.size) - half
  return -alpha[:, None, None] * distance**2
