"""Logits of any number of images, with one compiled program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import chex
import jax
import numpy as np
from jax.sharding import Mesh

from convattn.data import normalize
from convattn.training import sharding
from convattn.training.restoring import Classifier, Restored

Extra = TypeVar("Extra")
Forward = Callable[[dict[str, Any], jax.Array], jax.Array]

PIXELS_PER_GROUP = 2**17
"""Two images of 224 pixels squared; the measurement is `in_groups`'."""


def logits_of(
  restored: Classifier, batches: Iterable[tuple[np.ndarray, Extra]], batch_size: int
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
  mesh, variables = placed(restored, batch_size)
  # A loop over groups would fetch each from the devices that the batch is split over.
  function = forward(restored) if mesh.size > 1 else in_groups(forward(restored))
  compiled = jax.jit(function)
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


def placed(restored: Restored, batch_size: int) -> tuple[Mesh, dict[str, Any]]:
  """(the largest number of this host's devices that divides a batch, the variables, whole on each of them)."""
  devices = jax.local_devices()
  count = max(number for number in range(1, len(devices) + 1) if batch_size % number == 0)
  mesh = sharding.make_mesh(devices[:count])
  return mesh, jax.device_put(restored.variables, sharding.replicated(mesh))


def precision(restored: Restored) -> str:
  """That of matrix products: of a run's model as in its training, of released weights the highest."""
  return "highest" if restored.experiment is None else restored.experiment.compute.matmul_precision


def _fetched(restored: Classifier, logits: jax.Array, count: int, extra: Extra) -> tuple[np.ndarray, Extra]:
  fetched = np.asarray(logits)[:count]
  if not np.isfinite(fetched).all():
    raise FloatingPointError(f"the model of {restored.source} gives logits that are not finite; its training diverged.")
  return fetched, extra


def in_groups(function: Forward) -> Forward:
  """`function`, but on a CPU computed for a few images after another: as many as have PIXELS_PER_GROUP pixels.

  For a function that treats each image alone, as inference does. Arrays then stay in the cache and their memory is used
  again: coatnet_0_224 at 224 pixels takes 373 ms for 8 images in place of 442 (float32, 2 cores; groups of 1: 421, of
  4: 390). A batch of unknown size, as in an export, is computed in one piece.
  """

  def grouped(variables: dict[str, Any], images: jax.Array) -> jax.Array:
    size, height, width, _ = images.shape
    group = max(1, PIXELS_PER_GROUP // (height * width))
    while size % group:
      group -= 1
    if group == size:
      return function(variables, images)
    split = images.reshape(size // group, group, *images.shape[1:])
    outputs = jax.lax.map(lambda part: function(variables, part), split)
    return outputs.reshape(size, *outputs.shape[2:])

  def chosen(variables: dict[str, Any], images: jax.Array) -> jax.Array:
    if not isinstance(images.shape[0], int) or images.shape[0] == 1:
      return function(variables, images)
    return jax.lax.platform_dependent(variables, images, cpu=grouped, default=function)

  return chosen


def forward(restored: Classifier) -> Forward:
  """(variables, pixels uint8 [b, h, w, c]) -> logits [b, classes]: the program of evaluation, prediction and export."""
  mean, std = restored.preprocessing.mean, restored.preprocessing.std

  def logits(variables: dict[str, Any], pixels: jax.Array) -> jax.Array:
    with jax.default_matmul_precision(precision(restored)):
      outputs: Any = restored.model.apply(variables, normalize(pixels, mean, std), train=False)
    return outputs

  return logits
