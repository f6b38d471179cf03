"""A CoAtNet as the steps of page/model.js: what each layer computes outside training, with its weights as blobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from convattn.layers.grid_positions import PositionMLP
from convattn.models import Spec
from convattn.ops.positions import resize_table, table_grid
from convattn.ops.windows import num_windows
from convattn.viz.packing import Blob, pack, pack_as

Step = dict[str, Any]

_POOLS = {"max": ("max", 0), "avg": ("mean", 0), "max3x3": ("max", 3)}
"""How each pool reduces a window, and how long that is; 0: as its stride."""


def is_short(path: str) -> bool:
  """Whether a variable travels in 16 bits: a kernel, but none that only computes a position's table."""
  return path.endswith("/kernel") and "/bias_mlp/" not in path


def packed_kernel(kernel: np.ndarray) -> Blob:
  """A kernel as it travels: 65,534 evenly spaced numbers from its smallest to its largest."""
  return pack(kernel, precision=1e-5 * float(np.ptp(kernel)))


class Steps:
  """Reads a model's variables, in the order of its forward pass.

  `grid` and `stride` are those of the image that the steps so far have made: cells, and pixels from one to the next.

  Raises:
    ValueError: a variable is missing, left over, or not finite.
  """

  def __init__(self, spec: Spec, variables: Mapping[str, Any], image_size: tuple[int, int]):
    self.spec = spec
    self.grid = image_size
    self.stride = 1
    self._left = {
      path: np.asarray(value, np.float32)
      for kind in ("params", "batch_stats")
      for path, value in flax.traverse_util.flatten_dict(dict(variables.get(kind, {})), sep="/").items()
    }

  def whole(self, num_classes: int) -> tuple[list[Step], Step]:
    """The steps up to the last stage's image, and the classifier's."""
    body = self._stem()
    makers = {"C": self._mbconv, "X": self._convnext, "D": self._causal, "T": self._transformer}
    for i, stage in enumerate(self.spec.stages):
      for j, (kind, _, stride) in enumerate(stage.blocks):
        body += makers[kind](f"stage_{i + 1}/block_{j}", stride)
    classifier = self._classifier(num_classes)
    if self._left:
      raise ValueError(f"the variables have {', '.join(self._left)}, which the model has not.")
    return body, classifier

  def _stem(self) -> list[Step]:
    steps: list[Step] = []
    for i in range(len(self.spec.stem_widths)):
      if i:
        steps += [self._conv_norm(f"stem/norm_{i}"), _activation(self.spec.conv_activation)]
      stride = 1 if i else self.spec.stem_stride
      name = f"stem/conv_{i + 1}"
      steps.append(
        {"kind": "conv", "name": name, "window": self.spec.stem_kernel, "stride": stride, **self._layer(name)}
      )
    self._move(self.spec.stem_stride)
    return steps

  def _mbconv(self, name: str, stride: int) -> list[Step]:
    spec = self.spec
    act = _activation(spec.conv_activation)
    at = {place: stride if spec.conv_stride == place else 1 for place in ("pool", "expand", "depthwise")}

    def squeeze_excite(place: str) -> list[Step]:
      if place != spec.squeeze_at:
        return []
      layers = {part: self._layer(f"{name}/squeeze_excite/{part}") for part in ("reduce", "expand")}
      return [{"kind": "squeeze_excite", "function": spec.squeeze_activation, **layers}]

    shortcut = self._shortcut(name, stride)
    branch = [self._conv_norm(f"{name}/pre_norm")]
    branch += [act] if spec.conv_pre_norm_activation else []
    branch += _pooled("avg", at["pool"])
    branch += [{"kind": "subsample", "stride": at["expand"]}] if at["expand"] > 1 else []
    branch += [self._dense(f"{name}/expand"), self._conv_norm(f"{name}/expand_norm"), act]
    branch.append(self._depthwise(f"{name}/depthwise", at["depthwise"]))
    branch += squeeze_excite("before")
    branch += [self._conv_norm(f"{name}/depthwise_norm"), act]
    branch += squeeze_excite("after")
    branch.append(self._dense(f"{name}/project"))
    self._move(stride)
    return [_residual(shortcut, branch)]

  def _convnext(self, name: str, stride: int) -> list[Step]:
    spec = self.spec
    inside = stride if spec.conv_stride == "depthwise" else 1
    shortcut = self._shortcut(name, stride)
    branch = _pooled("avg", stride // inside)
    branch += [self._depthwise(f"{name}/depthwise", inside), self._conv_norm(f"{name}/norm")]
    branch += self._feed_forward(f"{name}/feed_forward", spec.conv_activation)
    branch += self._scale(f"{name}/scale", spec.conv_layer_scale)
    self._move(stride)
    return [_residual(shortcut, branch)]

  def _causal(self, name: str, stride: int) -> list[Step]:
    shortcut = self._shortcut(name, stride)
    norm = self._conv_norm(f"{name}/norm")
    stack = f"{name}/stack"
    start = self._layer(f"{stack}/start")
    layers = []
    for i in range(self.spec.causal_depth):
      last = i + 1 == self.spec.causal_depth
      layers.append(
        {
          "name": f"{stack}/conv_{i + 1}",
          "taps": self.spec.causal_taps,
          "dilation": 2**i,
          "conv": self._layer(f"{stack}/conv_{i + 1}"),
          "skip": self._layer(f"{stack}/skip_{i + 1}"),
          "residual": None if last else self._layer(f"{stack}/residual_{i + 1}"),
        }
      )
    self._move(stride)
    return [_residual(shortcut, [norm, {"kind": "dilated_stack", "start": start, "layers": layers, "stride": stride}])]

  def _transformer(self, name: str, stride: int) -> list[Step]:
    spec = self.spec
    shortcut = self._shortcut(name, stride)
    norm = self._attention_norm(f"{name}/attention_norm")
    self._move(stride)
    attention = [norm, *_pooled(spec.pool, stride), self._attention(f"{name}/attention")]
    attention += self._scale(f"{name}/attention_scale", spec.attention_layer_scale)
    feed_forward = [self._attention_norm(f"{name}/feed_forward_norm")]
    feed_forward += self._feed_forward(f"{name}/feed_forward", spec.attention_activation)
    feed_forward += self._scale(f"{name}/feed_forward_scale", spec.attention_layer_scale)
    return [_residual(shortcut, attention), _residual([], feed_forward)]

  def _attention(self, name: str) -> Step:
    heads = self._left[f"{name}/query/kernel"].shape[1]
    relative = self.spec.relative_attention
    table = None if relative == "none" else pack_as(self._table(name, heads), "float32")
    # Of the output matrix the first two axes, heads and their channels, are summed over.
    layers = {part: self._layer(f"{name}/{part}") for part in ("query", "key", "value", "out")}
    place = {"grid": list(self.grid), "stride": [self.stride, self.stride]}
    return {
      "kind": "attention",
      "name": name,
      "heads": heads,
      "relative": relative,
      "position": table,
      **place,
      **layers,
    }

  def _table(self, name: str, heads: int) -> np.ndarray:
    """The bias of every shift, [heads, 2h-1, 2w-1], for the image's grid."""
    if self.spec.relative_position == "mlp":
      layers = ("hidden", "out")
      params = {at: {part: self._take(f"{name}/bias_mlp/{at}/{part}") for part in ("kernel", "bias")} for at in layers}
      return np.asarray(PositionMLP(heads, self.grid, self.spec.relative_hidden).apply({"params": params}))
    table = jnp.asarray(self._take(f"{name}/bias_table"))
    fits = table_grid(table) == self.grid
    return np.asarray(table if fits else resize_table(table, self.grid, self.spec.table_resize))

  def _classifier(self, num_classes: int) -> Step:
    norm = {"name": "classifier/norm", **self._attention_norm("classifier/norm")}
    mean = {"kind": "mean"}
    steps = [norm, mean] if self.spec.head == "norm_first" else [mean, norm]
    if self.spec.head == "tanh":
      steps += [self._dense("classifier/hidden"), _activation("tanh")]
    if num_classes:
      steps.append(self._dense("classifier/logits"))
    place = {"grid": list(self.grid), "stride": [self.stride, self.stride]}
    return {"head": self.spec.head, "steps": steps, **place}

  def _shortcut(self, name: str, stride: int) -> list[Step]:
    project = f"{name}/shortcut/project"
    return [*_pooled(self.spec.pool, stride), *([self._dense(project)] if f"{project}/kernel" in self._left else [])]

  def _feed_forward(self, name: str, activation: str) -> list[Step]:
    return [self._dense(f"{name}/expand"), _activation(activation), self._dense(f"{name}/project")]

  def _scale(self, name: str, initial: float) -> list[Step]:
    return [{"kind": "affine", "scale": self._numbers(f"{name}/scale"), "shift": None}] if initial else []

  def _conv_norm(self, name: str) -> Step:
    return self._norm(name, self.spec.conv_norm, self.spec.conv_norm_epsilon)

  def _attention_norm(self, name: str) -> Step:
    return self._norm(name, self.spec.attention_norm, self.spec.attention_norm_epsilon)

  def _norm(self, name: str, kind: str, epsilon: float) -> Step:
    if kind == "layer":
      both = {"scale": self._numbers(f"{name}/scale"), "shift": self._numbers(f"{name}/bias")}
      return {"kind": "layer_norm", "epsilon": epsilon, **both}
    scale, bias, mean, variance = (
      self._take(f"{name}/{part}").astype(float) for part in ("scale", "bias", "mean", "var")
    )
    factor = scale / np.sqrt(variance + epsilon)
    return {"kind": "affine", "scale": pack_as(factor, "float32"), "shift": pack_as(bias - mean * factor, "float32")}

  def _depthwise(self, name: str, stride: int) -> Step:
    layer = self._layer(name)
    return {"kind": "depthwise", "name": name, "window": layer["kernel"]["shape"][0], "stride": stride, **layer}

  def _dense(self, name: str) -> Step:
    return {"kind": "dense", "name": name, **self._layer(name)}

  def _layer(self, name: str) -> dict[str, Any]:
    """Kernel, bias (None: it has none), and how many numbers come out for each pixel."""
    kernel = self._take(f"{name}/kernel")
    bias = self._take(f"{name}/bias") if f"{name}/bias" in self._left else None
    # What a query, key or value has two axes of, heads and their channels, is one here.
    columns = kernel.shape[-1] if bias is None else bias.size
    return {
      "kernel": packed_kernel(kernel),
      "bias": None if bias is None else pack_as(bias, "float32"),
      "columns": columns,
    }

  def _numbers(self, name: str) -> Blob:
    return pack_as(self._take(name), "float32")

  def _take(self, name: str) -> np.ndarray:
    if name not in self._left:
      raise ValueError(f"the variables lack {name}.")
    value = self._left.pop(name)
    if not np.isfinite(value).all():
      raise ValueError(f"{name} has numbers that are not finite; the model's training diverged.")
    return value

  def _move(self, stride: int) -> None:
    """Over a stride: fewer cells, farther apart."""
    self.grid = (num_windows(self.grid[0], stride), num_windows(self.grid[1], stride))
    self.stride *= stride


def _activation(function: str) -> Step:
  return {"kind": "activation", "function": function}


def _pooled(pool: str, stride: int) -> list[Step]:
  reduce, window = _POOLS[pool]
  return [{"kind": "pool", "reduce": reduce, "window": window or stride, "stride": stride}] if stride > 1 else []


def _residual(shortcut: list[Step], branch: list[Step]) -> Step:
  return {"kind": "residual", "shortcut": shortcut, "branch": branch}
