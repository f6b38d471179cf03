"""Checks a layer's input against the parameters it already has, before linen's own message can appear."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

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
    ValueError: dtype or param_dtype is None, which NumPy takes for float64.
    ValueError: the module has parameters, but none of that path: they are another module's (or its name changed, and
      is to be changed here).
  """
  for name in ("dtype", "param_dtype"):
    if getattr(module, name, jnp.float32) is None:
      raise ValueError(f"{name} of {type(module).__name__} is None, but must be a dtype such as jnp.float32.")
  params: Any = module.variables.get("params", {})
  if params and parameter and not module.is_initializing():
    found = params
    for part in parameter.split("/"):
      if part not in found:
        raise ValueError(
          f"{'/'.join(module.path) or type(module).__name__} has the parameters {', '.join(sorted(params))}, but no "
          f"{parameter}; give it those of a {type(module).__name__} with the same fields."
        )
      found = found[part]
    axes = " ".join([*axes.split()[:-1], str(found.shape[axis])])
  sizes = check_shapes(x=(x, axes))
  return sizes | {"c": x.shape[-1]}
