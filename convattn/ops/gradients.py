"""Products of an image with a kernel whose gradients are computed by functions of our own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import AxisType

Product = Callable[..., jax.Array]


def with_gradients(product: Product, *, kernel_gradient: Product, x_gradient: Product | None = None) -> Product:
  """`product(x, kernel, **static)`, bilinear, whose gradients are computed by other functions than JAX's own.

      <cotangent, product(x, kernel)> = <kernel, kernel_gradient(x, cotangent)> = <x, x_gradient(kernel, cotangent)>

  JAX derives both from `product`; ours may be several times as fast. All else stays as it is: forward mode, vmap,
  higher orders. (`jax.custom_vjp` would take forward mode away. A primitive for the product itself would hide its
  operations from rematerialisation policies and from whoever counts them; here only tangents pass through one, which
  reverse mode replaces by the gradients.) Over mesh axes that are not of the kind Auto, so inside `jax.shard_map`, the
  gradients are those that JAX derives: ours do not say how they are divided.

  Args:
    product: of two arrays, with hashable keywords.
    kernel_gradient: (x, cotangent, shape and dtype of the kernel, **static).
    x_gradient: (kernel, cotangent, shape and dtype of x, **static); None: as JAX derives it.
  """

  def abstract(x: Any, kernel: Any, **static: Any) -> Any:
    arguments = (jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (x, kernel))
    shape = jax.eval_shape(functools.partial(product, **static), *arguments)
    return jax.core.ShapedArray(shape.shape, shape.dtype)

  def in_x(cotangent: jax.Array, x: Any, kernel: jax.Array, /, **static: Any) -> jax.Array:
    if x_gradient is not None:
      return x_gradient(kernel, cotangent, x.aval, **static)
    return jax.linear_transpose(lambda x: product(x, kernel, **static), x.aval)(cotangent)[0]

  def in_kernel(cotangent: jax.Array, x: jax.Array, kernel: Any, /, **static: Any) -> jax.Array:
    return kernel_gradient(x, cotangent, kernel.aval, **static)

  def batched(arguments: Any, axes: Any, /, **static: Any) -> tuple[jax.Array, int]:
    return jax.vmap(functools.partial(product, **static), axes)(*arguments), 0

  of_tangent = Primitive(f"{product.__name__.strip('_')}_of_tangent")
  of_tangent.def_impl(product)
  of_tangent.def_abstract_eval(abstract)
  ad.defbilinear(of_tangent, in_x, in_kernel)
  batching.primitive_batchers[of_tangent] = batched
  mlir.register_lowering(of_tangent, mlir.lower_fun(product, multiple_results=False))
  # What JAX differentiates well stays visible.
  of_x_tangent = product if x_gradient is None else of_tangent.bind

  def differentiable(x: jax.Array, kernel: jax.Array, **static: Any) -> jax.Array:
    if not (_automatic(x) and _automatic(kernel)):
      return product(x, kernel, **static)
    value = jax.custom_jvp(functools.partial(product, **static))

    def jvp(primals: Any, tangents: Any) -> Any:
      (x, kernel), (dx, dkernel) = primals, tangents
      terms = [] if isinstance(dx, SymbolicZero) else [of_x_tangent(dx, kernel, **static)]
      terms += [] if isinstance(dkernel, SymbolicZero) else [of_tangent.bind(x, dkernel, **static)]
      # The product itself, once more for policies to see: another `value` would be one closed operation to them.
      return product(x, kernel, **static), functools.reduce(jax.lax.add, terms)

    value.defjvp(jvp, symbolic_zeros=True)
    return value(x, kernel)

  return differentiable


def _automatic(array: jax.Array) -> bool:
  return all(kind == AxisType.Auto for kind in jax.typeof(array).sharding.mesh.axis_types)


def matmul_precision() -> Any:
  """What `jax.default_matmul_precision` says: the product of a tangent is lowered when that context has ended."""
  config: Any = jax.config
  return config.jax_default_matmul_precision
