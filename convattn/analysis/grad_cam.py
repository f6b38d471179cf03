"""Where a feature map speaks for a class, by the gradient of its logit."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn.analysis.calling import checked_images, chosen_classes, compiled, in_pieces, pixels_of
from convattn.analysis.feature_maps import FeatureMap, edited_at, find_feature_map
from convattn.analysis.overlay import Overlay


def grad_cam(model: nn.Module, variables: Any, images: Any, classes: Any = None, *, part: str | None = None) -> Overlay:
  """Grad-CAM: a feature map's channels, weighted with the mean slope of the class's logit, where positive.

      cam[p] = relu(sum_c w_c F[p, c]),     w_c = mean over cells p of  d logit / d F[p, c]

  The map and its shape are found in the traced model: by default the last one before the classifier. An image [b, h,
  w, c] is taken as it is, and of tokens [b, n, c] the last h w, which the image before them had as cells.

  Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV
  2017, equations 1 and 2.

  Args:
    model: any module that puts out logits [b, classes], called for inference.
    images: floating point [b, h, w, c], as the model takes them.
    classes: a class for all images, or integers [b]; None: those that the model predicts.
    part: path of the module whose output F is, such as "stage_2"; see `find_feature_map`.

  Raises:
    ValueError: images, classes or part that do not fit, or a part whose cells no logit depends on.
  """
  images = checked_images(images)
  found = find_feature_map(model, variables, images, part)
  chosen = chosen_classes(model, variables, images, classes)

  def weighted(images: np.ndarray, chosen: np.ndarray) -> jax.Array:
    return jnp.stack(_weighted(model, variables, images, chosen.astype(np.int32), at=found), 1)

  values, slopes = in_pieces(weighted, images, chosen, pixels=pixels_of(images)).swapaxes(0, 1)
  if not slopes.any():
    raise ValueError(f"no logit depends on the cells of {found.part!r}; name an earlier part.")
  return Overlay(
    name="Grad-CAM",
    grid=found.grid,
    values=np.maximum(values, 0),
    note=f"channels of {found.part or 'the output'} times the mean slope of the class's logit, where positive",
    exact=False,
    classes=chosen,
  )


@compiled("at")
def _weighted(
  model: nn.Module, variables: Any, images: jax.Array, chosen: jax.Array, *, at: FeatureMap
) -> tuple[jax.Array, jax.Array]:
  """[b, h, w] each: sum_c w_c F[p, c], and the sizes of the slopes at each cell."""

  def logit(added: jax.Array) -> tuple[jax.Array, jax.Array]:
    def edit(output: jax.Array) -> jax.Array:
      if at.prefix_tokens is None:
        return output + added.astype(output.dtype)
      cells = added.reshape(len(added), -1, at.channels).astype(output.dtype)
      return output.at[:, at.prefix_tokens :].add(cells)

    logits, features = edited_at(model, variables, images, at, edit)
    return jnp.take_along_axis(logits.astype(jnp.float32), chosen[:, None], 1).sum(), features

  zeros = jnp.zeros((len(images), at.grid.height, at.grid.width, at.channels), jnp.float32)
  slopes, features = jax.grad(logit, has_aux=True)(zeros)
  weights = slopes.mean((1, 2), keepdims=True)
  return (weights * features.astype(jnp.float32)).sum(-1), jnp.abs(slopes).sum(-1)
