"""Another classifier on trained variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from convattn.pretrained.shapes import HEAD, STEM, by_path, check_architecture, image_channels, variable_shapes


def replace_head(variables: Mapping, model: nn.Module, key: jax.Array) -> dict:
  """The variables with a new last dense layer for `model.num_classes`; none for 0. All else is the same, bit for bit.

  The new layer is what `model.init(key, ...)` gives it. Copies of the parameters in other collections, such as their
  running averages, get it too, in float32 at least: wherever a mapping holds one, bare or beneath a name.

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
  check_architecture(variables, model, wanted, "replace_head changes the last dense layer only.")
  head = {}
  if model.num_classes:
    images = jnp.zeros((1, 1, 1, channels))  # under jit, all that the head does not need is left out
    init = jax.jit(lambda key: model.init(key, images, train=False)["params"][HEAD[0]][HEAD[1]])
    head = {HEAD[1]: init(key)}
  averaged = jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)), head)
  return {name: _with_head(tree, head if name == "params" else averaged) for name, tree in variables.items()}


def _with_head(tree: Any, head: dict) -> Any:
  """`tree` with this head in each set of parameters in it."""
  if not isinstance(tree, Mapping):
    return tree
  if STEM not in by_path(tree):
    return {name: _with_head(each, head) for name, each in tree.items()}
  # Arrays of its own: a state that is donated must not hold one twice.
  own = jax.tree.map(jnp.copy, head)
  classifier = {name: each for name, each in tree.get(HEAD[0], {}).items() if name != HEAD[1]} | own
  others = {name: each for name, each in tree.items() if name != HEAD[0]}
  return {**others, HEAD[0]: classifier} if classifier else others
