"""What `benchmarks.lowerings` compares: for each operation its lowerings, and the shapes of the arrays they get."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from convattn.ops import convolution_gradients_on_cpu as on_cpu, convolutions, positions
from convattn.ops.activations import gelu
from convattn.ops.dense import dense_dot
from convattn.ops.pooling import avg_pool, max_pool
from convattn.ops.windows import num_windows, window_padding

Function = Callable[..., Any]
Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Group:
  """Lowerings of one operation: functions of arrays of these shapes, with equal results.

  Attributes:
    on_cpu: the lowering that the operation takes on a CPU.
    elsewhere: the one that it takes on other platforms; the same one if None.
    approximate: lowerings that only come close.
  """

  name: str
  shapes: tuple[Shape, ...]
  lowerings: dict[str, Function]
  on_cpu: str
  elsewhere: str | None = None
  approximate: tuple[str, ...] = ()

  def default(self, platform: str) -> str:
    return self.on_cpu if platform == "cpu" else self.elsewhere or self.on_cpu


def groups(shrink: int = 1) -> list[Group]:
  """All of them; `shrink` divides batch, sizes and channels."""

  def cut(*shape: int) -> Shape:
    smallest = (2, 8, 8, 4)
    return tuple(
      max(size // shrink, least) if shrink > 1 else size for size, least in zip(shape, smallest, strict=True)
    )

  large, pooled = cut(8, 56, 56, 384), cut(8, 112, 112, 64)
  return [
    *_depthwise(large, window=3, stride=1),
    *_depthwise(cut(8, 112, 112, 384), window=3, stride=2),
    *_depthwise(cut(8, 28, 28, 96), window=7, stride=1),
    _conv_kernel_gradient(pooled, pooled[-1]),
    *_relative_bias(heads=12 // shrink or 1, grid=14 if shrink == 1 else 4),
    _dense(cut(8, 56, 56, 96), 4 * cut(8, 56, 56, 96)[-1]),
    *_gelu(large),
    _bias_gradient(cut(8, 12, 196, 196)),
    *(group for window in (2, 3) for group in _pools(pooled, window, stride=2)),
  ]


def _text(shape: Shape) -> str:
  return "x".join(map(str, shape))


def _gradient(function: Function, argument_numbers: tuple[int, ...] = (0,)) -> Function:
  """(arguments, cotangent of the result) -> gradients in the arguments of these numbers."""

  def gradient(*arguments: jax.Array) -> tuple[jax.Array, ...]:
    *primals, cotangent = arguments

    def of_chosen(*chosen: jax.Array) -> jax.Array:
      given = dict(zip(argument_numbers, chosen, strict=True))
      return function(*(given.get(i, primal) for i, primal in enumerate(primals)))

    return jax.vjp(of_chosen, *(primals[i] for i in argument_numbers))[1](cotangent)

  return gradient


def _depthwise(shape: Shape, *, window: int, stride: int) -> list[Group]:
  b, h, w, c = shape
  kernel = (window, window, 1, c)
  result = (b, num_windows(h, stride), num_windows(w, stride), c)
  shifted = functools.partial(convolutions.depthwise_conv_shifted, stride=stride)
  grouped = functools.partial(convolutions.depthwise_conv_grouped, stride=stride)

  def in_x(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
    return on_cpu.depthwise_x_gradient_shifted(kernel, cotangent, stride=stride, size=x.shape[1:3])

  def in_kernel(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
    return on_cpu.depthwise_kernel_gradient_by_rows(x, cotangent, stride=stride, window=kernel.shape[:2])

  def row(name: str, own_name: str, own: Function, argument_numbers: tuple[int, ...]) -> Group:
    lowerings = {
      own_name: own,
      "grouped": _gradient(grouped, argument_numbers),
      "derived from shifted": _gradient(shifted, argument_numbers),
    }
    return Group(f"{title}, {name}", (shape, kernel, result), lowerings, on_cpu=own_name, elsewhere="grouped")

  title = f"depthwise_conv {_text(shape)}, {window}x{window}, stride {stride}"
  values = {"shifted": shifted, "grouped": grouped}
  return [
    Group(f"{title}, value", (shape, kernel), values, on_cpu="shifted", elsewhere="grouped"),
    row("gradient in x", "shifted", in_x, (0,)),
    row("gradient in kernel", "by rows", in_kernel, (1,)),
    row("gradient in both", "shifted, by rows", lambda *arrays: (in_x(*arrays), in_kernel(*arrays)), (0, 1)),
  ]


def _conv_kernel_gradient(shape: Shape, width: int) -> Group:
  kernel = (3, 3, shape[-1], width)

  def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))

  def by_rows(x: jax.Array, _: jax.Array, cotangent: jax.Array) -> jax.Array:
    return on_cpu.kernel_gradient_by_rows(x, cotangent, stride=1, window=(3, 3))

  return Group(
    f"conv {_text(shape)} to {width}, 3x3, gradient in kernel",
    (shape, kernel, (*shape[:3], width)),
    {"by rows": by_rows, "xla": _gradient(product, (1,))},
    on_cpu="by rows",
    elsewhere="xla",
  )


def _relative_bias(*, heads: int, grid: int) -> list[Group]:
  functions = {
    "pad and reshape": positions.relative_bias,
    "one-hot": positions.relative_bias_one_hot,
    "gather": positions.relative_bias_gather,
  }
  table = (heads, 2 * grid - 1, 2 * grid - 1)
  title = f"relative_bias {heads} heads, {grid}x{grid}"
  return _value_and_gradient(title, table, (heads, grid**2, grid**2), functions)


def _value_and_gradient(
  title: str, shape: Shape, result: Shape, functions: dict[str, Function], **fields: Any
) -> list[Group]:
  """Two groups; the first function is the default."""
  default = next(iter(functions))
  gradients = {name: _gradient(function) for name, function in functions.items()}
  return [
    Group(f"{title}, value", (shape,), functions, on_cpu=default, **fields),
    Group(f"{title}, gradient", (shape, result), gradients, on_cpu=default, **fields),
  ]


def _dense(shape: Shape, width: int) -> Group:
  numbers = (((3,), (0,)), ((), ()))

  def block(dot: Function, x: jax.Array, kernel: jax.Array) -> jax.Array:
    out = dot(x, kernel, numbers)
    centred = out - out.mean((0, 1, 2), keepdims=True)
    return gelu(centred * jax.lax.rsqrt(jnp.square(centred).mean((0, 1, 2), keepdims=True) + 1e-5))

  functions = {"dense_dot": dense_dot, "lax.dot_general": jax.lax.dot_general}
  return Group(
    f"dense, BatchNorm, GELU {_text(shape)} to {width}, gradient in both",
    (shape, (shape[-1], width), (*shape[:3], width)),
    {name: _gradient(functools.partial(block, dot), (0, 1)) for name, dot in functions.items()},
    on_cpu="dense_dot",
  )


def _gelu(shape: Shape) -> list[Group]:
  functions = {
    "gelu": gelu,
    "jax.nn.gelu": functools.partial(jax.nn.gelu, approximate=False),
    "jax.nn.gelu, tanh": functools.partial(jax.nn.gelu, approximate=True),
  }
  return _value_and_gradient(f"gelu {_text(shape)}", shape, shape, functions, approximate=("jax.nn.gelu, tanh",))


def _bias_gradient(shape: Shape) -> Group:
  def product(cotangent: jax.Array) -> jax.Array:
    return jnp.einsum("b,bnqk->nqk", jnp.ones(len(cotangent), cotangent.dtype), cotangent, precision="highest")

  functions = {"product with ones": product, "sum": lambda cotangent: cotangent.sum(0)}
  return Group(
    f"attend {_text(shape)}, gradient in bias", (shape,), functions, on_cpu="product with ones", elsewhere="sum"
  )


def _pools(shape: Shape, window: int, *, stride: int) -> list[Group]:
  def by_window(x: jax.Array, start: float, reduce: Function) -> jax.Array:
    padding = [(0, 0), *(window_padding(size, window, stride) for size in shape[1:3]), (0, 0)]
    return jax.lax.reduce_window(x, start, reduce, (1, window, window, 1), (1, stride, stride, 1), padding)

  def average(x: jax.Array) -> jax.Array:
    return by_window(x, 0.0, jax.lax.add) / by_window(jnp.ones((1, *shape[1:3], 1), x.dtype), 0.0, jax.lax.add)

  pool = {"window": window, "stride": stride}
  functions: dict[str, dict[str, Function]] = {
    "max_pool": {
      "shifted": functools.partial(max_pool, **pool),
      "reduce_window": lambda x: by_window(x, -jnp.inf, jax.lax.max),
    },
    "avg_pool": {"shifted": functools.partial(avg_pool, **pool), "reduce_window": average},
  }
  result = (shape[0], *(num_windows(size, stride) for size in shape[1:3]), shape[-1])
  return [
    group
    for name, found in functions.items()
    for group in _value_and_gradient(f"{name} {_text(shape)}, window {window}, stride {stride}", shape, result, found)
  ]
