"""What a model costs: parameters, multiply-adds and activations, part by part, counted in its traced program."""

from __future__ import annotations

import collections
import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Cost:
  """What one part of a model costs.

  Attributes:
    name: "stem", "stage_1/block_0", ..., "classifier".
    output: shape of what it puts out, without the batch: height, width and channels of an image.
    parameters: learnable numbers (running averages are not).
    multiply_adds: per image.
    activations: per image, numbers that its convolutions, dense layers and attention products put out.
  """

  name: str
  output: tuple[int, ...]
  parameters: int
  multiply_adds: int
  activations: int


class Work(NamedTuple):
  """Multiply-adds and outputs of products."""

  multiply_adds: int = 0
  activations: int = 0


def costs(model: nn.Module, image_shape: tuple[int, int, int]) -> list[Cost]:
  """`costs_of_call` for one float32 image of (height, width, channels): of a CoAtNet the stem, blocks and classifier.

  (The paper calls multiply-adds FLOPs; its figures are 1 to 4 % higher and seem to count the softmax.)
  """
  return costs_of_call(model, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))


def costs_of_call(model: nn.Module, inputs: Any) -> list[Cost]:
  """A row for each part of a module, counted in the program of `model(inputs, train=False)` at batch 1.

  Counted are the program's products: convolutions (outputs times the kernel's places and channels per group) and
  dot_generals (outputs times the contracted axes), so dense layers and the two products of attention, whatever layer
  makes them. Not counted is all that is no product: norms, activation functions, pooling, softmax, and making a bias
  over pairs of positions from its table. Activations are those of Radosavovic et al. 2020, who count the outputs of
  convolutions, and so those of products in a Transformer. What does not depend on the images, such as a position MLP,
  is counted once, as for one image.

  A scan counts its length times, a loop of unknown length once, of several branches the costliest, of an operation
  with several lowerings (`lax.platform_dependent`) the default one. What no output needs is left out. A Pallas kernel
  counts by its declared cost estimate, half of its flops, and not at all without one.

  Parts are the top-level modules. One that is its children alone, all numbered alike (block_0, block_1, ...), is opened
  into them. What belongs to no part, such as a parameter of the model itself, has a row named after the class.

  Args:
    model: any module; `train=False` is passed where its `__call__` takes it or any keywords, `deterministic=True`
      where it takes that.
    inputs: arrays, scalars, or their shapes and dtypes, in any tree; their first axis is the batch and is taken as 1.
  """
  inputs = jax.tree.map(_of_one, inputs)
  takes = inspect.signature(type(model).__call__).parameters
  fields: dict[str, Any] = {"deterministic": True} if "deterministic" in takes else {}
  if "train" in takes or any(each.kind is each.VAR_KEYWORD for each in takes.values()):
    fields["train"] = False
  variables = jax.eval_shape(lambda inputs: model.init(jax.random.key(0), inputs, **fields), inputs)
  outputs: dict[Path, tuple[int, ...]] = {}
  with nn.intercept_methods(_marking(outputs)):
    # A function of its own each time: a program known from before would have no marks.
    jaxpr = jax.make_jaxpr(lambda variables, inputs: model.apply(variables, inputs, **fields))(variables, inputs)
  parameters: collections.Counter[Path] = collections.Counter()
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables.get("params", {})):
    parameters[tuple(key.key for key in path[:-1])] += math.prod(leaf.shape)
  work: dict[Path, Work] = {}
  for path, multiply_adds, activations in _products(jaxpr.jaxpr, (), 1):
    before = work.get(path, Work())
    work[path] = Work(before.multiply_adds + multiply_adds, before.activations + activations)
  return _rows(type(model).__name__, outputs, parameters, work)


def multiply_adds(program: core.ClosedJaxpr) -> int:
  """Of a traced program as it stands, whatever its batch: of the same products as `costs_of_call`."""
  return sum(count for _, count, _ in _products(program.jaxpr, (), 1))


def _of_one(leaf: Any) -> jax.ShapeDtypeStruct:
  shape = np.shape(leaf)
  return jax.ShapeDtypeStruct((1, *shape[1:])[: len(shape)], jnp.result_type(leaf))


def _rows(
  model: str, outputs: dict[Path, tuple[int, ...]], parameters: dict[Path, int], work: dict[Path, Work]
) -> list[Cost]:
  """The counts of all modules by their paths, in the order of their calls, summed by part."""
  paths = list(dict.fromkeys([*outputs, *parameters, *work]))
  inner: dict[str, set[str]] = {}
  for path in paths:
    if len(path) > 1:
      inner.setdefault(path[0], set()).add(path[1])
  own = {path for path in paths if parameters.get(path) or path in work}
  opened = {name for name, names in inner.items() if _numbered(names) and (name,) not in own}
  sums: dict[Path, list[int]] = {}
  for path in paths:
    part = path[: 2 if path[:1] and path[0] in opened else 1]
    numbers = (parameters.get(path, 0), *work.get(path, Work()))
    sums[part] = [total + number for total, number in zip(sums.get(part, [0, 0, 0]), numbers, strict=True)]
  whole = {part for part in sums if not part or (len(part) == 1 and part[0] in opened)}
  return [
    Cost("/".join(part) or model, outputs.get(part, ()), *numbers)
    for part, numbers in sums.items()
    if part not in whole or any(numbers)
  ]


