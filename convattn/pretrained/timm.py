"""Weights of timm's CoAtNets into our variables, and back.

timm keeps convolutions as [out, in, row, column], fuses query, key and value with the head as the slowest axis, and
indexes bias tables by query - key, flattened; ours are by key - query. Source of the names: timm's maxxvit models,
version 1.0.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.flax import load_file

from convattn.models.coatnet import CoAtNet
from convattn.models.create import list_models, spec_for
from convattn.models.spec import Spec

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Tensor:
  """One tensor of timm's: the arrays of ours it becomes, and how there and back."""

  name: str
  paths: tuple[Path, ...]
  load: Callable[..., tuple[np.ndarray, ...]]  # (timm's, *shapes of ours) -> arrays of ours
  save: Callable[..., np.ndarray]  # arrays of ours -> timm's


def from_timm(
  name: str, weights: Mapping[str, Any] | str | os.PathLike[str], image_size: int | tuple[int, int] | None = None
) -> dict:
  """Our variables from timm's weights for an architecture.

  Args:
    name: timm's architecture, such as "coatnet_0_224". It fixes everything but the number of classes and the grids of
      the bias tables, which come from the tensors.
    weights: a mapping from timm's names to arrays, or the path of a safetensors file. Nothing is unpickled.
    image_size: pixels, a number or (height, width), where the tables belong to grids that are not square: a flat table
      cannot tell.

  Returns:
    {"params", "batch_stats"}, for the model of that name. `coatnet_0_224`'s also fit `coatnet_0` (0 to 4).

  Raises:
    ValueError: a name that timm does not have; a tensor that is missing, left over, or of another shape, with both
      shapes.
  """
  model = _model(name, num_classes=1)
  given = weights if isinstance(weights, Mapping) else load_file(weights)
  tensors = list(_tensors(model.spec))
  _check_names({tensor.name for tensor in tensors}, set(given), name)
  model = model.clone(num_classes=given["head.fc.weight"].shape[0])
  wanted = _shapes(model, image_size or _square_size(model.spec, given))
  variables: dict = {}
  for tensor in tensors:
    shapes = [_get(wanted, path).shape for path in tensor.paths]
    array, expected = np.asarray(given[tensor.name]), tensor.save(*map(np.zeros, shapes)).shape
    if array.shape != expected:
      raise ValueError(f"{name}: tensor {tensor.name!r} has shape {array.shape}, but must be {expected}.")
    for path, ours in zip(tensor.paths, tensor.load(array, *shapes), strict=True):
      _set(variables, path, jnp.asarray(ours))
  return variables


def to_timm(name: str, variables: Mapping) -> dict[str, np.ndarray]:
  """The inverse of `from_timm`: timm's tensors by name, bit for bit, with `num_batches_tracked` as int64 0.

  Raises:
    ValueError: a name that timm does not have, or variables that lack one of its arrays.
  """
  state_dict = {}
  for tensor in _tensors(_model(name, num_classes=1).spec):
    state_dict[tensor.name] = tensor.save(*(np.asarray(_get(variables, path)) for path in tensor.paths))
    if tensor.name.endswith("running_var"):
      state_dict[tensor.name.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
  return state_dict


def _model(name: str, num_classes: int) -> CoAtNet:
  if name not in list_models("coatnet_?_224"):
    known = ", ".join(list_models("coatnet_?_224"))
    raise ValueError(f"there are no conversion rules for timm's {name!r}; there are for {known}.")
  return CoAtNet(spec_for(name), num_classes)


def _shapes(model: CoAtNet, image_size: int | tuple[int, int]) -> dict:
  height, width = np.broadcast_to(image_size, 2).tolist()
  images = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
  return jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)


def _square_size(spec: Spec, weights: Mapping[str, Any]) -> int:
  """The smallest square image whose last grid has the last table's size: (2h - 1)^2 rows at the total stride."""
  name = next(t.name for t in reversed(list(_tensors(spec))) if t.name.endswith("bias_table"))
  rows = weights[name].shape[0]
  side = math.isqrt(rows)
  if side * side != rows or side % 2 == 0:
    raise ValueError(f"tensor {name!r} has {rows} rows, which no square grid gives; pass image_size=(height, width).")
  return (side + 1) // 2 * spec.stem_stride * math.prod(stage.stride for stage in spec.stages)


def _check_names(wanted: set[str], given: set[str], name: str) -> None:
  given = {key for key in given if not key.endswith("num_batches_tracked")}
  for problem, names in (("is missing", wanted - given), ("is not part of it", given - wanted)):
    if names:
      more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
      raise ValueError(f"{name}: tensor {min(names)!r}{more} {problem}; are these the weights of another architecture?")


