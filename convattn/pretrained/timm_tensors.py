"""Every tensor of a model in timm's shape: its name, the arrays of ours it becomes, and how there and back.

timm keeps convolutions as [out, in, row, column], fuses query, key and value with the head as the slowest axis, and
indexes bias tables by query - key, flattened; ours are by key - query. Source of the names: timm's maxxvit models,
version 1.0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from convattn.models.spec import Spec

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Tensor:
  """One tensor of timm's: the arrays of ours it becomes, and how there and back."""

  name: str
  paths: tuple[Path, ...]
  load: Callable[..., tuple[np.ndarray, ...]]  # (timm's, *shapes of ours) -> arrays of ours
  save: Callable[..., np.ndarray]  # arrays of ours -> timm's


def tensors(spec: Spec) -> Iterator[Tensor]:
  """The rows of a model, one for each of timm's floating tensors."""
  conv_batch, attention_batch = spec.conv_norm == "batch", spec.attention_norm == "batch"
  for i in range(len(spec.stem_widths)):
    yield from _convolution(f"stem.conv{i + 1}", ("stem", f"conv_{i + 1}"), bias=spec.stem_bias)
  for i in range(1, len(spec.stem_widths)):
    yield from _norm(f"stem.norm{i}", ("stem", f"norm_{i}"), batch=conv_batch)
  channels = spec.stem_widths[-1]
  for s, stage in enumerate(spec.stages):
    for j, (kind, width, stride) in enumerate(stage.blocks):
      ours, theirs = (f"stage_{s + 1}", f"block_{j}"), f"stages.{s}.blocks.{j}"
      if channels != width:
        bias = spec.attention_shortcut_bias if kind == "T" else spec.conv_bias
        yield from _dense(f"{theirs}.shortcut.expand", (*ours, "shortcut", "project"), bias=bias, image=True)
      yield from _BLOCKS[kind](spec, theirs, ours, strided=stride > 1)
      channels = width
  norm = "norm" if spec.head == "norm_first" else "head.norm"
  yield from _norm(norm, ("classifier", "norm"), batch=attention_batch)
  if spec.head == "tanh":
    yield from _dense("head.pre_logits.fc", ("classifier", "hidden"))
  yield from _dense("head.fc", ("classifier", "logits"))


def _mbconv(spec: Spec, theirs: str, ours: Path, *, strided: bool) -> Iterator[Tensor]:
  del strided
  batch = spec.conv_norm == "batch"
  squeeze = {"after": "se", "before": "se_early"}[spec.squeeze_at]
  yield from _norm(f"{theirs}.pre_norm", (*ours, "pre_norm"), batch=batch)
  yield from _dense(f"{theirs}.conv1_1x1", (*ours, "expand"), bias=False, image=True)
  yield from _norm(f"{theirs}.norm1", (*ours, "expand_norm"), batch=batch)
  yield from _convolution(f"{theirs}.conv2_kxk", (*ours, "depthwise"), bias=False)
  yield from _norm(f"{theirs}.norm2", (*ours, "depthwise_norm"), batch=batch)
  yield from _dense(f"{theirs}.{squeeze}.fc1", (*ours, "squeeze_excite", "reduce"), image=True)
  yield from _dense(f"{theirs}.{squeeze}.fc2", (*ours, "squeeze_excite", "expand"), image=True)
  yield from _dense(f"{theirs}.conv3_1x1", (*ours, "project"), bias=spec.conv_bias, image=True)


def _convnext(spec: Spec, theirs: str, ours: Path, *, strided: bool) -> Iterator[Tensor]:
  del strided
  yield from _convolution(f"{theirs}.conv_dw", (*ours, "depthwise"), bias=spec.conv_bias)
  yield from _norm(f"{theirs}.norm", (*ours, "norm"), batch=spec.conv_norm == "batch")
  yield from _feed_forward(theirs, ours)
  if spec.conv_layer_scale:
    yield _vector(f"{theirs}.ls.gamma", ("params", *ours, "scale", "scale"))


