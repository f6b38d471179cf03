"""A model with heads switched off, with keys that nobody sees, or with pixels painted over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.core import unfreeze

from convattn.analysis.attention_map import AttentionMap, Grid
from convattn.layers.seen import HIDDEN


def without_heads(variables: Any, heads: Mapping[str, Iterable[int]]) -> dict[str, Any]:
  """The variables of a model in which some heads add nothing: the slices A_h V_h W_O,h of each layer's output are 0.

  The bias of the last dense layer stays. Set to 0 are the head's rows of "out", or of a layer without it the values.
  A layer that is called more than once is without the head in each call.

  Args:
    variables: of any model with layers of ours or flax's MultiHeadDotProductAttention; left as they are.
    heads: numbers from 0 by the layer's name in `attention_maps`.

  Raises:
    ValueError: no such layer or head.
  """
  params, out = _copy(variables)
  for name, chosen in heads.items():
    _switch_off(_layer(params, name), name, list(chosen))
  return out


def without_keys(variables: Any, maps: Sequence[AttentionMap], keys: Mapping[str, Iterable[int]]) -> dict[str, Any]:
  """The variables of a model in which nobody sees some keys: weights are spread over the others.

  As a mask would do it: the softmax runs over the keys that are left, and a query without any has weights 0. A layer
  that is called more than once has the same keys hidden in each call. Images must be of the same size as those of the
  maps.

  Args:
    variables: left as they are; the new ones have the collection "hidden" beside them.
    maps: of layers of ours, for any image, from `attention_maps`.
    keys: numbers from 0, cells of a map's `key_grid` behind its prefix tokens, by the layer's name.

  Raises:
    ValueError: no such layer or key, or a layer of other people's.
  """
  params, out = _copy(variables)
  known = {each.layer: each for each in maps}
  for name, chosen in keys.items():
    if name not in known:
      raise ValueError(f"there is no map of {name!r}; there are {', '.join(known) or 'none'}.")
    seen = known[name]
    if seen.modes == ("probabilities",):
      raise ValueError(f"{name} is no layer of ours, but keys are hidden from those alone.")
    count = seen.key_grid.cells + seen.prefix_tokens
    hidden = np.zeros(count, bool)
    hidden[_numbers(list(chosen), count, f"keys of {name}")] = True
    _layer(params, name)
    place = out.setdefault(HIDDEN, {})
    for part in _path(params, name):
      place = place.setdefault(part, {})
    place["keys"] = jnp.asarray(hidden)
  return out


def without_pixels(images: Any, grid: Grid, cells: Iterable[int], fill: Any = 0.0) -> np.ndarray:
  """Images [b, h, w, c] with the pixels of some cells painted over, as far as they lie in the image.

  Args:
    images: left as they are.
    grid: such as a map's `query_grid`.
    cells: numbers from 0.
    fill: what they get: a number (0 is the mean of normalised images), one for each channel, or images.

  Raises:
    ValueError: no such cell, or images of another size than the grid's.
  """
  images = np.asarray(images)
  if images.ndim != 4 or images.shape[1:3] != grid.image:
    raise ValueError(f"images have shape {images.shape}, but must be [b, h, w, c] with h and w = {grid.image}.")
  painted = np.zeros(images.shape[1:3], bool)
  for top, left, bottom, right in grid.boxes()[_numbers(list(cells), grid.cells, "cells")]:
    rows, columns = (np.arange(size) + 0.5 for size in painted.shape)
    painted |= np.outer((rows > top) & (rows < bottom), (columns > left) & (columns < right))
  return np.where(painted[None, :, :, None], np.asarray(fill, images.dtype), images)


def _switch_off(layer: dict[str, Any], name: str, heads: list[int]) -> None:
  out, value = layer.get("out"), layer["value"]
  if isinstance(out, dict):
    layer["out"] = out | {"kernel": _zeroed(out["kernel"], 0, heads, name)}
  elif isinstance(value, dict):  # [c, n, e], and a bias [n, e]
    layer["value"] = {
      part: _zeroed(array, {"kernel": 1, "bias": 0}[part], heads, name) for part, array in value.items()
    }
  else:  # a layer of `equivalence`, whose values are merged with the output
    layer["value"] = _zeroed(value, 0, heads, name)


def _zeroed(array: Any, axis: int, heads: list[int], name: str) -> Any:
  places = (slice(None),) * axis + (_numbers(heads, array.shape[axis], f"heads of {name}"),)
  return jnp.asarray(array).at[places].set(0)


def _numbers(chosen: list[int], count: int, what: str) -> np.ndarray:
  for number in chosen:
    if not isinstance(number, (int, np.integer)) or not 0 <= number < count:
      raise ValueError(f"among the {what} is {number!r}, but they are whole numbers from 0 to {count - 1}.")
  return np.asarray(chosen, int)


def _copy(variables: Any) -> tuple[dict[str, Any], dict[str, Any]]:
  """(parameters, variables), whose dictionaries are new and whose arrays are not."""
  out = unfreeze(variables)
  return out["params"], out


def _path(params: Any, name: str) -> tuple[str, ...]:
  """Of a layer; one that is no part of a model is called by its class, and its parameters have no path."""
  path = tuple(name.partition("#")[0].split("/"))
  return () if len(path) == 1 and path[0] not in params and "value" in params else path


def _layer(params: dict[str, Any], name: str) -> dict[str, Any]:
  found: Any = params
  for part in _path(params, name):
    found = found.get(part) if isinstance(found, dict) else None
  if not isinstance(found, dict) or "value" not in found:
    raise ValueError(f"there is no layer {name!r} that attends; there are {', '.join(_attending(params)) or 'none'}.")
  return found


def _attending(params: Any, path: tuple[str, ...] = ()) -> list[str]:
  if not isinstance(params, dict):
    return []
  inner = [name for key, each in params.items() for name in _attending(each, (*path, key))]
  return ["/".join(path), *inner] if "value" in params and path else inner
