"""From a convolution to attention: the theorem of Cordonnier et al. 2020 as a layer and its parameters."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convattn.equivalence.borders import per_axis, read_padding, window_shifts
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
    A QuadraticAttention or TableAttention, and {"params": ...} in the kernel's dtype.

  Raises:
    ValueError: a kernel or bias of the wrong shape or dtype, an unknown padding or mode, alpha missing, superfluous or
      not positive, groups that do not divide the output's channels; "rank" of a kernel without known values.
  """
  kernel, bias = read_kernel(kernel), None if bias is None else jnp.asarray(bias)
  *window, in_features, features = kernel.shape
  if bias is not None and bias.shape != (features,):
    raise ValueError(f"bias has shape {bias.shape}, but the kernel {kernel.shape} needs ({features},).")
  if groups is not None and (groups < 1 or features % groups):
    raise ValueError(
      f"groups is {groups}, but must divide the {features} output channels of the kernel {kernel.shape}."
    )
  check_mode(mode, alpha)
  fields: dict[str, Any] = {
    "features": features,
    "window": tuple(window),
    "padding": read_padding(padding, len(window)),
    "strides": per_axis("strides", strides, len(window)),
    "dilation": per_axis("dilation", dilation, len(window)),
    "groups": groups,
    "use_bias": bias is not None,
    "param_dtype": kernel.dtype,
  }
  taps = kernel.reshape(-1, in_features, features)
  build = {"quadratic": _quadratic, "table": _table, "rank": _rank}[mode]
  kind, parameters = build(taps, fields["window"], fields["dilation"], alpha)
  if bias is not None:
    parameters["bias"] = bias.astype(kernel.dtype)
  return kind(num_heads=parameters["value"].shape[0], **fields), {"params": parameters}


def check_mode(mode: str, alpha: Any) -> None:
  """Raises ValueError for an unknown mode and for an alpha that is missing, superfluous or not a positive number."""
  if mode not in MODES:
    raise ValueError(f"mode is {mode!r}, but must be one of {', '.join(map(repr, MODES))}.")
  if mode != "quadratic" and alpha is not None:
    raise ValueError(f"alpha is {alpha!r}, but mode {mode!r} has none: leave it out, or use mode 'quadratic'.")
  if mode == "quadratic" and (alpha is None or isinstance(alpha, jax.core.Tracer)):
    raise ValueError(
      f"alpha is {alpha!r}, but mode 'quadratic' needs a positive number: 18 for float32, 40 for float64."
    )
  if alpha is not None and not 0 < alpha < math.inf:
    raise ValueError(f"alpha is {alpha!r}, but must be positive and finite; mode 'table' is the limit.")


def read_kernel(kernel: Any) -> jax.Array:
  """The kernel as an array. Raises ValueError where it is not [k, c, o] or [k_h, k_w, c, o], or not real floats."""
  kernel = jnp.asarray(kernel)
  if kernel.ndim not in (3, 4) or 0 in kernel.shape:
    raise ValueError(
      f"kernel has shape {kernel.shape}, but must be [k, c, o] or [k_h, k_w, c, o], no axis empty; other ranks are not "
      f"supported."
    )
  if not jnp.issubdtype(kernel.dtype, jnp.floating):
    raise ValueError(f"kernel is {kernel.dtype}, but must be real floating point: convert it first.")
  return kernel


def _quadratic(
  taps: jax.Array, window: tuple[int, ...], dilation: tuple[int, ...], alpha: Any
) -> tuple[type[PositionAttention], dict[str, jax.Array]]:
  shifts = np.meshgrid(*(window_shifts(*each) for each in zip(window, dilation, strict=True)), indexing="ij")
  return QuadraticAttention, {
    "shifts": jnp.asarray(np.stack([axis.ravel() for axis in shifts], axis=-1), taps.dtype),
    "alpha": jnp.full(taps.shape[:1], alpha, taps.dtype),
    "value": taps,
  }


def _table(
  taps: jax.Array, window: tuple[int, ...], dilation: tuple[int, ...], alpha: Any
) -> tuple[type[PositionAttention], dict[str, jax.Array]]:
  one_hot = np.eye(taps.shape[0], dtype=bool).reshape(-1, *window)
  return TableAttention, {"table": jnp.where(one_hot, 0, -jnp.inf).astype(taps.dtype), "value": taps}


def _rank(
  taps: jax.Array, window: tuple[int, ...], dilation: tuple[int, ...], alpha: Any
) -> tuple[type[PositionAttention], dict[str, jax.Array]]:
  if isinstance(taps, jax.core.Tracer):
    raise ValueError("kernel is traced, but mode 'rank' counts its heads by the kernel's values: call it outside jit.")
  weights, value = nonnegative_heads(np.asarray(taps).reshape(taps.shape[0], -1))
  with np.errstate(divide="ignore"):
    table = np.log(weights).reshape(-1, *window)
  return TableAttention, {
    "table": jnp.asarray(table, taps.dtype),
    "value": jnp.asarray(value.reshape(-1, *taps.shape[1:]), taps.dtype),
  }