def _transformer(spec: Spec, theirs: str, ours: Path, *, strided: bool) -> Iterator[Tensor]:
  batch = spec.attention_norm == "batch"
  # The norm of a block that pools is wrapped once more.
  yield from _norm(f"{theirs}.norm1.norm" if strided else f"{theirs}.norm1", (*ours, "attention_norm"), batch=batch)
  attention = (*ours, "attention")
  for leaf, ours_leaf in (("weight", "kernel"), ("bias", "bias")):
    paths = tuple(("params", *attention, part, ours_leaf) for part in ("query", "key", "value"))
    yield Tensor(f"{theirs}.attn.qkv.{leaf}", paths, _qkv_load, _qkv_save)
  if spec.relative_position == "mlp":
    mlp = f"{theirs}.attn.rel_pos.mlp"
    hidden = ("params", *attention, "bias_mlp", "hidden")
    # Their shifts are the negatives of ours, and the logarithmic scale is odd.
    yield Tensor(f"{mlp}.fc1.weight", ((*hidden, "kernel"),), lambda w, _: (-w.T,), lambda kernel: -kernel.T)
    yield _vector(f"{mlp}.fc1.bias", (*hidden, "bias"))
    yield from _dense(f"{mlp}.fc2", (*attention, "bias_mlp", "out"))
  else:
    table = ("params", *attention, "bias_table")
    yield Tensor(f"{theirs}.attn.rel_pos.relative_position_bias_table", (table,), _table_load, _table_save)
  yield Tensor(f"{theirs}.attn.proj.weight", (("params", *attention, "out", "kernel"),), _matrix_load, _out_save)
  yield _vector(f"{theirs}.attn.proj.bias", ("params", *attention, "out", "bias"))
  yield from _norm(f"{theirs}.norm2", (*ours, "feed_forward_norm"), batch=batch)
  yield from _feed_forward(theirs, ours)
  if spec.attention_layer_scale:
    yield _vector(f"{theirs}.ls1.gamma", ("params", *ours, "attention_scale", "scale"))
    yield _vector(f"{theirs}.ls2.gamma", ("params", *ours, "feed_forward_scale", "scale"))


_BLOCKS: dict[str, Callable[..., Iterator[Tensor]]] = {"C": _mbconv, "X": _convnext, "T": _transformer}


def _feed_forward(theirs: str, ours: Path) -> Iterator[Tensor]:
  yield from _dense(f"{theirs}.mlp.fc1", (*ours, "feed_forward", "expand"), image=True)
  yield from _dense(f"{theirs}.mlp.fc2", (*ours, "feed_forward", "project"), image=True)


def _norm(theirs: str, ours: Path, *, batch: bool) -> Iterator[Tensor]:
  yield _vector(f"{theirs}.weight", ("params", *ours, "scale"))
  yield _vector(f"{theirs}.bias", ("params", *ours, "bias"))
  if batch:
    yield _vector(f"{theirs}.running_mean", ("batch_stats", *ours, "mean"))
    yield _vector(f"{theirs}.running_var", ("batch_stats", *ours, "var"))


def _dense(theirs: str, ours: Path, *, bias: bool = True, image: bool = False) -> Iterator[Tensor]:
  """A dense layer: `image` where timm has it as a 1x1 convolution."""
  save = _pointwise_save if image else _matrix_save
  yield Tensor(f"{theirs}.weight", (("params", *ours, "kernel"),), _matrix_load, save)
  if bias:
    yield _vector(f"{theirs}.bias", ("params", *ours, "bias"))


def _convolution(theirs: str, ours: Path, *, bias: bool) -> Iterator[Tensor]:
  yield Tensor(f"{theirs}.weight", (("params", *ours, "kernel"),), _convolution_load, _convolution_save)
  if bias:
    yield _vector(f"{theirs}.bias", ("params", *ours, "bias"))


def _vector(theirs: str, path: Path) -> Tensor:
  return Tensor(theirs, (path,), lambda array, _: (array,), lambda array: array)


def _convolution_load(weight: np.ndarray, _: Any) -> tuple[np.ndarray]:
  return (weight.transpose(2, 3, 1, 0),)


def _convolution_save(kernel: np.ndarray) -> np.ndarray:
  return kernel.transpose(3, 2, 0, 1)


def _matrix_load(weight: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray]:
  return (weight.reshape(weight.shape[:2]).T.reshape(shape),)


def _matrix_save(kernel: np.ndarray) -> np.ndarray:
  return kernel.T


def _pointwise_save(kernel: np.ndarray) -> np.ndarray:
  return kernel.T[:, :, None, None]


def _out_save(kernel: np.ndarray) -> np.ndarray:
  return kernel.reshape(-1, kernel.shape[-1]).T[:, :, None, None]


def _qkv_load(array: np.ndarray, *shapes: tuple[int, ...]) -> tuple[np.ndarray, ...]:
  """[(head, query | key | value, d), c, 1, 1] -> three of [c, head, d]; biases likewise."""
  heads, size = shapes[0][-2:]
  parts = array.reshape(heads, 3, size, -1)
  return tuple(np.moveaxis(parts[:, i], -1, 0).reshape(shape) for i, shape in enumerate(shapes))


def _qkv_save(*arrays: np.ndarray) -> np.ndarray:
  heads, size = arrays[0].shape[-2:]
  parts = np.stack([np.moveaxis(a.reshape(-1, heads, size), 0, -1) for a in arrays], 1).reshape(3 * heads * size, -1)
  return parts[:, :, None, None] if arrays[0].ndim == 3 else parts[:, 0]


def _table_load(table: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray]:
  heads, rows, columns = shape
  return (table.reshape(rows, columns, heads)[::-1, ::-1].transpose(2, 0, 1),)


def _table_save(table: np.ndarray) -> np.ndarray:
  return table.transpose(1, 2, 0)[::-1, ::-1].reshape(-1, table.shape[0])
