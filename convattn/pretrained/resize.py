"""Trained variables for another image size."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from convattn.models.coatnet import CoAtNet

METHODS = ("bilinear",)


def resize(model: CoAtNet, variables: Mapping, image_size: int | tuple[int, int], method: str = "bilinear") -> dict:
  """Interpolates every bias table to the grids that images of another size give (Dai et al. 2021, appendix A.1).

  "bilinear" samples [n, 2h-1, 2w-1] at half-pixel centres without antialiasing, as Google's code family does; the paper
  does not state the convention. A table that fits already is returned as it is.

  Args:
    model: the model the variables belong to.
    variables: a mapping with "params"; the rest is passed on.
    image_size: pixels, a number or (height, width).
    method: one of METHODS.

  Raises:
    ValueError: an unknown method.
  """
  if method not in METHODS:
    raise ValueError(f"method is {method!r}, but must be one of {', '.join(map(repr, METHODS))}.")
  height, width = np.broadcast_to(image_size, 2).tolist()
  channels = _input_channels(variables)
  images = jax.ShapeDtypeStruct((1, height, width, channels), jnp.float32)
  wanted = jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)["params"]

  def fit(path, array, like):
    if path[-1].key != "bias_table" or array.shape == like.shape:
      return array
    wide = array.astype(jnp.promote_types(array.dtype, jnp.float32))
    return jax.image.resize(wide, like.shape, "bilinear", antialias=False, precision="highest").astype(array.dtype)

  return {**variables, "params": jax.tree_util.tree_map_with_path(fit, variables["params"], wanted)}


def _input_channels(variables: Mapping) -> int:
  return variables["params"]["stem"]["conv_1"]["kernel"].shape[2]
