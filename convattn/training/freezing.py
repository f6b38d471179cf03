"""Parts of a model that stand still while the others are trained: named by their paths, computed as at evaluation."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from convattn.errors import UserError, nearest

_EVALUATING = {"train": False, "use_running_average": True, "deterministic": True}
"""What a linen module is told, by argument, to compute as at evaluation."""


def split_parts(freeze: str) -> tuple[tuple[str, ...], ...]:
  """The paths in a text such as "stem, stage_2/block_0": (("stem",), ("stage_2", "block_0"))."""
  texts = (text.strip().strip("/") for text in freeze.split(","))
  return tuple(tuple(text.split("/")) for text in texts if text)


def names_of(path: jax.tree_util.KeyPath) -> tuple[str, ...]:
  return tuple(jax.tree_util.keystr((key,), simple=True) for key in path)


def _inside(names: tuple[str, ...], parts: tuple[tuple[str, ...], ...]) -> bool:
  return any(names[: len(part)] == part for part in parts)


def frozen(freeze: str, tree: Any) -> Any:
  """True for each leaf of `tree` whose path begins with one of the parts of `freeze`, name by name."""
  parts = split_parts(freeze)
  return jax.tree_util.tree_map_with_path(lambda path, _: _inside(names_of(path), parts), tree)


def hold(freeze: str, old: Any, new: Any) -> Any:
  """`new`, but with the leaves of `old` in the frozen parts: the arrays themselves, so that no bit of them changes."""
  return jax.tree.map(lambda still, before, after: before if still else after, frozen(freeze, new), old, new)


def hold_collections(freeze: str, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
  """`hold` in each collection of variables, whose paths begin below the collection's name."""
  return {name: hold(freeze, old[name], values) for name, values in new.items()}


def without_gradient(freeze: str, params: Any) -> Any:
  """`params`, those of the frozen parts as constants: nothing is computed for their gradients, which are 0."""
  return jax.tree.map(
    lambda still, leaf: jax.lax.stop_gradient(leaf) if still else leaf, frozen(freeze, params), params
  )


def check_freeze(freeze: str, params: Any) -> None:
  """Each part of `freeze` must be there, and something must be left to train.

  Raises:
    UserError: a part that no parameter lies in, with the nearest that exist; or parts that cover everything.
  """
  paths = [names_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
  known = list(dict.fromkeys("/".join(path[:length]) for path in paths for length in range(1, len(path) + 1)))
  parts = split_parts(freeze)
  for part in map("/".join, parts):
    if part not in known:
      meant = ", ".join(nearest(part, known))
      raise UserError(f"optimizer.freeze: the model has no part {part!r}; did you mean {meant}?")
  if parts and all(_inside(path, parts) for path in paths):
    raise UserError(f"optimizer.freeze is {freeze!r}, which leaves nothing to train; name fewer parts.")


def evaluate_frozen(freeze: str) -> Callable[..., Any]:
  """For `nn.intercept_methods`: the modules of the frozen parts compute as at evaluation.

  They normalise by their running statistics and drop nothing, whatever they are told by an argument `train`,
  `use_running_average` or `deterministic`. A module that was told when it was made, such as
  nn.BatchNorm(use_running_average=False), still normalises by its batch.
  """
  parts = split_parts(freeze)

  def intercept(
    method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext
  ) -> Any:
    told = _EVALUATING.keys() & kwargs.keys()
    if told and context.module.scope is not None and _inside(context.module.path, parts):
      kwargs = {**kwargs, **{name: _EVALUATING[name] for name in told}}
    return method(*args, **kwargs)

  return intercept
