"""Trained variables for another image size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn.errors import UserError
from convattn.ops.positions import RESIZE_METHODS, resize_table, table_grid
from convattn.pretrained.shapes import by_path, check_architecture, image_channels, variable_shapes


def resize(model: nn.Module, variables: Mapping, image_size: int | tuple[int, int], method: str = "bilinear") -> dict:
  """Interpolates every bias table to the grids that images of another size give (ops.resize_table).

  A table that fits already, and every other array, is returned as it is. A model without tables
  (relative_position="mlp") serves any size, and its variables come back as they are.

  Args:
    model: the model the variables belong to.
    variables: a mapping with "params" (the last dense layer may have any number of classes). Tables in its other
      collections, such as averaged parameters, are found by the same path within the model, whatever lies above it.
    image_size: pixels, a number or (height, width).
    method: "bilinear" (the paper's) or "timm".

  Raises:
    UserError: an unknown method, an image size of another form, variables of another architecture (with the first
      path that differs and both shapes), or a table that the model does not have.
  """
  if method not in RESIZE_METHODS:
    raise UserError(f"method is {method!r}, but must be one of {', '.join(map(repr, RESIZE_METHODS))}.")
  wanted = variable_shapes(model, image_size, image_channels(variables))
  given = {name: tree for name, tree in wanted.items() if name in variables}
  check_architecture(variables, model, given, "resize changes bias tables only.")
  grids = {path: table_grid(shape) for path, shape in by_path(wanted["params"]).items() if path.endswith("/bias_table")}

  def fit(path: tuple, array: Any) -> Any:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    if not name.endswith("/bias_table"):
      return array
    grid = next((grid for place, grid in grids.items() if name.endswith(f"/{place}")), None)
    if grid is None:
      raise UserError(f"the model has no table {name!r}; are these the variables of another architecture?")
    if table_grid(array) == grid:
      return array
    if isinstance(array, np.ndarray):  # may be of float64, which JAX would narrow
      with jax.enable_x64(True):
        return np.asarray(resize_table(jnp.asarray(array), grid, method))
    return resize_table(array, grid, method)

  return jax.tree_util.tree_map_with_path(fit, dict(variables))
