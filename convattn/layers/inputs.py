"""Checks a layer's input against the parameters it already has, before linen's own message can appear."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax

from convattn.ops.shapes import check_shapes


def check_input(module: nn.Module, x: jax.Array, axes: str, parameter: str | None, axis: int = 0) -> dict[str, int]:
  """Sizes of x by axis letter; once the module has parameters, x must have the channels they were made for.

  Args:
    module: the layer, inside its `__call__`.
    x: its input.
    axes: such as "b h w c"; the channels are the last.
    parameter: path below the module of an array one axis of which is as long as x has channels, such as "norm/scale";
      None where there is none.
    axis: that axis.

  Raises:
    AssertionError: wrong rank, or wrong number of channels.
    KeyError: the module has parameters, but none of that path: it was renamed, and is to be renamed here.
  """
  params: Any = module.variables.get("params", {})
  if params and parameter:
    found = functools.reduce(lambda tree, part: tree[part], parameter.split("/"), params)
    axes = " ".join([*axes.split()[:-1], str(found.shape[axis])])
  sizes = check_shapes(x=(x, axes))
  return sizes | {"c": x.shape[-1]}
