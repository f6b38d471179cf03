"""Parts of a parameter tree by path: which of them stand still, and how far each lies from the classifier."""

import difflib
import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from convattn.training.validation import SettingsError

_EVALUATING = {"train": False, "use_running_average": True, "deterministic": True}
"""What a linen module is told, by argument, to compute as at evaluation."""


def split_parts(freeze: str) -> tuple[tuple[str, ...], ...]:
  """The paths in a text such as "stem, stage_2/block_0": (("stem",), ("stage_2", "block_0"))."""
  texts = (text.strip().strip("/") for text in freeze.split(","))
  return tuple(tuple(text.split("/")) for text in texts if text)


def _names(path: jax.tree_util.KeyPath) -> tuple[str, ...]:
  return tuple(jax.tree_util.keystr((key,), simple=True) for key in path)


def _inside(names: tuple[str, ...], parts: tuple[tuple[str, ...], ...]) -> bool:
  return any(names[: len(part)] == part for part in parts)


def frozen(freeze: str, tree: Any) -> Any:
  """True for each leaf of `tree` whose path begins with one of the parts of `freeze`, name by name."""
  parts = split_parts(freeze)
  return jax.tree_util.tree_map_with_path(lambda path, _: _inside(_names(path), parts), tree)


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
    SettingsError: a part that no parameter lies in, with the nearest that exist; or parts that cover everything.
  """
  paths = [_names(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
  known = list(dict.fromkeys("/".join(path[:length]) for path in paths for length in range(1, len(path) + 1)))
  parts = split_parts(freeze)
  for part in map("/".join, parts):
    if part not in known:
      near = difflib.get_close_matches(part, known, n=3) or list(dict.fromkeys(path[0] for path in paths))
      raise SettingsError(f"optimizer.freeze: the model has no part {part!r}; did you mean {', '.join(near)}?")
  if parts and all(_inside(path, parts) for path in paths):
    raise SettingsError(f"optimizer.freeze is {freeze!r}, which leaves nothing to train; name fewer parts.")


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


def layer_depths(params: Any) -> Any:
  """The distance of each parameter from the classifier, counted in blocks.

  0: the classifier. 1, 2, ..: the blocks of all stages, from the last one backwards; all of a block, its norms,
  shortcut and bias table too. Then the stem. These are the groups of BEiT (Bao et al., "BEiT: BERT Pre-Training of
  Image Transformers", ICLR 2022), with our stem in the place of its embedding.

  Raises:
    SettingsError: a parameter that lies in none of stem, stage_N/block_M and classifier.
  """
  blocks = sorted({block for path, _ in jax.tree_util.tree_leaves_with_path(params) if (block := _block(_names(path)))})

  def depth(path: jax.tree_util.KeyPath, _: Any) -> int:
    names = _names(path)
    if names[0] == "classifier":
      return 0
    if names[0] == "stem":
      return len(blocks) + 1
    block = _block(names)
    if block is None:
      raise SettingsError(
        f"optimizer.layer_decay needs a model of parts stem, stage_N/block_M and classifier, got {'/'.join(names)!r}; "
        f"set it to 1.0."
      )
    return len(blocks) - blocks.index(block)

  return jax.tree_util.tree_map_with_path(depth, params)


def _block(names: tuple[str, ...]) -> tuple[int, int] | None:
  """(stage, block) of a path, which sort as numbers: block_10 comes after block_9."""
  match = re.match(r"stage_(\d+)/block_(\d+)(/|$)", "/".join(names))
  return (int(match[1]), int(match[2])) if match else None
