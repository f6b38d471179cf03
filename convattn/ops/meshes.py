"""What our operators do with arrays on a mesh whose axes are Explicit, as `jax.make_mesh` makes them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, auto_axes

Function = TypeVar("Function", bound=Callable[..., Any])


def on_any_mesh(function: Function) -> Function:
  """The function, also for arrays that are divided along their first axis over Explicit mesh axes.

  There each operation must say how its result is divided, and few of JAX's own guess it for convolutions, or for
  reshapes that merge an axis. So the function is computed as over Auto axes, and its results are divided along their
  first axis as the first such argument is. An array that is divided along another axis is brought together first.
  Over Auto and Manual axes, and on one device, nothing is done.
  """

  @functools.wraps(function)
  def call(*arguments: Any, **options: Any) -> Any:
    leaves, tree = jax.tree.flatten((arguments, options))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array) and _is_explicit(leaf)]
    if not places:
      return function(*arguments, **options)

    kept: list[Any] = []  # the structure of the results, and those that are no arrays of JAX's

    def of_arrays(*arrays: jax.Array) -> list[jax.Array]:
      known = dict(zip(places, arrays, strict=True))
      arguments, options = jax.tree.unflatten(tree, [known.get(i, leaf) for i, leaf in enumerate(leaves)])
      results, structure = jax.tree.flatten(function(*arguments, **options))
      kept[:] = structure, [None if isinstance(result, jax.Array) else result for result in results]
      return [result for result in results if isinstance(result, jax.Array)]

    divided = [spec[0] for i in places if (spec := jax.typeof(leaves[i]).sharding.spec) and spec[0] is not None]
    mesh = jax.typeof(leaves[places[0]]).sharding.mesh
    along_first = NamedSharding(mesh, PartitionSpec(*divided[:1]))
    results = iter(auto_axes(of_arrays, out_sharding=along_first)(*(leaves[i] for i in places)))
    structure, others = kept
    return jax.tree.unflatten(structure, [next(results) if other is None else other for other in others])

  return call  # type: ignore[return-value]


def _is_explicit(array: jax.Array) -> bool:
  return AxisType.Explicit in jax.typeof(array).sharding.mesh.axis_types
