"""What every attention layer of a model looks at, for some images."""

from __future__ import annotations

import fnmatch
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from convattn.analysis.attention_map import AttentionMap, Grid
from convattn.analysis.bare_arrays import check_stated, map_of_weights
from convattn.analysis.geometry import Following, Path, stated_grid
from convattn.analysis.parts import join_maps, map_of_parts
from convattn.layers.seen import PARTS, Parts

WEIGHTS = ("attention", "attention_weights")
"""Names of what other people's modules sow in "intermediates"; the second is flax's own."""


def attention_maps(
  model: nn.Module,
  variables: Any,
  images: Any,
  *others: Any,
  layers: str | Sequence[str] | None = None,
  grid: tuple[int, int] | None = None,
  prefix_tokens: int = 0,
  **options: Any,
) -> list[AttentionMap]:
  """A map of each attention layer, in the order of the forward pass; empty where nothing attends.

  Every layer of ours gives all that it has. Of any other module, what it sows in "intermediates" as WEIGHTS, of shape
  [b, heads, queries, keys], gives probabilities alone.

  Where cells lie is followed through the strides of the model, and through pooling and windows of a layer of ours.
  Tokens [b, t, c] are the pixels of the last image before them where they are as many; else they have no place, unless
  the grid is stated.

  Images are run one after another by one compiled program, so that memory beside the result is that of one image and of
  the largest map once more, and the result is the same whatever they come with. A map has up to five arrays
  [b, heads, q, k] of 4 bytes a number: of large images choose the layers.

  Args:
    model: called as model.apply(variables, images, *others, **options), with train=False or deterministic=True where
      it takes that.
    variables: all of them.
    images: [b, h, w, c] as the model takes them, or tokens [b, t, c].
    others: its further inputs, such as a context; arrays of b examples.
    layers: shell patterns of the layers' names, such as "stage_4/*"; None: all. A layer is called by its path, one
      that is no part of a model by its class; the second call of a layer has "#2" behind its name.
    grid: (height, width), spread over the image, for tokens that are so many.
    prefix_tokens: tokens before those of the grid, such as a class token.
    options: keywords of the model; an array of b examples, such as a mask, is divided as the images are.

  Raises:
    ValueError: no images, a pattern that no layer matches, a grid that no layer has, or attention of another shape.
  """
  images = np.asarray(images) if not isinstance(images, jax.Array) else images
  if images.ndim not in (3, 4) or not len(images):
    raise ValueError(f"images have shape {images.shape}, but must be [b, h, w, c] or tokens [b, t, c], b at least 1.")
  patterns = (layers,) if isinstance(layers, str) else None if layers is None else tuple(layers)
  image = images.shape[1:3] if images.ndim == 4 else None
  run = _program(model, image, patterns, evaluation(model) | options)
  stated = stated_grid(image, grid, prefix_tokens)
  pieces: dict[str, list[AttentionMap]] = {}
  for i in range(len(images)):
    one = functools.partial(_example, i, len(images))
    seen = run(variables, one(images), jax.tree.map(one, others), jax.tree.map(one, _arrays(options)))
    for name, below, found in seen:
      make: Callable[..., AttentionMap] = map_of_parts if isinstance(found, Parts) else map_of_weights
      pieces.setdefault(name, []).append(make(name, found, below, prefix_tokens, stated))
  # A layer's pieces go when they are joined: they are as large as its map.
  maps = [join_maps(pieces.pop(name)) for name in list(pieces)]
  check_stated(maps, stated, prefix_tokens)
  return maps


def evaluation(model: nn.Module) -> dict[str, Any]:
  """The keywords by which a model is told that it is not trained."""
  takes = inspect.signature(type(model).__call__).parameters
  return {name: value for name, value in {"train": False, "deterministic": True}.items() if name in takes}


def _example(i: int, count: int, array: Any) -> Any:
  """The i-th of an array of so many examples, as a batch of one; what is alike for all as it is."""
  return array[i : i + 1] if np.ndim(array) and len(array) == count else array


def _arrays(options: dict[str, Any]) -> dict[str, Any]:
  return {name: value for name, value in options.items() if np.ndim(value)}


Seen = list[tuple[str, Grid | None, Any]]


def _program(model: nn.Module, image: Any, patterns: tuple[str, ...] | None, options: dict[str, Any]) -> Any:
  fixed = tuple(sorted((name, value) for name, value in options.items() if not np.ndim(value)))
  try:
    return _known(model, image, patterns, fixed)
  except TypeError:  # a field that cannot be hashed, such as a list
    return _Program(model, image, patterns, fixed)


class _Program:
  """One compiled run of a model, and the grid below each layer."""

  def __init__(self, model: nn.Module, image: Any, patterns: tuple[str, ...] | None, options: Any):
    self._model, self._image, self._patterns, self._options = model, image, patterns, dict(options)
    self._places: dict[str, Grid | None] = {}
    self._compiled = jax.jit(self._run)

  def __call__(self, variables: Any, images: Any, others: Any, arrays: Any) -> Seen:
    found = jax.device_get(self._compiled(variables, images, others, arrays))
    return [(name, below, found[name]) for name, below in self._places.items()]

  def _run(self, variables: Any, images: Any, others: Any, arrays: Any) -> dict[str, Any]:
    following = Following(self._image)
    with nn.intercept_methods(following):
      options = self._options | arrays
      _, seen = self._model.apply(variables, images, *others, **options, mutable=[PARTS, "intermediates"])
    found = self._chosen(_sown(seen, following, type(self._model).__name__))
    self._places = {name: below for name, (below, _) in found.items()}
    return {name: value for name, (_, value) in found.items()}

  def _chosen(self, found: dict[str, Any]) -> dict[str, Any]:
    if self._patterns is None:
      return found
    for pattern in self._patterns:
      if not fnmatch.filter(found, pattern):
        raise ValueError(f"no layer that attends is called {pattern!r}; there are {', '.join(found) or 'none'}.")
    return {name: each for name, each in found.items() if any(fnmatch.fnmatch(name, p) for p in self._patterns)}


_known = functools.lru_cache(maxsize=8)(_Program)


def _sown(seen: Any, following: Following, whole: str) -> dict[str, tuple[Grid | None, Any]]:
  """(grid below, parts or weights) of each call that attends, by name, in order."""
  found = {}
  for path in following.order:
    places = (_below(seen.get(PARTS, {}), path), _below(seen.get("intermediates", {}), path))
    # What is sown is a tuple; a module inside may have the same name.
    calls = (place[name] for place in places for name in WEIGHTS if isinstance(place.get(name), tuple))
    for i, each in enumerate(next(calls, ())):
      grids = following.grids[path]
      name = ("/".join(path) or whole) + (f"#{i + 1}" if i else "")
      found[name] = (grids[min(i, len(grids) - 1)], each)
  return found


def _below(tree: Any, path: Path) -> Any:
  for key in path:
    tree = tree.get(key, {}) if isinstance(tree, dict) else {}
  return tree if isinstance(tree, dict) else {}
