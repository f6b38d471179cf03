"""Convolutions over pixels as attention over patches (Li et al. 2021, Can Vision Transformers Perform Convolution?)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convattn.equivalence.construction import conv_to_attention
from convattn.equivalence.inputs import check_images, read_bias, read_kernel, read_whole, shown
from convattn.equivalence.layer import PositionAttention

PATCH_PADDINGS = ("SAME", "CIRCULAR")


def patch_conv_to_attention(
  kernel: jax.Array,
  bias: jax.Array | None = None,
  *,
  patch: int,
  padding: str,
  mode: str,
  alpha: float | None = None,
) -> tuple[PositionAttention, dict[str, Any]]:
  """A self-attention layer over patches that computes a convolution over their pixels, and its variables.

      to_pixels(layer.apply(variables, to_patches(images, P)), P) = convolution(images)

  Heads in mode "table": (2 ceil((K - 1) / (2 P)) + 1)^2 for odd K, so 9 for every K from 3 to 2 P + 1; each is P^2 c
  wide, the width of a patch. It is `conv_to_attention` of `patch_kernel`; `error_bound` of that kernel holds.

  Args:
    kernel: [k, c, o] or [k_h, k_w, c, o], of one group, stride 1, no dilation.
    bias: [o].
    patch: P, pixels along the side of a patch; it divides the image's sides.
    padding: "SAME" or "CIRCULAR". "VALID" outputs fill no whole patches, and the nearest patch is not the nearest pixel
      ("EDGE").
    mode, alpha: as of `conv_to_attention`.

  Raises:
    ValueError: another padding, a patch that is not a positive integer, or what `conv_to_attention` refuses.
  """
  if not isinstance(padding, str) or padding not in PATCH_PADDINGS:
    raise ValueError(
      f"padding is {shown(padding)}, but patches allow {' and '.join(map(repr, PATCH_PADDINGS))} alone; for others use "
      f"conv_to_attention over pixels."
    )
  pixels, patch = read_kernel(kernel), read_whole("patch", patch)
  bias = read_bias(bias, pixels)
  repeated = None if bias is None else jnp.tile(bias, patch ** (pixels.ndim - 2))
  return conv_to_attention(patch_kernel(pixels, patch), repeated, padding=padding, mode=mode, alpha=alpha, groups=1)


def patch_kernel(kernel: jax.Array, patch: int) -> jax.Array:
  """The kernel over patches of a convolution over pixels: [*window, c, o] -> [*patch window, P^d c, P^d o].

  Along each axis, pixel u of a patch sees pixel v of the patch m further on with tap t: P m + v - u = t - (k - 1) // 2.
  """
  kernel, patch = read_kernel(kernel), read_whole("patch", patch)
  places = []  # [m, v, u, t] of each axis
  for taps in kernel.shape[:-2]:
    shifts = np.arange(-(-((taps - 1) // 2) // patch) * -1, -(-(taps // 2) // patch) + 1)
    pixel = np.arange(patch)
    seen = patch * shifts[:, None, None] + pixel[None, :, None] - pixel[None, None, :]
    places.append(seen[..., None] == np.arange(taps) - (taps - 1) // 2)
  places = [jnp.asarray(each, kernel.dtype) for each in places]
  equation = "mvut,tco->mvcuo" if len(places) == 1 else "mvut,nyxs,tsco->mnvycuxo"
  found = jnp.einsum(equation, *places, kernel, precision="highest")
  width = patch ** len(places)
  return found.reshape(*found.shape[: len(places)], width * kernel.shape[-2], width * kernel.shape[-1])


def to_patches(images: jax.Array, patch: int) -> jax.Array:
  """[b, h, w, c] -> [b, h/P, w/P, P P c], or [b, l, c] -> [b, l/P, P c]: pixels row by row, channels last."""
  check_images("images", images)
  patch = read_whole("patch", patch)
  if len(images.shape) not in (3, 4) or any(size % patch for size in images.shape[1:-1]):
    raise ValueError(
      f"images have shape {images.shape}, but must be [b, h, w, c] or [b, l, c] in multiples of {patch}."
    )
  if images.ndim == 3:
    return images.reshape(images.shape[0], images.shape[1] // patch, patch * images.shape[2])
  b, h, w, c = images.shape
  split = images.reshape(b, h // patch, patch, w // patch, patch, c)
  return split.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // patch, w // patch, patch * patch * c)


def to_pixels(patches: jax.Array, patch: int) -> jax.Array:
  """The inverse of `to_patches`."""
  check_images("patches", patches)
  patch = read_whole("patch", patch)
  axes = len(patches.shape) - 2
  pixels = patch ** max(axes, 1)
  if axes not in (1, 2) or patches.shape[-1] % pixels:
    raise ValueError(f"patches have shape {patches.shape}, but must be of rank 3 or 4 and hold {pixels} pixels each.")
  if axes == 1:
    return patches.reshape(patches.shape[0], patches.shape[1] * patch, patches.shape[2] // patch)
  b, h, w, c = patches.shape
  split = patches.reshape(b, h, w, patch, patch, c // pixels)
  return split.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * patch, w * patch, c // pixels)
