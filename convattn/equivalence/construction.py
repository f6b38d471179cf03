"""From a convolution to attention: the theorem of Cordonnier et al. 2020 as a layer and its parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convattn.equivalence.borders import read_padding, window_shifts
from convattn.equivalence.inputs import (
  is_whole,
  known_kernel,
  narrowed,
  per_axis,
  plain,
  read_bias,
  read_kernel,
  read_number,
  shown,
)
from convattn.equivalence.layer import PositionAttention, QuadraticAttention, TableAttention
from convattn.equivalence.rank import nonnegative_heads

MODES = ("quadratic", "table", "rank")


def conv_to_attention(
  kernel: jax.Array,
  bias: jax.Array | None = None,
  *,
  padding: Any,
  strides: int | tuple[int, ...] = 1,
  dilation: int | tuple[int, ...] = 1,
  mode: str,
  alpha: float | None = None,
  groups: int | None = None,
) -> tuple[PositionAttention, dict[str, Any]]:
  """A self-attention layer that computes a convolution, and its variables: `layer.apply(variables, images)`.

      out[i] = bias + sum_t x[i stride + t dilation - before] kernel[t]

  as lax.conv_general_dilated computes it (no flip), with lax's "VALID" or "SAME", or after jnp.pad with mode "edge"
  ("EDGE") or "wrap" ("CIRCULAR") by as much as "SAME" pads. (With strides flax's "CIRCULAR" pads (K - 1) // 2 in front
  whatever the size: give such amounts yourself, padding=("CIRCULAR", ((1, 1), (1, 1))).)

  Modes:
    "quadratic": one head per tap, Gaussians of precision alpha around its shift (Theorem 1). The error falls as
      exp(-alpha) and is at most `error_bound`; alpha 18 is enough for float32, 40 for float64.
    "table": one head per tap, one-hot over the window. Exact.
    "rank": at most r + 1 heads, r the rank of the taps (`tap_rank`). Exact up to rounding. No layer does it with fewer
      than r heads (`fewest_heads`).

  Args:
    kernel: [k, c / groups, o] or [k_h, k_w, c / groups, o], float; any number of taps, odd or even.
    bias: [o].
    padding: one of PADDINGS; pairs (before, after) of zeros; or (name, pairs).
    strides, dilation: for all axes or one for each.
    mode: one of MODES.
    alpha: with "quadratic" only: a positive number.
    groups: groups of channels; None: as many as the image's channels make of the kernel's, so that [k_h, k_w, 1, c] is
      depthwise for an image of c channels. Given, images of another number of channels are refused.

  Returns:
    A QuadraticAttention or TableAttention, and {"params": ...}: values and bias in the kernel's dtype, tables, shifts
    and alpha in at least float32 (bfloat16 has not every shift beyond 256 pixels).

  Raises:
    TypeError: a kernel or bias that is no array of numbers.
    ValueError: a kernel or bias of the wrong shape or dtype, an unknown padding or mode, alpha missing, superfluous or
      no positive number, groups that do not divide the output's channels; "rank" of a kernel whose values are not
      known or not finite, or whose heads need larger ones than its dtype has (up to twice the taps times the kernel's);
      a bias beyond the kernel's dtype.
  """
  kernel = read_kernel(kernel)
  bias = read_bias(bias, kernel)
  *window, in_features, features = kernel.shape
  position_dtype = jnp.promote_types(kernel.dtype, jnp.float32)
  check_mode(mode, alpha, position_dtype)
  fields: dict[str, Any] = {
    "features": features,
    "window": tuple(window),
    "padding": read_padding(padding, len(window)),
    "strides": per_axis("strides", strides, len(window)),
    "dilation": per_axis("dilation", dilation, len(window)),
    "groups": None if groups is None else _read_groups(groups, kernel.shape),
    "use_bias": bias is not None,
    "param_dtype": kernel.dtype,
  }
  if mode == "rank":
    known_kernel(kernel, "mode 'rank' counts its heads by the kernel's values")
  taps = kernel.reshape(-1, in_features, features)
  build = {"quadratic": _quadratic, "table": _table, "rank": _rank}[mode]
  kind, position, value = build(taps, fields["window"], fields["dilation"], alpha)
  parameters = {name: jnp.asarray(each, position_dtype) for name, each in position.items()} | {"value": value}
  if bias is not None:
    parameters["bias"] = bias
  return kind(num_heads=parameters["value"].shape[0], **fields), {"params": parameters}


def check_mode(mode: str, alpha: Any, dtype: Any) -> None:
  """Raises ValueError for an unknown mode and for an alpha that is missing, superfluous or no positive number."""
  if not isinstance(mode, str) or mode not in MODES:
    raise ValueError(f"mode is {shown(mode)}, but must be one of {', '.join(map(repr, MODES))}.")
  if mode != "quadratic" and alpha is not None:
    raise ValueError(f"alpha is {shown(alpha)}, but mode {mode!r} has none: leave it out, or use mode 'quadratic'.")
  if mode == "quadratic" and (alpha is None or isinstance(alpha, jax.core.Tracer)):
    raise ValueError(
      f"alpha is {shown(alpha)}, but mode 'quadratic' needs a positive number: 18 for float32, 40 for float64."
    )
  if mode == "quadratic":
    wanted = f"positive and finite, one number that {dtype} can hold; mode 'table' is the limit"
    number = read_number("alpha", alpha, wanted)
    if not float(jnp.finfo(dtype).tiny) <= number <= float(jnp.finfo(dtype).max):
      raise ValueError(f"alpha is {shown(alpha)}, but must be {wanted}.")


def _read_groups(groups: Any, shape: tuple[int, ...]) -> int:
  found = plain(groups)
  if not is_whole(found) or shape[-1] % found:
    raise ValueError(
      f"groups is {shown(groups)}, but must divide the {shape[-1]} output channels of the kernel {shape}: give a "
      f"positive integer that does."
    )
  return int(found)


Built = tuple[type[PositionAttention], dict[str, Any], jax.Array]
"""The layer, the parameters that say where its heads look, and the heads' values."""


def _quadratic(taps: jax.Array, window: tuple[int, ...], dilation: tuple[int, ...], alpha: Any) -> Built:
  grids = np.meshgrid(*(window_shifts(*each) for each in zip(window, dilation, strict=True)), indexing="ij")
  shifts = np.stack([axis.ravel() for axis in grids], axis=-1)
  return QuadraticAttention, {"shifts": shifts, "alpha": np.full(len(shifts), float(alpha))}, taps


def _table(taps: jax.Array, window: tuple[int, ...], dilation: tuple[int, ...], alpha: Any) -> Built:
  one_hot = np.eye(taps.shape[0], dtype=bool).reshape(-1, *window)
  return TableAttention, {"table": np.where(one_hot, 0, -np.inf)}, taps


def _rank(taps: jax.Array, window: tuple[int, ...], dilation: tuple[int, ...], alpha: Any) -> Built:
  with np.errstate(divide="ignore", over="ignore"):
    weights, value = nonnegative_heads(np.asarray(taps).reshape(len(taps), -1))
    table = np.log(weights).reshape(-1, *window)
  remedy = "use mode 'table', whose values are the kernel's, or give the kernel in a wider dtype, such as float32"
  return TableAttention, {"table": table}, narrowed("value", value.reshape(-1, *taps.shape[1:]), taps.dtype, remedy)
