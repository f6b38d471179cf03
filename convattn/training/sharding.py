"""One mesh over all devices: each batch is split over all of it, the state over its axis "fsdp"."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from convattn.errors import UserError

AXES = ("data", "fsdp")

SMALLEST_SPLIT = 2**12
"""Arrays of fewer elements lie whole on every device: sending them costs more than keeping them."""


def check_fsdp(fsdp: int, num_devices: int) -> None:
  """The devices are split evenly into groups of `fsdp`.

  Raises:
    UserError: they are not; one line with the values that fit.
  """
  if num_devices % fsdp:
    divisors = ", ".join(str(each) for each in range(1, num_devices + 1) if num_devices % each == 0)
    raise UserError(f"compute.fsdp must divide the {num_devices} devices, got {fsdp}; try one of {divisors}.")


def make_mesh(devices: Sequence[jax.Device] | None = None, fsdp: int = 1) -> Mesh:
  """A mesh over `devices` (all of them, on all hosts, by default) with the axes "data" and "fsdp", `fsdp` long.

  Raises:
    UserError: `fsdp` does not divide their number.
  """
  devices = jax.devices() if devices is None else devices
  check_fsdp(fsdp, len(devices))
  # Automatic axes: over others the gradients of convattn.ops.gradients would be left to JAX.
  kinds = (AxisType.Auto, AxisType.Auto)
  return jax.make_mesh((len(devices) // fsdp, fsdp), AXES, devices=devices, axis_types=kinds)


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def by_batch(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec(AXES))


def split_spec(shape: tuple[int, ...], fsdp: int) -> PartitionSpec:
  """How an array of the state is split: its largest dimension that `fsdp` divides (of equals the first) over "fsdp".

  Arrays of fewer than `SMALLEST_SPLIT` elements, and those without such a dimension, stay whole.
  """
  dimensions = [axis for axis, size in enumerate(shape) if size % fsdp == 0]
  if fsdp == 1 or math.prod(shape) < SMALLEST_SPLIT or not dimensions:
    return PartitionSpec()
  largest = max(dimensions, key=lambda axis: shape[axis])
  return PartitionSpec(*(["fsdp" if axis == largest else None for axis in range(largest + 1)]))


def state_shardings(tree: Any, mesh: Mesh | AbstractMesh) -> Any:
  """The sharding of each leaf (an array or its shape) of a state, or of a part of one, over `mesh`."""
  return jax.tree.map(lambda leaf: NamedSharding(mesh, split_spec(leaf.shape, mesh.shape["fsdp"])), tree)


def keep_rows(mesh: Mesh) -> Callable[..., Any]:
  """For `nn.intercept_methods`: what modules make of a batch stays split by rows, as the batch is.

  Where weights are split over "fsdp" too, the compiler may otherwise divide a product by its channels and send the
  images there and back; so it collects the weights. Without such weights nothing is changed.
  """

  def intercept(
    method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext
  ) -> Any:
    outputs = method(*args, **kwargs)
    if mesh.shape["fsdp"] == 1 or context.method_name != "__call__" or not args:
      return outputs
    rows = np.shape(args[0])[:1]

    def keep(array: Any) -> Any:
      if rows and rows[0] % mesh.size == 0 and np.ndim(array) > 1 and array.shape[:1] == rows:
        return jax.lax.with_sharding_constraint(array, by_batch(mesh))
      return array

    return jax.tree.map(keep, outputs)

  return intercept


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, Any]:
  """The global batch on the devices. Every host passes the same arrays; each device receives its own rows only."""
  sharding = by_batch(mesh)
  return {name: jax.make_array_from_callback(array.shape, sharding, array.__getitem__) for name, array in batch.items()}


def gather(leaf: Any) -> np.ndarray:
  """The whole of an array on the host, whatever its sharding. Where it is spread over processes, all must call this."""
  if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
    place: Any = leaf.sharding  # a NamedSharding, as all that is spread over processes here
    leaf = jax.jit(_same, out_shardings=replicated(place.mesh))(leaf)
  return np.asarray(jax.device_get(leaf))


def _same(array: jax.Array) -> jax.Array:
  return array
