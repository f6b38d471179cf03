"""What variables a model would have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn.errors import UserError
from convattn.models.families import name_of
from convattn.models.spec import Spec
from convattn.ops.positions import table_grid

STEM = "stem/conv_1/kernel"
HEAD = ("classifier", "logits")
"""Where the first kernel [kh, kw, c, width] and the last dense layer lie in a model's parameters; see families.py."""


def variable_shapes(model: nn.Module, image_size: int | tuple[int, int], channels: int = 3) -> dict:
  """`model.init`'s variables for images of a size, as shapes and dtypes; nothing is computed.

  Raises:
    ValueError: an image size that is neither a positive integer nor two.
  """
  size = tuple(image_size) if isinstance(image_size, Sequence) else (image_size, image_size)
  if len(size) != 2 or not all(isinstance(pixels, (int, np.integer)) and pixels > 0 for pixels in size):
    raise ValueError(f"image_size is {image_size!r}, but must be a number of pixels or (height, width).")
  images = jax.ShapeDtypeStruct((1, *(int(pixels) for pixels in size), channels), jnp.float32)
  return jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)


def by_path(tree: Any) -> dict[str, Any]:
  """The leaves by their paths, whose parts are joined by "/"."""
  leaves: list[tuple[Any, Any]] = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def is_stem(path: str) -> bool:
  """Whether this is a path of a model's first kernel, whatever lies above the model's own parameters."""
  return f"/{path}".endswith(f"/{STEM}")


def image_channels(variables: Mapping) -> int:
  """The channels of the images that a model's variables are for. Raises UserError where there is no stem to tell."""
  kernel = by_path(variables.get("params", {})).get(STEM)
  if kernel is None:
    raise UserError(f"the variables have no 'params/{STEM}'; they are not those of a model of convattn.list_models().")
  return kernel.shape[2]


def image_size_of(variables: Mapping, spec: Spec) -> tuple[int, int] | None:
  """(height, width) of the images that the bias tables of a model's variables are for; None where there are none."""
  stride, params = spec.stem_stride, variables["params"]
  for i, stage in enumerate(spec.stages):
    stride *= stage.stride
    for path, table in by_path(params[f"stage_{i + 1}"]).items():
      if path.endswith("/bias_table"):
        height, width = table_grid(table)
        return height * stride, width * stride
  return None


def check_architecture(variables: Mapping, model: nn.Module, wanted: Mapping, advice: str) -> None:
  """Variables must be those of a model but for its last dense layer, the grids of its tables, and dtypes.

  So must each copy of its parameters that lies beside them, such as a running average, but that it may lack some.

  Args:
    variables: those given.
    model: whose they should be; for its name.
    wanted: collections of `variable_shapes(model, ...)`, which must be there whole.
    advice: what to do, behind a semicolon.

  Raises:
    UserError: the first path that differs, with both shapes.
  """
  ours, theirs = _shapes(variables), _shapes(wanted)
  copies = [path.removesuffix(STEM) for path in ours if is_stem(path)]
  for above in copies:
    inside = {above + path: shape for path, shape in _shapes(wanted["params"]).items()}
    theirs |= {path: shape for path, shape in inside.items() if path in ours}
  known = (*(f"{name}/" for name in wanted), *copies)
  ours = {path: shape for path, shape in ours.items() if path.startswith(known)}
  for path in sorted({*ours, *theirs}):
    if ours.get(path) != theirs.get(path):
      its, wanted_shape = (shapes.get(path, "no such array") for shapes in (ours, theirs))
      raise UserError(
        f"the variables are another architecture's than {name_of(model)}'s: at {path!r} they have {its}, but the model "
        f"has {wanted_shape}; {advice}"
      )


def _shapes(tree: Mapping) -> dict[str, tuple[int, ...]]:
  """Path -> shape, without the last dense layer; of a bias table, which goes with the image size, the heads only."""
  shapes = {path: np.shape(leaf) for path, leaf in by_path(tree).items() if f"/{'/'.join(HEAD)}/" not in f"/{path}"}
  return {path: shape[:1] if path.endswith("/bias_table") else shape for path, shape in shapes.items()}
