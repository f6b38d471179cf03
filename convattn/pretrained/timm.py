"""Weights of timm's CoAtNets into our variables, and back."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convattn.errors import UserError, nearest
from convattn.models.coatnet import CoAtNet
from convattn.models.spec import Spec
from convattn.models.timm_variants import TIMM_VARIANTS
from convattn.pretrained.files import read_safetensors
from convattn.pretrained.shapes import variable_shapes
from convattn.pretrained.timm_tensors import Path, tensors

_WRAPPERS = {"module.": "DataParallel", "_orig_mod.": "torch.compile"}
"""What goes in front of every tensor's name where a wrapped model was saved, and who wraps so."""


def from_timm(
  name: str, weights: Mapping[str, Any] | str | os.PathLike[str], image_size: int | tuple[int, int] | None = None
) -> dict:
  """Our variables from timm's weights for an architecture.

  Args:
    name: timm's architecture, such as "coatnet_0_rw_224"; a suffix that names its weights, ".sw_in1k", changes nothing.
      It fixes everything but the number of classes and the grids of the bias tables, which come from the tensors.
    weights: a mapping from timm's names to arrays, or the path of a safetensors file. Nothing is unpickled. "module."
      and "_orig_mod.", which DataParallel and torch.compile put in front of every name, are left out, with a note on
      stderr.
    image_size: pixels, a number or (height, width), where the tables belong to grids that are not square: a flat table
      cannot tell.

  Returns:
    {"params", "batch_stats"} in the dtypes given, for the model of that name. `coatnet_0_224`'s also fit `coatnet_0`
    (0 to 4).

  Raises:
    UserError: a name that timm does not have; a tensor that is missing, left over, or of another shape, with both
      shapes; a wrapper's prefix on some names alone.
  """
  model = _model(name, num_classes=1)
  given = _unwrapped(weights if isinstance(weights, Mapping) else read_safetensors(weights), name)
  rows = list(tensors(model.spec))
  _check_names({tensor.name for tensor in rows}, set(given), name)
  model = model.clone(num_classes=(*np.shape(given["head.fc.weight"]), 0)[0])
  channels = np.shape(given["stem.conv1.weight"])[1:2]
  wanted = variable_shapes(model, image_size or _square_size(model.spec, given), *channels)
  variables: dict = {}
  for tensor in rows:
    shapes = [_get(wanted, path).shape for path in tensor.paths]
    array, expected = np.asarray(given[tensor.name]), tensor.save(*map(np.zeros, shapes)).shape
    if array.shape != expected:
      raise UserError(f"{name}: tensor {tensor.name!r} has shape {array.shape}, but must be {expected}.")
    for path, ours in zip(tensor.paths, tensor.load(array, *shapes), strict=True):
      # float64 stays float64, as a NumPy array where JAX would narrow it
      _set(variables, path, jnp.asarray(ours) if jax.dtypes.canonicalize_dtype(ours.dtype) == ours.dtype else ours)
  return variables


def to_timm(name: str, variables: Mapping) -> dict[str, np.ndarray]:
  """The inverse of `from_timm`: timm's tensors by name, bit for bit, with `num_batches_tracked` as int64 0.

  Raises:
    UserError: a name that timm does not have, or variables that lack one of its arrays, the last dense layer included.
  """
  state_dict = {}
  for tensor in tensors(_model(name, num_classes=1).spec):
    array = tensor.save(*(np.asarray(_get(variables, path)) for path in tensor.paths))
    state_dict[tensor.name] = np.ascontiguousarray(array)  # safetensors writes others in their memory's order
    if tensor.name.endswith("running_var"):
      state_dict[tensor.name.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
  return state_dict


def _model(name: str, num_classes: int) -> CoAtNet:
  architecture = name.partition(".")[0]
  if architecture not in TIMM_VARIANTS:
    meant = ", ".join(nearest(architecture, TIMM_VARIANTS))
    raise UserError(f"timm has no CoAtNet {name!r}; did you mean {meant}?")
  return CoAtNet(TIMM_VARIANTS[architecture], num_classes)


def _square_size(spec: Spec, weights: Mapping[str, Any]) -> int:
  """The square image whose first grid with a table, of h by h, has the (2h - 1)^2 rows of that table."""
  stride = spec.stem_stride
  for i, stage in enumerate(spec.stages):
    stride *= stage.stride
    for tensor in tensors(spec):
      if not (tensor.name.startswith(f"stages.{i}.") and tensor.name.endswith("bias_table")):
        continue
      rows = np.shape(weights[tensor.name])[0]
      side = math.isqrt(rows)
      if side * side != rows or side % 2 == 0:
        wanted = "which no square grid gives; pass image_size=(height, width)"
        raise UserError(f"tensor {tensor.name!r} has {rows} rows, {wanted}.")
      return (side + 1) // 2 * stride
  return stride  # no tables: any image


def _unwrapped(weights: Mapping[str, Any], name: str) -> Mapping[str, Any]:
  """The weights by the names that they have without the prefixes of `_WRAPPERS`, however deep those are nested."""
  taken = ""
  while prefix := next((each for each in _WRAPPERS if any(key.startswith(each) for key in weights)), ""):
    bare = [key for key in weights if not key.startswith(prefix)]
    if bare:
      wrapped = min(set(weights) - set(bare))
      raise UserError(
        f"{name}: tensor {taken + wrapped!r} has the prefix {prefix!r} of {_WRAPPERS[prefix]}, but "
        f"{taken + min(bare)!r} has not; save all tensors of one model."
      )
    weights = {key.removeprefix(prefix): array for key, array in weights.items()}
    taken += prefix
  if taken:
    wrappers = " and ".join(wrapper for prefix, wrapper in _WRAPPERS.items() if prefix in taken)
    print(f"note: the prefix {taken!r} of {wrappers} is left out of the names of the tensors.", file=sys.stderr)
  return weights


def _check_names(wanted: set[str], given: set[str], name: str) -> None:
  given = {key for key in given if not key.endswith("num_batches_tracked")}
  for problem, names in (("is missing", wanted - given), ("is not part of it", given - wanted)):
    if names:
      more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
      raise UserError(f"{name}: tensor {min(names)!r}{more} {problem}; are these the weights of another architecture?")


def _get(tree: Mapping, path: Path) -> Any:
  for part in path:
    if part not in tree:
      raise UserError(f"the variables have no {'/'.join(path)!r}; are they of another architecture?")
    tree = tree[part]
  return tree


def _set(tree: dict, path: Path, value: Any) -> None:
  for part in path[:-1]:
    tree = tree.setdefault(part, {})
  tree[path[-1]] = value
