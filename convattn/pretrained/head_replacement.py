"""Another classifier on trained variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from convattn.errors import UserError
from convattn.pretrained.shapes import image_channels, variable_shapes

HEAD = ("classifier", "logits")


def replace_head(variables: Mapping, model: nn.Module, key: jax.Array) -> dict:
  """The variables with a new last dense layer for `model.num_classes`; none for 0. All else is the same, bit for bit.

  The new layer is what `model.init(key, ...)` gives it.

  Args:
    variables: a mapping with "params", for a model that differs from `model` in its number of classes at most, in the
      size of its images and in dtypes. Collections that `model` does not have are passed on.
    model: the model they shall fit.
    key: a typed PRNG key for the new layer.

  Raises:
    UserError: variables of another architecture, with the first path that differs and both shapes.
  """
  channels = image_channels(variables)
  wanted = variable_shapes(model, 1, channels)
  given = {name: variables[name] for name in variables if name in wanted}
  _check(_shapes(_without_head(given)), _shapes(_without_head(wanted)))
  replaced = {**variables, "params": _without_head(variables)["params"]}
  if model.num_classes:
    images = jnp.zeros((1, 1, 1, channels))  # under jit, all that the head does not need is left out
    init = jax.jit(lambda key: model.init(key, images, train=False)["params"][HEAD[0]][HEAD[1]])
    classifier = replaced["params"].get(HEAD[0], {})
    replaced["params"] = {**replaced["params"], HEAD[0]: {**classifier, HEAD[1]: init(key)}}
  return replaced


def _without_head(variables: Mapping) -> dict:
  classifier = {name: tree for name, tree in variables["params"].get(HEAD[0], {}).items() if name != HEAD[1]}
  others = {name: tree for name, tree in variables["params"].items() if name != HEAD[0]}
  return {**variables, "params": {**others, HEAD[0]: classifier} if classifier else others}


def _shapes(tree: Mapping) -> dict[str, tuple[int, ...]]:
  """Path -> shape; of a bias table, which goes with the image size, the heads only."""
  leaves: list[tuple[Any, Any]] = jax.tree_util.tree_flatten_with_path(tree)[0]
  shapes = {jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape) for path, leaf in leaves}
  return {name: shape[:1] if name.endswith("/bias_table") else shape for name, shape in shapes.items()}


def _check(given: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> None:
  for name in sorted({*given, *wanted}):
    if given.get(name) != wanted.get(name):
      ours, theirs = (shapes.get(name, "no such array") for shapes in (given, wanted))
      raise UserError(
        f"the variables are another architecture's: at {name!r} they have {ours}, but the model has {theirs}; "
        "replace_head changes the last dense layer only."
      )
