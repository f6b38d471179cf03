"""Feature maps inside a model by the path of the module that puts them out, and where their cells lie in the image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn.analysis.attention_map import Grid
from convattn.analysis.calling import infer
from convattn.analysis.geometry import Following, Path
from convattn.errors import nearest

Context = nn.module.InterceptorContext


@dataclasses.dataclass(frozen=True)
class FeatureMap:
  """What a module of a model puts out: an image [b, h, w, c], or tokens [b, prefix_tokens + h w, c].

  Attributes:
    part: path of the module, "stage_3/block_0"; "" is the model itself.
    grid: of the cells.
    channels: c.
    prefix_tokens: before the cells, such as a class token; None: no tokens, but an image.
    call: how many calls of modules of this path end before the one that is meant.
  """

  part: str
  grid: Grid
  channels: int
  prefix_tokens: int | None
  call: int

  def as_image(self, output: jax.Array) -> jax.Array:
    """[b, h, w, c] of what the module puts out."""
    cells = output if self.prefix_tokens is None else output[:, self.prefix_tokens :]
    return cells.reshape(len(output), self.grid.height, self.grid.width, self.channels)


def find_feature_map(model: nn.Module, variables: Any, images: np.ndarray, part: str | None = None) -> FeatureMap:
  """The map that the module of a path puts out, or the last one in front of the classifier.

  Left out, it is the model's own output where that is an image or tokens, else that of the last of the least deep
  modules that put out one: a CoAtNet's last stage. Tokens are told by the last image before them: they are at least as
  many as it has cells, and the first ones too many are no cells. Cells are followed as in `attention_maps`.

  Args:
    images: [b, h, w, c] that the model takes.

  Raises:
    ValueError: there is no such module, or it puts out no map.
  """
  outputs = _outputs(model, variables, images)
  maps = {path: _feature_map(path, calls) for path, calls in outputs.items()}
  if part is not None:
    path = tuple(filter(None, part.split("/")))
    if path not in outputs:
      near = ", ".join(map(repr, nearest(part, map("/".join, outputs))))
      raise ValueError(f"the model has no part {part!r}; did you mean {near}?")
    found = maps[path]
    if found is None:
      shape = ", ".join(["b", *map(str, outputs[path][-1][0][1:])])
      raise ValueError(f"{part!r} puts out [{shape}], but a map of cells is wanted.")
    return found
  for depth in sorted(set(map(len, outputs))):
    of_depth = [found for path, found in maps.items() if len(path) == depth and found is not None]
    if of_depth:
      return of_depth[-1]
  raise ValueError(f"{type(model).__name__} has no module that puts out an image [b, h, w, c] or tokens.")


def parts_in_order(model: nn.Module, variables: Any, images: np.ndarray) -> list[str]:
  """Names of the model's parts at its top level that have parameters, in the order in which their calls end."""
  called = [path[0] for path in _outputs(model, variables, images) if len(path) == 1]
  return [name for name in called if name in variables["params"]]


def output_at(model: nn.Module, variables: Any, images: jax.Array, at: FeatureMap) -> jax.Array:
  """The feature map, [b, h, w, c]."""
  return edited_at(model, variables, images, at, lambda output: output)[1]


def edited_at(
  model: nn.Module, variables: Any, images: jax.Array, at: FeatureMap, edit: Callable[[jax.Array], jax.Array]
) -> tuple[Any, jax.Array]:
  """(what the model puts out where `edit` changes a feature map, that map [b, h, w, c] before).

  `edit` is given the array as the module puts it out, and returns one of the same shape.
  """
  seen: list[jax.Array] = []
  calls = 0

  def change(context: Context, arguments: Any, output: Any) -> Any:
    nonlocal calls
    if "/".join(context.module.path) != at.part or not hasattr(output, "shape"):
      return output
    calls += 1
    if calls - 1 != at.call:
      return output
    seen.append(output)
    return edit(output)

  out = intercepted(model, variables, images, change)
  return out, at.as_image(seen[-1])


def intercepted(
  model: nn.Module, variables: Any, images: Any, change: Callable[[Context, tuple[Any, ...], Any], Any]
) -> Any:
  """What the model puts out where each module's output is what `change(context, arguments, output)` makes of it."""

  def call(method: Callable[..., Any], arguments: Any, options: Any, context: Context) -> Any:
    output = method(*arguments, **options)
    return change(context, arguments, output) if context.method_name == "__call__" else output

  with nn.intercept_methods(call):
    return infer(model, variables, images)


def traced(
  model: nn.Module, variables: Any, images: np.ndarray, see: Callable[[Context, tuple[Any, ...], Any, Following], None]
) -> None:
  """Traces the model for one image and calls `see(context, arguments, output, following)` after each module's call."""
  following = Following((images.shape[1], images.shape[2]))

  def call(method: Callable[..., Any], arguments: Any, options: Any, context: Context) -> Any:
    output = following(method, arguments, options, context)
    if context.method_name == "__call__":
      see(context, arguments, output, following)
    return output

  def run(variables: Any, images: jax.Array) -> Any:
    with nn.intercept_methods(call):
      return infer(model, variables, images)

  jax.eval_shape(run, variables, jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32))


_Calls = list[tuple[tuple[int, ...], Grid | None]]


def _outputs(model: nn.Module, variables: Any, images: np.ndarray) -> dict[Path, _Calls]:
  """By path, in the order in which last calls end: of each call (shape of what it put out, cells of the last image).

  Cells are None where it cannot be that image.
  """
  outputs: dict[Path, _Calls] = {}

  def see(context: Context, arguments: tuple[Any, ...], output: Any, following: Following) -> None:
    if hasattr(output, "shape") and following.last is not None:
      calls = outputs.pop(context.module.path, [])
      # What makes [b, t, heads, width] of tokens puts out no image.
      of_tokens = len(getattr(next(iter(arguments), None), "shape", ())) == 3
      grid = None if of_tokens and output.ndim == 4 else following.last
      outputs[context.module.path] = [*calls, (tuple(output.shape), grid)]

  traced(model, variables, images, see)
  return outputs


def _feature_map(path: Path, calls: _Calls) -> FeatureMap | None:
  """Of the last call; None: what it puts out is no map."""
  shape, grid = calls[-1]
  prefix_tokens = None
  if grid is None:
    return None
  if len(shape) == 3 and shape[1] >= grid.cells:
    prefix_tokens = shape[1] - grid.cells
  elif len(shape) != 4 or shape[1:3] != (grid.height, grid.width):
    return None
  return FeatureMap("/".join(path), grid, shape[-1], prefix_tokens, len(calls) - 1)
