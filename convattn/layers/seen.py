"""What an attention layer shows to those who ask: its logits in two parts, lengths of its values, where cells lie.

And how keys are hidden from it. Nobody asks for either in training, prediction or an export: then nothing of it is in
the program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

PARTS = "attention_parts"
"""The collection. It has "attention" under the path of every layer that attends, a `Parts` for each call."""


HIDDEN = "hidden"
"""The collection of what is hidden: "keys", booleans [k] under the path of a layer, true for a key that nobody sees."""


class AxisCells(NamedTuple):
  """Cells along one axis: how many, from one to the next, and where the first begins, in cells of the layer's input."""

  cells: int
  stride: float
  origin: float


class Parts(struct.PyTreeNode):
  """One call of an attention layer, in groups: the images of a batch, or all windows of it.

  Attributes:
    weights: [g, n, q, k], what the values are weighted with; g is 1 where all images have the same.
    content: [g, n, q, k], logits from query and key.
    position: [n, q, k] where nothing of the input is in it, else [g, n, q, k]: what is added to them.
    mask: booleans that fit [g, n, q, k]: which keys a query may see.
    lengths: [g, n, q or 1, k], of the values behind the head's output matrix.
    gate: [n], the share of the second softmax, that of `position` alone; the first is that of `content` alone.
    query_cells, key_cells: [g, q] and [g, k], the pixel of the layer's input, row by row; -1 for none.
    query_axes, key_axes: where they are not the pixels of the layer's input, of its rows and columns; of a sequence
      of its one axis.
  """

  weights: jax.Array
  content: jax.Array | None = None
  position: jax.Array | None = None
  mask: Any = None
  lengths: jax.Array | None = None
  gate: jax.Array | None = None
  query_cells: jax.Array | None = None
  key_cells: jax.Array | None = None
  query_axes: tuple[AxisCells, ...] | None = struct.field(pytree_node=False, default=None)
  key_axes: tuple[AxisCells, ...] | None = struct.field(pytree_node=False, default=None)


def parts_wanted(module: nn.Module) -> bool:
  """Whether somebody made PARTS mutable; at `init` everything is, and nobody asked."""
  return module.is_mutable_collection(PARTS) and not module.is_initializing()


def sow_parts(module: nn.Module, parts: Parts) -> None:
  """Hands them over; behind `parts_wanted`."""
  module.sow(PARTS, "attention", parts)


def without_hidden(module: nn.Module, mask: Any, keys: int, cells: Callable[[], jax.Array] | None = None) -> Any:
  """The mask of a layer, by which nobody sees what is hidden from it; the mask itself where nothing is.

  Args:
    module: the layer.
    mask: booleans that fit [g, n, q, k], or None.
    keys: how many there are.
    cells: for groups with keys of their own, makes the number [g, k] of each; any number for those that the mask hides.

  Raises:
    ValueError: there are other keys than those that are hidden.
  """
  if not module.has_variable(HIDDEN, "keys"):
    return mask
  hidden: Any = module.get_variable(HIDDEN, "keys")
  if hidden.shape != (keys,):
    name = "/".join(module.path) or type(module).__name__
    raise ValueError(
      f"{name} has {keys} keys, but those that are hidden are of {len(hidden)}; hide them by a map of such an image."
    )
  shown = ~jnp.asarray(hidden)[None] if cells is None else ~hidden[cells()]
  return shown[:, None, None] if mask is None else jnp.asarray(mask) & shown[:, None, None]


def value_lengths(module: nn.Module, value: jax.Array, shifts: jax.Array | None = None) -> jax.Array:
  """|v_k W_O| for value [g, k, n, e]: [g, n, 1, k] in at least float32. (Kobayashi et al. 2020, section 3.)

  W_O is the head's slice [e, o] of the module's dense layer "out", if it has one; else values are the output as they
  are. With `shifts` [2m+1, e] it is |(v_k + shifts[clip(k - q, -m, m) + m]) W_O|, [g, n, q, k] with as many queries.
  """
  wide = jnp.promote_types(value.dtype, jnp.float32)
  params: Any = module.variables.get("params", {})

  def out(value: jax.Array) -> jax.Array:
    if "out" not in params:
      return value
    kernel = nn.meta.unbox(params["out"]["kernel"]).astype(wide)
    return jnp.einsum("gkne,neo->gkno", value, kernel, precision="highest")

  value = out(value.astype(wide))
  squares = jnp.moveaxis(jnp.square(value).sum(-1), 1, 2)  # [g, n, k]
  if shifts is None:
    return jnp.sqrt(squares)[:, :, None]
  # |v + a|^2 = |v|^2 + 2 v.a + |a|^2, so that no vector of a pair is formed.
  r, e = shifts.shape
  vectors = out(jnp.broadcast_to(shifts.astype(wide)[None, :, None], (1, r, value.shape[2], e)))[0]
  products = jnp.einsum("gkno,rno->gnkr", value, vectors, precision="highest")
  squares = squares[..., None] + 2 * products + jnp.square(vectors).sum(-1).T[None, :, None]
  key = jnp.arange(value.shape[1])
  shift = jnp.clip(key[None] - key[:, None], -(r // 2), r // 2) + r // 2  # [q, k]
  return jnp.sqrt(jnp.maximum(squares[:, :, key[None], shift], 0))
