"""Trained variables for images of another number of channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convattn.errors import UserError
from convattn.pretrained.shapes import image_channels, is_stem


def adapt_channels(variables: Mapping, channels: int) -> dict:
  """Fits the stem's first kernel [kh, kw, c, width] to n = `channels`, as timm does; all else is the same, bit for bit.

      n = 1:      kernel'[.., 0, :] = sum_c kernel[.., c, :]
      otherwise:  kernel'[.., k, :] = c / n * kernel[.., k mod c, :],   k = 0 .. n - 1

  Images that are grey, all channels alike, give what they gave where n is 1 or a multiple of c. Computed in float32 at
  least; the kernel keeps its dtype.

  Args:
    variables: a mapping with "params". Copies in its other collections, such as averaged parameters, are fitted too,
      whatever lies above them.
    channels: of the images they shall be for. See `Preprocessing.with_channels` for what is done to those.

  Raises:
    UserError: a number of channels that is none, or variables without a stem.

  Source: timm 1.0, `adapt_input_conv` (Apache-2.0).
  """
  if isinstance(channels, bool) or not isinstance(channels, (int, np.integer)) or channels < 1:
    raise UserError(f"channels is {channels!r}, but must be a whole number of at least 1.")
  image_channels(variables)

  def fit(path: tuple, array: Any) -> Any:
    return _fitted(array, channels) if is_stem(jax.tree_util.keystr(path, simple=True, separator="/")) else array

  return jax.tree_util.tree_map_with_path(fit, dict(variables))


def _fitted(kernel: Any, channels: int) -> Any:
  given = kernel.shape[2]
  if given == channels:
    return kernel
  wide = kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))
  repeated = wide[:, :, np.arange(channels) % given] * (given / channels)
  return (wide.sum(2, keepdims=True) if channels == 1 else repeated).astype(kernel.dtype)
