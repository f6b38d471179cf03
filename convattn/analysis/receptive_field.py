"""Which pixels a cell of a feature map depends on, and how strongly."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn.analysis.calling import checked_images, compiled, in_pieces, pixels_of
from convattn.analysis.feature_maps import FeatureMap, find_feature_map, output_at
from convattn.analysis.overlay import Overlay, pixel_grid

VISIBLE = 0.0455
"""Share of the peak above which a pixel counts: what a Gaussian has at about two and a half deviations; Luo et al.'s
threshold, 1 - 95.45 %."""


@dataclasses.dataclass(frozen=True, eq=False)
class ReceptiveField(Overlay):
  """`values` [b, h, w] of each image, on the grid of pixels.

  Attributes:
    part: path of the module that the cell belongs to.
    cell: its row and column.
  """

  part: str = ""
  cell: tuple[int, int] = (0, 0)

  def mean(self) -> np.ndarray:
    """float32 [h, w]: the effective receptive field, the mean over the images."""
    return self.values.mean(0)

  def area(self) -> int:
    """Pixels whose mean is above VISIBLE of the largest."""
    mean = self.mean()
    return int((mean > VISIBLE * mean.max()).sum())

  def support(self) -> int:
    """Pixels that the cell depends on at all, on any of the images."""
    return int((self.mean() > 0).sum())


def receptive_field(
  model: nn.Module,
  variables: Any,
  images: Any,
  *,
  part: str | None = None,
  cell: tuple[int, int] | None = None,
  seed: int = 0,
) -> ReceptiveField:
  """The gradient of one cell with regard to the image, and its mean over images, the effective receptive field.

      R[p] = mean over images of  sum_channels |d (sum_c g_c F[cell, c]) / d image[p]|,     g ~ N(0, 1) for each image

  Squeeze-and-excite and attention see the whole image, if faintly; a convolution sees exactly its kernel.

  Source: Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NIPS 2016.

  Args:
    model: any module, called for inference.
    images: floating point [b, h, w, c], as the model takes them.
    part: path of the module whose output F is; see `find_feature_map`.
    cell: row and column of a cell of it; None: the middle one, (height // 2, width // 2).
    seed: of the drawn g.

  Raises:
    ValueError: images, part or cell that do not fit.
  """
  images = checked_images(images)
  found = find_feature_map(model, variables, images, part)
  cell = (found.grid.height // 2, found.grid.width // 2) if cell is None else cell
  if not (0 <= cell[0] < found.grid.height and 0 <= cell[1] < found.grid.width):
    height, width = found.grid.height, found.grid.width
    raise ValueError(f"cell is {cell}, but {found.part!r} has {height} rows and {width} columns of them, from 0.")
  drawn = np.random.default_rng(seed).standard_normal((len(images), found.channels)).astype(np.float32)

  def gradients(images: np.ndarray, drawn: np.ndarray) -> jax.Array:
    return _gradients(model, variables, images, drawn, at=found, cell=cell)

  return ReceptiveField(
    name="receptive field",
    grid=pixel_grid(images.shape[1:3]),
    values=in_pieces(gradients, images, drawn, pixels=pixels_of(images)),
    note=f"how much cell {cell} of {found.part or 'the output'} changes with each pixel, in units of the cell",
    exact=True,
    part=found.part,
    cell=cell,
  )


@compiled("at", "cell")
def _gradients(
  model: nn.Module, variables: Any, images: jax.Array, drawn: jax.Array, *, at: FeatureMap, cell: tuple[int, int]
) -> jax.Array:
  def at_cell(images: jax.Array) -> jax.Array:
    return output_at(model, variables, images, at)[:, cell[0], cell[1]].astype(jnp.float32)

  _, pull = jax.vjp(at_cell, images)
  return jnp.abs(pull(drawn)[0]).sum(-1)
