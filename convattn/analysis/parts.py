"""Feature maps inside a model by the path of the module that puts them out, and where their cells lie in the image."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn.analysis.attention_map import Grid
from convattn.analysis.calling import infer
from convattn.errors import nearest

Context = nn.module.InterceptorContext


@dataclasses.dataclass(frozen=True)
class Part:
  """A module of a model that puts out an image [b, h, w, c], or tokens [b, prefix_tokens + h w, c].

  Attributes:
    path: of the module, "stage_3/block_0"; "" is the model itself.
    grid: of the cells.
    channels: c.
    prefix_tokens: before the cells, such as a class token; None: no tokens, but an image.
    call: how many calls of modules of this path end before the one that is meant.
  """

  path: str
  grid: Grid
  channels: int
  prefix_tokens: int | None
  call: int

  def as_image(self, output: jax.Array) -> jax.Array:
    """[b, h, w, c] of what the module puts out."""
    cells = output if self.prefix_tokens is None else output[:, self.prefix_tokens :]
    return cells.reshape(len(output), self.grid.height, self.grid.width, self.channels)


@dataclasses.dataclass(frozen=True)
class _Output:
  path: tuple[str, ...]
  shape: tuple[int, ...]


def find_part(model: nn.Module, variables: Any, images: np.ndarray, part: str | None = None) -> Part:
  """The part of a path, or the last map in front of the classifier.

  Left out, it is the model itself where that puts out an image or tokens, else the last of the least deep modules
  that do: a CoAtNet's last stage. Tokens are told by the image before them: at least as many as it has cells, the
  first ones too many being no cells.

  The stride of a map is the product of those on the way, each the smallest that makes ceil(size / stride) cells of
  the map before, on both axes alike where one does.

  Args:
    images: [b, h, w, c] that the model takes.

  Raises:
    ValueError: there is no such part, or it puts out no map.
  """
  outputs = _outputs(model, variables, images)
  if part is not None:
    return _named(outputs, part, images.shape[1:3])
  for depth in sorted({len(output.path) for output in outputs}):
    for output in reversed([output for output in outputs if len(output.path) == depth]):
      found = _part(outputs, output, images.shape[1:3])
      if found is not None:
        return found
  raise ValueError(f"{type(model).__name__} has no module that puts out an image [b, h, w, c] or tokens.")


def grid_before(model: nn.Module, variables: Any, images: np.ndarray, path: tuple[str, ...]) -> Grid:
  """The cells of the last map that was put out before the module of this path was called."""
  outputs = _outputs(model, variables, images)
  first = next(number for number, each in enumerate(outputs) if each.path[: len(path)] == path)
  return _grid(_on_the_way(outputs[:first], path), images.shape[1:3])


def parts_in_order(model: nn.Module, variables: Any, images: np.ndarray) -> list[str]:
  """Names of the model's parts at its top level that have parameters, in the order in which their calls end."""
  called = [output.path[0] for output in _outputs(model, variables, images) if len(output.path) == 1]
  return [name for name in dict.fromkeys(called) if name in variables["params"]]


def output_at(model: nn.Module, variables: Any, images: jax.Array, part: Part) -> jax.Array:
  """What the part puts out, [b, h, w, c]."""
  return edited_at(model, variables, images, part, lambda output: output)[1]


def edited_at(
  model: nn.Module, variables: Any, images: jax.Array, part: Part, edit: Callable[[jax.Array], jax.Array]
) -> tuple[Any, jax.Array]:
  """(what the model puts out where `edit` changes what the part puts out, the part's output [b, h, w, c] before).

  `edit` is given the array as the module puts it out and returns one of the same shape.
  """
  path, seen, calls = _path(part.path), [], 0

  def at(context: Context, arguments: Any, output: Any) -> Any:
    nonlocal calls
    if context.module.path != path or not hasattr(output, "shape"):
      return output
    calls += 1
    if calls - 1 != part.call:
      return output
    seen.append(output)
    return edit(output)

  out = intercepted(model, variables, images, at)
  return out, part.as_image(seen[-1])


