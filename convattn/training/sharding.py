"""One mesh over all devices: each batch is split over its axis "data", the state lies whole on every device."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
  """A mesh over `devices` (all of them, on all hosts, by default) with the one axis "data"."""
  devices = jax.devices() if devices is None else devices
  return jax.make_mesh((len(devices),), ("data",), devices=devices, axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def by_batch(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec("data"))


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, Any]:
  """The global batch on the devices. Every host passes the same arrays; each device receives its own rows only."""
  sharding = by_batch(mesh)
  return {name: jax.make_array_from_callback(array.shape, sharding, array.__getitem__) for name, array in batch.items()}