def _tensors(spec: Spec) -> Iterator[Tensor]:
  """Every tensor of a model in timm's shape."""
  for i in range(len(spec.stem_widths)):
    yield from _dense(
      f"stem.conv{i + 1}", ("stem", f"conv_{i + 1}"), bias=spec.stem_bias, load=_conv_load, save=_conv_save
    )
  for i in range(1, len(spec.stem_widths)):
    yield from _norm(f"stem.norm{i}", ("stem", f"norm_{i}"), batch=True)
  channels = spec.stem_widths[-1]
  for s, stage in enumerate(spec.stages):
    for j, (kind, width, _) in enumerate(stage.blocks):
      ours, theirs = (f"stage_{s + 1}", f"block_{j}"), f"stages.{s}.blocks.{j}"
      if channels != width:
        yield from _dense(f"{theirs}.shortcut.expand", (*ours, "shortcut", "project"), image=True)
      yield from {"C": _conv_block, "T": _transformer_block}[kind](theirs, ours, first=j == 0)
      channels = width
  yield from _norm("head.norm", ("classifier", "norm"), batch=False)
  if spec.head == "tanh":
    yield from _dense("head.pre_logits.fc", ("classifier", "hidden"))
  yield from _dense("head.fc", ("classifier", "logits"))


def _conv_block(theirs: str, ours: Path, *, first: bool) -> Iterator[Tensor]:
  del first
  yield from _norm(f"{theirs}.pre_norm", (*ours, "pre_norm"), batch=True)
  yield from _dense(f"{theirs}.conv1_1x1", (*ours, "expand"), bias=False, image=True)
  yield from _norm(f"{theirs}.norm1", (*ours, "expand_norm"), batch=True)
  yield from _dense(f"{theirs}.conv2_kxk", (*ours, "depthwise"), bias=False, load=_conv_load, save=_conv_save)
  yield from _norm(f"{theirs}.norm2", (*ours, "depthwise_norm"), batch=True)
  yield from _dense(f"{theirs}.se.fc1", (*ours, "squeeze_excite", "reduce"), image=True)
  yield from _dense(f"{theirs}.se.fc2", (*ours, "squeeze_excite", "expand"), image=True)
  yield from _dense(f"{theirs}.conv3_1x1", (*ours, "project"), image=True)


def _transformer_block(theirs: str, ours: Path, *, first: bool) -> Iterator[Tensor]:
  # The norm of a block that pools is wrapped once more.
  yield from _norm(f"{theirs}.norm1.norm" if first else f"{theirs}.norm1", (*ours, "attention_norm"), batch=False)
  attention = (*ours, "attention")
  for leaf, ours_leaf in (("weight", "kernel"), ("bias", "bias")):
    paths = tuple(("params", *attention, part, ours_leaf) for part in ("query", "key", "value"))
    yield Tensor(f"{theirs}.attn.qkv.{leaf}", paths, _qkv_load, _qkv_save)
  table = ("params", *attention, "bias_table")
  yield Tensor(f"{theirs}.attn.rel_pos.relative_position_bias_table", (table,), _table_load, _table_save)
  yield Tensor(f"{theirs}.attn.proj.weight", (("params", *attention, "out", "kernel"),), _matrix_load, _out_save)
  yield _vector(f"{theirs}.attn.proj.bias", ("params", *attention, "out", "bias"))
  yield from _norm(f"{theirs}.norm2", (*ours, "feed_forward_norm"), batch=False)
  yield from _dense(f"{theirs}.mlp.fc1", (*ours, "feed_forward", "expand"), image=True)
  yield from _dense(f"{theirs}.mlp.fc2", (*ours, "feed_forward", "project"), image=True)


def _norm(theirs: str, ours: Path, *, batch: bool) -> Iterator[Tensor]:
  yield _vector(f"{theirs}.weight", ("params", *ours, "scale"))
  yield _vector(f"{theirs}.bias", ("params", *ours, "bias"))
  if batch:
    yield _vector(f"{theirs}.running_mean", ("batch_stats", *ours, "mean"))
    yield _vector(f"{theirs}.running_var", ("batch_stats", *ours, "var"))


def _dense(
  theirs: str, ours: Path, *, bias: bool = True, image: bool = False, load: Any = None, save: Any = None
) -> Iterator[Tensor]:
  """A product: `image` where timm has it as a 1x1 convolution; load and save where it is a larger one."""
  save = save or (_pointwise_save if image else _matrix_save)
  yield Tensor(f"{theirs}.weight", (("params", *ours, "kernel"),), load or _matrix_load, save)
  if bias:
    yield _vector(f"{theirs}.bias", ("params", *ours, "bias"))


def _vector(theirs: str, path: Path) -> Tensor:
  return Tensor(theirs, (path,), lambda array, _: (array,), lambda array: array)


def _conv_load(weight: np.ndarray, _: Any) -> tuple[np.ndarray]:
  return (weight.transpose(2, 3, 1, 0),)


def _conv_save(kernel: np.ndarray) -> np.ndarray:
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


def _get(tree: Mapping, path: Path) -> Any:
  for part in path:
    if part not in tree:
      raise ValueError(f"the variables have no {'/'.join(path)!r}; are they of another architecture?")
    tree = tree[part]
  return tree


def _set(tree: dict, path: Path, value: Any) -> None:
  for part in path[:-1]:
    tree = tree.setdefault(part, {})
  tree[path[-1]] = value
