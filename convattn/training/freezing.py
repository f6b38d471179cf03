"""Parts of a model that stand still while the others are trained: named by their paths, computed as at evaluation."""

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import flax.linen as nn
import jax

from convattn.errors import UserError, nearest

_EVALUATING = {"train": False, "use_running_average": True, "deterministic": True}
"""What a linen module is told, by argument, to compute as at evaluation."""


def split_parts(freeze: str) -> tuple[str, ...]:
  """The paths and patterns in a text such as "stem, stage_[12]/*": ("stem", "stage_[12]").

  All that lies in a part is a part by its name too: a module whose parameters are frozen computes as at evaluation.
  """
  texts = (re.sub(r"(/+\*+)+$", "", text.strip().strip("/")) for text in freeze.split(","))
  return tuple(text for text in texts if text)


def names_of(path: jax.tree_util.KeyPath) -> tuple[str, ...]:
  return tuple(jax.tree_util.keystr((key,), simple=True) for key in path)


def _beginnings(names: tuple[str, ...]) -> list[str]:
  """a, a/b and a/b/c of (a, b, c)."""
  return ["/".join(names[:length]) for length in range(1, len(names) + 1)]


def _inside(names: tuple[str, ...], parts: tuple[str, ...]) -> bool:
  return any(fnmatchcase(beginning, part) for part in parts for beginning in _beginnings(names))


def frozen(freeze: str, tree: Any) -> Any:
  """True for each leaf of `tree` whose path, or a beginning of it up to a slash, is one of the parts of `freeze`.

  A part may be a shell pattern, in which * stands for slashes too: "stage_[12]", "*/bias".
  """
  parts = split_parts(freeze)
  return jax.tree_util.tree_map_with_path(lambda path, _: _inside(names_of(path), parts), tree)


def frozen_line(freeze: str, params: Any) -> str | None:
  """How many parameters stand still, in a line to be shown; None where no part is named."""
  if not split_parts(freeze):
    return None
  held = jax.tree.leaves(jax.tree.map(lambda still, leaf: leaf.size * still, frozen(freeze, params), params))
  total = sum(leaf.size for leaf in jax.tree.leaves(params))
  return f"{sum(held):,} of {total:,} parameters are frozen (optimizer.freeze: {freeze})"


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
  known = list(dict.fromkeys(beginning for path in paths for beginning in _beginnings(path)))
  parts = split_parts(freeze)
  for part in parts:
    if not any(fnmatchcase(each, part) for each in known):
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