def intercepted(
  model: nn.Module, variables: Any, images: Any, change: Callable[[Context, tuple[Any, ...], Any], Any]
) -> Any:
  """What the model puts out where each module's output is what `change(context, arguments, output)` makes of it."""

  def call(method: Callable[..., Any], arguments: Any, options: Any, context: Context) -> Any:
    output = method(*arguments, **options)
    return change(context, arguments, output) if context.method_name == "__call__" else output

  with nn.intercept_methods(call):
    return infer(model, variables, images)


def _outputs(model: nn.Module, variables: Any, images: np.ndarray) -> list[_Output]:
  """Of all modules, in the order in which their calls end."""
  outputs: list[_Output] = []

  def record(context: Context, arguments: Any, output: Any) -> Any:
    if hasattr(output, "shape"):
      outputs.append(_Output(context.module.path, tuple(output.shape)))
    return output

  def traced(variables: Any, images: jax.Array) -> Any:
    return intercepted(model, variables, images, record)

  jax.eval_shape(traced, variables, jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32))
  return outputs


def _path(text: str) -> tuple[str, ...]:
  return tuple(filter(None, text.split("/")))


def _named(outputs: list[_Output], name: str, image: tuple[int, ...]) -> Part:
  of_path = [output for output in outputs if output.path == _path(name)]
  if not of_path:
    known = list(dict.fromkeys("/".join(output.path) for output in outputs))
    raise ValueError(f"the model has no part {name!r}; did you mean {', '.join(map(repr, nearest(name, known)))}?")
  found = _part(outputs, of_path[-1], image)
  if found is None:
    shape = ["b", *of_path[-1].shape[1:]]
    raise ValueError(f"{name!r} puts out [{', '.join(map(str, shape))}], but a map of cells is wanted.")
  return found


def _part(outputs: list[_Output], output: _Output, image: tuple[int, ...]) -> Part | None:
  """The last call of that path as a part; None: what it puts out is no map."""
  at = max(number for number, each in enumerate(outputs) if each.path == output.path)
  grid, shape, prefix_tokens = _grid(_on_the_way(outputs[: at + 1], output.path), image), output.shape, None
  if len(shape) == 3 and shape[1] >= grid.cells:
    prefix_tokens = shape[1] - grid.cells
  elif len(shape) != 4 or shape[1:3] != (grid.height, grid.width):
    return None
  calls = sum(each.path == output.path for each in outputs[:at])
  return Part("/".join(output.path), grid, shape[-1], prefix_tokens, calls)


def _on_the_way(outputs: list[_Output], path: tuple[str, ...]) -> Iterator[tuple[int, ...]]:
  """Shapes of what a module's own parts put out, and what its ancestors called before it; no deeper."""
  yield from (each.shape for each in outputs if path[: len(each.path) - 1] == each.path[:-1])


def _grid(shapes: Iterable[tuple[int, ...]], image: tuple[int, ...]) -> Grid:
  """The cells of the last of the maps [b, h, w, c] that follow each other; other shapes are passed over."""
  size, stride = (image[0], image[1]), (1, 1)
  for shape in shapes:
    step = _strides(size, shape[1:3]) if len(shape) == 4 else None
    if step is not None:
      size, stride = (shape[1], shape[2]), (stride[0] * step[0], stride[1] * step[1])
  return Grid(*size, stride=(float(stride[0]), float(stride[1])), image=(image[0], image[1]))


def _strides(before: tuple[int, int], after: tuple[int, ...]) -> tuple[int, int] | None:
  """Smallest whole strides from one grid to the next, the same on both axes if possible; None: there are none."""

  def fit(size: int, cells: int) -> range:
    # ceil(size / stride) = cells for strides from size / cells to below size / (cells - 1).
    return range(-(-size // cells), sys.maxsize if cells == 1 else -(-size // (cells - 1)))

  if not all(0 < cells <= size for size, cells in zip(before, after, strict=True)):
    return None
  rows, columns = (fit(size, cells) for size, cells in zip(before, after, strict=True))
  if not rows or not columns:
    return None
  common = range(max(rows.start, columns.start), min(rows.stop, columns.stop))
  return (common.start, common.start) if common else (rows.start, columns.start)