def _numbered(names: set[str]) -> bool:
  """Whether they are one name with the numbers from 0."""
  stem = min(names, default="").rpartition("_")[0]
  return bool(stem) and names == {f"{stem}_{i}" for i in range(len(names))}


def _marking(outputs: dict[Path, tuple[int, ...]]) -> Callable[..., Any]:
  """Writes a module's path into the name stack of its operations, and the shape of its output into `outputs`.

  Flax names scopes too, but joins method names to them and can be told not to.
  """

  def call(method: Callable[..., Any], arguments: Any, options: Any, context: nn.module.InterceptorContext) -> Any:
    path = context.module.path
    outputs.setdefault(path, ())
    with jax.named_scope(f"module[{'/'.join(path)}]"):
      out = method(*arguments, **options)
    arrays = [leaf for leaf in jax.tree.leaves(out) if hasattr(leaf, "shape")]
    outputs[path] = tuple(arrays[0].shape[1:]) if arrays else ()
    return out

  return call


def _products(jaxpr: core.Jaxpr, path: Path, times: int) -> Iterator[tuple[Path, int, int]]:
  """(path of the module, multiply-adds, outputs) of every product; `path` and `times` are those of the caller."""
  for equation in _needed(jaxpr):
    # Of an inner program the name stack begins anew in some versions of JAX: without a mark it is the caller's.
    marks = re.findall(r"module\[([^\]]*)\]", str(equation.source_info.name_stack))
    here = tuple(filter(None, marks[-1].split("/"))) if marks else path
    name, params = equation.primitive.name, equation.params
    if name in _COUNTS:
      work = _COUNTS[name](equation)
      yield here, times * work.multiply_adds, times * work.activations
    elif name == "cond":
      yield from max((list(_products(branch, here, times)) for branch in _branches(params)), key=_total)
    else:
      for inner in core.jaxprs_in_params(params):
        yield from _products(inner, here, times * (params["length"] if name == "scan" else 1))


def _needed(jaxpr: core.Jaxpr) -> list[Any]:
  """The equations that an output or an effect needs, in order: the compiler leaves out the others."""
  wanted = {id(var) for var in jaxpr.outvars}
  kept = []
  for equation in reversed(jaxpr.eqns):
    if equation.effects or any(id(var) in wanted for var in equation.outvars):
      wanted |= {id(var) for var in equation.invars}
      kept.append(equation)
  return kept[::-1]


def _branches(params: dict[str, Any]) -> list[core.Jaxpr]:
  branches = [branch.jaxpr for branch in params["branches"]]
  platforms = params.get("branches_platforms")
  return [branches[platforms.index(None)]] if platforms and None in platforms else branches


def _total(products: list[tuple[Path, int, int]]) -> int:
  return sum(multiply_adds for _, multiply_adds, _ in products)


def _outputs(equation: Any) -> int:
  return sum(math.prod(out.aval.shape) for out in equation.outvars)


def _dot(equation: Any) -> Work:
  (contracted, _), _ = equation.params["dimension_numbers"]
  outputs, shape = _outputs(equation), equation.invars[0].aval.shape
  return Work(outputs * math.prod(shape[axis] for axis in contracted), outputs)


def _conv(equation: Any) -> Work:
  kernel, params = equation.invars[1].aval.shape, equation.params
  places = math.prod(kernel) // max(kernel[params["dimension_numbers"].rhs_spec[0]], 1)
  # Of a transposed convolution the zeros between its pixels are left out.
  outputs = _outputs(equation)
  return Work(outputs * places // math.prod(params["lhs_dilation"]), outputs)


def _kernel(equation: Any) -> Work:
  estimate = equation.params.get("cost_estimate")
  return Work(int(estimate.flops) // 2, _outputs(equation)) if estimate is not None else Work()


_COUNTS: dict[str, Callable[[Any], Work]] = {
  "dot_general": _dot,
  "conv_general_dilated": _conv,
  "pallas_call": _kernel,
}

Row = TypeVar("Row", bound=Any)


def by_stage(rows: Sequence[Row]) -> list[Row]:
  """Rows of `costs` or `memory` with the blocks of each stage added up: "stem", "stage_1", ..., "classifier".

  Numbers are summed; anything else, such as the output image, is the last block's.
  """
  stages: dict[str, list[Row]] = {}
  for row in rows:
    stages.setdefault(row.name.partition("/")[0], []).append(row)
  return [_sum(name, members) for name, members in stages.items()]


def _sum(name: str, members: Sequence[Row]) -> Row:
  numbers = [field.name for field in dataclasses.fields(members[0]) if isinstance(getattr(members[0], field.name), int)]
  sums = {number: sum(getattr(row, number) for row in members) for number in numbers}
  return dataclasses.replace(members[-1], name=name, **sums)
