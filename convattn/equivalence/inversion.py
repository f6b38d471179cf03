"""From attention back to a convolution, with what is lost."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn.equivalence.borders import window_shifts
from convattn.equivalence.inputs import is_whole, known_parameters, narrowed, per_axis, plain, shown
from convattn.equivalence.layer import PositionAttention, QuadraticAttention, TableAttention
from convattn.layers.attention import RelativeAttention
from convattn.ops.positions import relative_offsets, table_grid
from convattn.ops.shapes import check_shapes

PARTS = ("kernel", "bias")
FURTHEST = 1_000_000
WIDER = "give the parameters in a wider dtype, such as float32"


def attention_to_conv(
  layer: nn.Module, variables: Any, *, grid: tuple[int, int] | None = None
) -> tuple[jax.Array, jax.Array | None, float]:
  """The convolution nearest to an attention layer whose weights do not depend on content.

      kernel[t] = sum_h A_h[t] value_h          A_h[t]: the weight that head h gives to the shift of tap t

  - A TableAttention is a convolution, with the layer's own window, padding, strides, dilation and groups: residual 0.
  - A QuadraticAttention reaches beyond its window. The kernel holds what lies on the taps.
  - A RelativeAttention whose queries or keys are 0 becomes a kernel [2h-1, 2w-1, c, o] for zero "SAME" padding and
    images of its own grid: every tap the mean over all pairs of pixels with that shift. It is exact where no pixel
    beyond the border is missed (relative "post" and "none"; heads on the pixel itself), and else an approximation,
    since a softmax shares among the pixels that are there.

  The residual is the root mean square of (layer - convolution) over that of the layer without its bias, for images of
  independent numbers with mean 0 and variance 1; of a QuadraticAttention at an output that is far from the border.
  It is 0 for equality, and no other kernel of that size has a smaller one.

  Args:
    layer: one of the three.
    variables: its {"params": ...}, with known values. A layer with dropout is taken as it is without.
    grid: (h, w), for a RelativeAttention without a table of its own (position "mlp", relative "none").

  Returns:
    kernel [*window, c / groups, o] and bias [o] (None where the layer has none), in the parameters' dtype, and the
    residual.

  Raises:
    TypeError: a layer of another kind.
    ValueError: parameters that are missing, traced or not finite, a kernel too large for their dtype, weights that
      depend on content, an alpha that is not positive, or a grid that is missing.
    AssertionError: a parameter whose shape is not the layer's.
  """
  if isinstance(layer, RelativeAttention):
    return _from_relative(layer, variables, grid)
  if not isinstance(layer, QuadraticAttention | TableAttention):
    raise TypeError(
      f"layer is a {type(layer).__name__}, but must be a QuadraticAttention, TableAttention or RelativeAttention."
    )
  if grid is not None:
    raise ValueError(f"grid is {shown(grid)}, but a {type(layer).__name__} serves images of any size: leave it out.")
  bias = ("bias",) * layer.use_bias
  names = ("table",) if isinstance(layer, TableAttention) else ("shifts", "alpha")
  params, dtype = known_parameters(layer, variables, ("value", *names, *bias))
  _check_shapes(layer, params)
  value = params["value"]
  if isinstance(layer, TableAttention):
    logits = params["table"].reshape(layer.num_heads, -1)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    taps, residual = weights / weights.sum(-1, keepdims=True), 0.0
  else:
    taps, residual = _gaussian_taps(layer, params["shifts"], params["alpha"], value)
  kernel = np.einsum("nt,nco->tco", taps, value).reshape(*layer.window, *value.shape[1:])
  return narrowed("kernel", kernel, dtype, WIDER), jnp.asarray(params["bias"], dtype) if bias else None, residual


def _check_shapes(layer: PositionAttention, params: dict[str, np.ndarray]) -> None:
  window = " ".join(map(str, layer.window))
  axes = {"value": f"n c {layer.features}", "shifts": f"n {len(layer.window)}", "alpha": "n", "table": f"n {window}"}
  axes = {name: each.replace("n", str(layer.num_heads)) for name, each in axes.items()} | {"bias": str(layer.features)}
  check_shapes(**{name: (array, axes[name]) for name, array in params.items()})


def _gaussian_taps(
  layer: QuadraticAttention, shifts: np.ndarray, alpha: np.ndarray, value: np.ndarray
) -> tuple[np.ndarray, float]:
  """Weights [heads, taps] on the window, and the share of the norm that lies beside it, on the infinite grid."""
  if not (alpha > 0).all():
    raise ValueError(
      f"alpha has the value {alpha.min()}, but must be positive: such a head sees no pixel more than others."
    )
  inside, grams, outside_grams = [], [], []
  for axis, dilation in enumerate(per_axis("dilation", layer.dilation, len(layer.window))):
    window = window_shifts(layer.window[axis], dilation)
    # exp(-38^2 / 2) is the last number above 0: nothing is left out.
    far = np.ceil(np.abs(shifts[:, axis]).max() + np.abs(window).max() + 38 / np.sqrt(alpha.min()))
    if far > FURTHEST:
      raise ValueError(
        f"the heads see {far:.3g} pixels far (alpha from {alpha.min():.3g}, shifts up to "
        f"{np.abs(shifts[:, axis]).max():.3g}), but must stay within {FURTHEST}: such heads are no window."
      )
    places = np.arange(-far, far + 1)
    squares = (places[None] - shifts[:, axis : axis + 1]) ** 2
    weights = np.exp(-alpha[:, None] * (squares - squares.min(1, keepdims=True)))
    weights /= weights.sum(1, keepdims=True)
    on_taps = np.isin(places, window)
    inside.append(weights[:, on_taps])
    grams.append(inside[-1] @ inside[-1].T)
    outside_grams.append(weights[:, ~on_taps] @ weights[:, ~on_taps].T)
  flat = value.reshape(len(value), -1)
  products = flat @ flat.T
  if len(inside) == 1:
    taps, within, beside = inside[0], grams[0], outside_grams[0]
  else:
    taps = np.einsum("na,nb->nab", *inside).reshape(len(value), -1)
    within = grams[0] * grams[1]
    beside = outside_grams[0] * (grams[1] + outside_grams[1]) + grams[0] * outside_grams[1]
  return taps, _share(np.sum(beside * products), np.sum((within + beside) * products))


def _from_relative(
  layer: RelativeAttention, variables: Any, grid: tuple[int, int] | None
) -> tuple[jax.Array, jax.Array | None, float]:
  dense = [f"{name}/{part}" for name in ("query", "key", "value", "out") for part in PARTS]
  has_table = layer.relative != "none" and layer.position == "table"
  params, dtype = known_parameters(layer, variables, (*dense, *(("bias_table",) * has_table)))
  _check_relative_shapes(layer, params)
  _refuse_content(params)
  size = _read_grid(grid, table_grid(jnp.asarray(params["bias_table"])) if has_table else None)
  h, w = size
  image = jnp.zeros((1, h, w, params["value/kernel"].shape[0]), dtype)
  seen = layer.apply({"params": nn.unbox(variables["params"])}, image, mutable=["intermediates"], train=False)[1]
  weights = np.asarray(seen["intermediates"]["attention"][0][0], np.float64)  # [n, q, k]
  offsets = relative_offsets(h, w)
  index = (offsets[..., 0] * (2 * w - 1) + offsets[..., 1]).ravel()
  counts = np.bincount(index, minlength=(2 * h - 1) * (2 * w - 1))
  taps = np.stack([np.bincount(index, each.ravel(), len(counts)) for each in weights]) / counts
  rest = weights - taps[:, index].reshape(weights.shape)

  value, out = params["value/kernel"], params["out/kernel"]
  matrices = np.einsum("cne,neo->nco", value, out)
  flat = matrices.reshape(len(matrices), -1)
  products = flat @ flat.T
  lost = np.sum(np.einsum("nqk,mqk->nm", rest, rest) * products)
  whole = np.sum(np.einsum("nqk,mqk->nm", weights, weights) * products)
  # Rows that do not sum to one ("post") let the value's bias through by another amount at each pixel.
  of_value = np.einsum("ne,neo->no", params["value/bias"], out)
  biases = np.einsum("nq,no->qo", weights.sum(-1), of_value)
  lost += np.sum((biases - biases.mean(0)) ** 2)
  kernel = np.einsum("nt,nco->tco", taps, matrices).reshape(2 * h - 1, 2 * w - 1, *matrices.shape[1:])
  bias = biases.mean(0) + params["out/bias"]
  return narrowed("kernel", kernel, dtype, WIDER), narrowed("bias", bias, dtype, WIDER), _share(lost, whole)


def _check_relative_shapes(layer: RelativeAttention, params: dict[str, np.ndarray]) -> None:
  n = layer.num_heads
  axes = {f"{name}/kernel": f"c {n} d" for name in ("query", "key", "value")}
  axes |= {f"{name}/bias": f"{n} d" for name in ("query", "key", "value")}
  axes |= {"out/kernel": f"{n} d o", "out/bias": "o", "bias_table": f"{n} u v"}
  check_shapes(**{name: (array, axes[name]) for name, array in params.items()})


def _read_grid(grid: Any, own: tuple[int, int] | None) -> tuple[int, int]:
  found = plain(grid)
  if grid is None and own is None:
    raise ValueError("grid is None, but the layer has no bias table that would tell it: give (height, width).")
  if grid is not None and not (isinstance(found, tuple) and len(found) == 2 and all(map(is_whole, found))):
    raise ValueError(f"grid is {shown(grid)}, but must be (height, width), two positive integers.")
  if own is not None and found not in (None, own):
    raise ValueError(f"grid is {found}, but the layer's bias table belongs to {own}: leave it out.")
  return own or found


def _refuse_content(params: dict[str, np.ndarray]) -> None:
  """Logits of a softmax are free of content where keys are constant, or queries 0."""
  key, query = np.abs(params["key/kernel"]).max(), max(np.abs(params[f"query/{part}"]).max() for part in PARTS)
  if key > 0 and query > 0:
    raise ValueError(
      f"the layer's weights depend on content: the largest entry of the key kernel is {key:.3g} and of the query "
      f"{query:.3g}, but one of them must be 0; a convolution has fixed weights."
    )


def _share(lost: float, whole: float) -> float:
  return float(np.sqrt(max(lost, 0.0) / whole)) if whole > 0 else 0.0
