"""Where the heads of an image's attention look: few parameters, spread over the grid in the call.

Each is made from (dtype, param_dtype) and maps (tokens [b, h*w, c], query [b, h*w, n, d], grid (h, w), *, train) to a
bias for the logits, [n, q, k] or [b, n, q, k]. A kind of one's own is a module that does so; where it reads no more of
the query than its shape, it may say so by `reads_query = False`. `train` is None where the attention was not told.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from convattn.layers.choices import check_choice
from convattn.ops.dense import dense_dot
from convattn.ops.encodings import centred_bias, quadratic_table, quadratic_table_general, row_column_logits
from convattn.ops.positions import RESIZE_METHODS, log_shifts, relative_bias, resize_table, table_grid

Grid = tuple[int, int]

TABLE_RESIZE = ("none", *RESIZE_METHODS)


class BiasTable(nn.Module):
  """bias[q, k] = bias_table[head, key - query], a parameter [num_heads, 2h-1, 2w-1] (Dai et al. 2021, eq. 3).

  It belongs to a grid of h by w. Images of another size are refused, or with `resize` one of ops.RESIZE_METHODS see
  the table interpolated to their grid.

  Raises:
    ValueError: an unknown `resize`, or the parameter belongs to another grid than the image's.
  """

  reads_query: ClassVar[bool] = False

  resize: str = "none"
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: jax.Array, query: jax.Array, grid: tuple[int, int], *, train: bool | None = None
  ) -> jax.Array:
    del tokens, train
    check_choice("table_resize", self.resize, TABLE_RESIZE)
    return relative_bias(self._table(query.shape[-2], grid))

  def _table(self, num_heads: int, grid: tuple[int, int]) -> jax.Array:
    h, w = grid
    if not self.has_variable("params", "bias_table"):
      initializer = nn.initializers.truncated_normal(0.02)
      return self.param("bias_table", initializer, (num_heads, 2 * h - 1, 2 * w - 1), self.param_dtype)
    # The parameter as it is: `self.param` would compare shapes first, and complain without saying what to do.
    table: jax.Array = self.get_variable("params", "bias_table")
    its_grid = table_grid(table)
    if its_grid == grid:
      return table
    if self.resize == "none":
      raise ValueError(
        f"{'/'.join(self.path)}: the image gives a grid of {h}x{w}, but the bias table {tuple(table.shape)} belongs "
        f"to {its_grid[0]}x{its_grid[1]}; use images of the size the parameters were made for, "
        "convattn.pretrained.resize, or a model with table_resize."
      )
    return resize_table(table, grid, self.resize)


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
    # In float32 in float64 too: timm keeps them so, and its models are equalled to 1e-10.
    hidden = nn.relu(nn.Dense(self.hidden, name="hidden", **fields)(log_shifts(*self.grid)))
    hidden = nn.Dropout(self.dropout, deterministic=self.dropout == 0)(hidden)
    return jnp.moveaxis(nn.Dense(self.num_heads, name="out", **fields)(hidden), -1, 0)


class BiasMLP(nn.Module):
  """bias[q, k] = table[head, key - query], the table computed by a PositionMLP, "bias_mlp"; `dropout` in training.

  Raises:
    ValueError: it has dropout, and the attention was not told whether to `train`.
  """

  reads_query: ClassVar[bool] = False

  hidden: int = PositionMLP.hidden
  dropout: float = 0.0
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: jax.Array, query: jax.Array, grid: tuple[int, int], *, train: bool | None = None
  ) -> jax.Array:
    del tokens
    if self.dropout and train is None and not self.is_initializing():
      raise ValueError(f"dropout is {self.dropout}: call the attention with train=True or train=False.")
    fields: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype, "name": "bias_mlp"}
    dropout = self.dropout if train else 0.0
    return relative_bias(PositionMLP(query.shape[-2], grid, self.hidden, dropout, **fields)())


POSITIONS = ("table", "mlp")


def check_bias(position: nn.Module, bias: jax.Array, b: int, n: int, q: int) -> jax.Array:
  """The bias of a position; ValueError unless it is [n, q, k] or [b, n, q, k] (or 1 for b), k as many as q."""
  if bias.shape not in ((n, q, q), (1, n, q, q), (b, n, q, q)):
    raise ValueError(
      f"position {type(position).__name__} gives a bias {tuple(bias.shape)}, but must give [n, q, k] = {(n, q, q)}, or "
      f"[b, n, q, k] with b = {b} or 1."
    )
  return bias


def position_maker(position: str, *, hidden: int, dropout: float, resize: str) -> Callable[..., nn.Module]:
  """Makes the kind of POSITIONS that a CoAtNet has by name, each with those options that are its own.

  Raises:
    ValueError: it is none of them.
  """
  check_choice("position", position, POSITIONS)
  kinds: dict[str, Callable[..., nn.Module]] = {
    "table": functools.partial(BiasTable, resize),
    "mlp": functools.partial(BiasMLP, hidden, dropout),
  }
  return kinds[position]


class RowColumnPositions(nn.Module):
  """query . (rows[row shift] + columns[column shift]) / sqrt(d), one set of vectors for all heads.

  (Attention-augmented convolution, Bello et al. 2019; BoTNet, Srinivas et al. 2021.) `rows` [2h-1, d] and `columns`
  [2w-1, d] belong to a grid.

  Raises:
    ValueError: the parameters belong to another grid.
  """

  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: jax.Array, query: jax.Array, grid: tuple[int, int], *, train: bool | None = None
  ) -> jax.Array:
    del tokens, train
    size = query.shape[-1]
    vectors = []
    for name, length in zip(("rows", "columns"), grid, strict=True):
      if self.has_variable("params", name) and len(self.get_variable("params", name)) != 2 * length - 1:
        found = (len(self.get_variable("params", name)) + 1) // 2
        raise ValueError(
          f"the image has {length} {name}, but the parameters belong to {found}; use images of that size."
        )
      shape = (2 * length - 1, size)
      vectors.append(self.param(name, nn.initializers.normal(size**-0.5), shape, self.param_dtype).astype(self.dtype))
    return row_column_logits(query * size**-0.5, *vectors)


class QuadraticPositions(nn.Module):
  """-alpha |delta - centre|^2 per head, alpha = spread^2 / 2: a round window around a shift (Cordonnier et al. 2020).

  `centre` [n, 2] starts normal with deviation 2 pixels, `spread` [n] near 1. Any grid.
  """

  reads_query: ClassVar[bool] = False

  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: jax.Array, query: jax.Array, grid: tuple[int, int], *, train: bool | None = None
  ) -> jax.Array:
    del tokens, train
    heads, wide = query.shape[-2], jnp.promote_types(self.dtype, jnp.float32)
    centre = self.param("centre", nn.initializers.normal(2.0), (heads, 2), self.param_dtype).astype(wide)
    spread = self.param("spread", _near_one, (heads,), self.param_dtype).astype(wide)
    return relative_bias(quadratic_table(centre, jnp.square(spread) / 2, grid))


class EllipticPositions(nn.Module):
  """-|root (delta - centre)|^2 / 2 per head: the general quadratic encoding (Cordonnier et al. 2020, appendix).

  `centre` [n, 2] starts normal with deviation 2 pixels, `root` [n, 2, 2] near the identity. Any grid.
  """

  reads_query: ClassVar[bool] = False

  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: jax.Array, query: jax.Array, grid: tuple[int, int], *, train: bool | None = None
  ) -> jax.Array:
    del tokens, train
    heads, wide = query.shape[-2], jnp.promote_types(self.dtype, jnp.float32)
    centre = self.param("centre", nn.initializers.normal(2.0), (heads, 2), self.param_dtype).astype(wide)
    root = self.param("root", _near_identity, (heads, 2, 2), self.param_dtype).astype(wide)
    return relative_bias(quadratic_table_general(centre, root, grid))


class PredictedCentre(nn.Module):
  """A round window around a place that each pixel and head predicts from its content (Luong et al. 2015, local-p).

      p = (h - 1, w - 1) * sigmoid(V tanh(W x))       bias[q, k] = -|place_k - p_q|^2 / (2 deviation^2)

  The receptive field is conditioned on the input. Deviations: two dimensions (a sequence is an image of one row); p
  ends at the last pixel, not one behind; and those of `ops.centred_bias`. Any grid.
  """

  reads_query: ClassVar[bool] = False

  deviation: float = 2.0
  dtype: DTypeLike = jnp.float32
  param_dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: jax.Array, query: jax.Array, grid: tuple[int, int], *, train: bool | None = None
  ) -> jax.Array:
    del train
    fields: dict[str, Any] = {
      "use_bias": False,
      "kernel_init": nn.initializers.xavier_uniform(),
      "dot_general": dense_dot,
      "dtype": self.dtype,
      "param_dtype": self.param_dtype,
    }
    hidden = jnp.tanh(nn.Dense(tokens.shape[-1], name="hidden", **fields)(tokens))
    place = nn.DenseGeneral((query.shape[-2], 2), name="place", **fields)(hidden)
    wide = jnp.promote_types(self.dtype, jnp.float32)
    last = jnp.asarray(np.array(grid) - 1, wide)[None, None, None]
    return centred_bias(last * nn.sigmoid(place.astype(wide)), grid, self.deviation)


GRID_POSITIONS: dict[str, Any] = {
  "row_column": RowColumnPositions,
  "quadratic": QuadraticPositions,
  "elliptic": EllipticPositions,
  "predicted_centre": PredictedCentre,
}


def _near_one(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
  return 1 + 0.01 * jax.random.normal(key, shape, dtype)


def _near_identity(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
  return jnp.eye(2, dtype=dtype)[None] + 0.01 * jax.random.normal(key, shape, dtype)
