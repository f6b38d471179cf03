"""Logits of any number of images, with one compiled program."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import chex
import jax
import numpy as np

from convattn.data import normalize
from convattn.training import sharding
from convattn.training.restoring import Restored

Extra = TypeVar("Extra")


def logits_of(
  restored: Restored, batches: Iterable[tuple[np.ndarray, Extra]], batch_size: int
) -> Iterator[tuple[np.ndarray, Extra]]:
  """(logits [n, classes], extra) for each (pixels [n, h, w, c], extra), in order.

  Every batch is filled up to `batch_size` with black images, so that nothing is compiled twice; their logits are cut
  off. While one batch is computed the next one is fetched.

  Args:
    restored: model, variables and what pixels are normalised with.
    batches: uint8 pixels, 1 to `batch_size` images of one shape, and anything that belongs to them.
    batch_size: images per call, split over the largest number of this host's devices that divides it.

  Raises:
    AssertionError, ValueError: pixels of a wrong shape or dtype, naming the argument.
    FloatingPointError: logits that are not finite.
  """
  devices = jax.local_devices()
  mesh = sharding.make_mesh(devices[: math.gcd(batch_size, len(devices))])
  variables = jax.device_put(restored.variables, sharding.replicated(mesh))
  compiled = jax.jit(forward(restored))
  waiting: tuple[jax.Array, int, Extra] | None = None
  for pixels, extra in batches:
    chex.assert_rank(pixels, 4, custom_message="pixels must be [n, h, w, c]")
    if not 0 < len(pixels) <= batch_size:
      raise ValueError(f"a batch must have 1 to {batch_size} images (batch_size), got {len(pixels)}.")
    padded = np.pad(pixels, [(0, batch_size - len(pixels)), (0, 0), (0, 0), (0, 0)])
    logits = compiled(variables, sharding.put_batch({"pixels": padded}, mesh)["pixels"])
    if waiting is not None:
      yield _fetched(restored, *waiting)
    waiting = logits, len(pixels), extra
  if waiting is not None:
    yield _fetched(restored, *waiting)


def _fetched(restored: Restored, logits: jax.Array, count: int, extra: Extra) -> tuple[np.ndarray, Extra]:
  fetched = np.asarray(logits)[:count]
  if not np.isfinite(fetched).all():
    raise FloatingPointError(f"the model of {restored.source} gives logits that are not finite; its training diverged.")
  return fetched, extra


def forward(restored: Restored) -> Callable[[dict[str, Any], jax.Array], jax.Array]:
  """(variables, pixels uint8 [b, h, w, c]) -> logits [b, classes]: the program of evaluation, prediction and export.

  The products of a run's model have the precision of its training, those of released weights the highest.
  """
  precision = "highest" if restored.experiment is None else restored.experiment.compute.matmul_precision
  mean, std = restored.preprocessing.mean, restored.preprocessing.std

  def logits(variables: dict[str, Any], pixels: jax.Array) -> jax.Array:
    with jax.default_matmul_precision(precision):
      outputs: Any = restored.model.apply(variables, normalize(pixels, mean, std), train=False)
    return outputs

  return logits
