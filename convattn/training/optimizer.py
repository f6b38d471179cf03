"""AdamW as an optax chain: which parameters decay or stand still, and what the learning rate is at each step."""

import re
from collections.abc import Callable
from typing import Any

import jax
import optax

from convattn.errors import UserError
from convattn.training.config import Optimizer
from convattn.training.freezing import check_freeze, frozen, names_of, split_parts
from convattn.training.state import in_float32

SCHEDULES: dict[str, Callable[[float, float, int], optax.Schedule]] = {
  "cosine": lambda peak, end, steps: optax.cosine_decay_schedule(peak, steps, alpha=end / peak),
  "linear": optax.linear_schedule,
  "constant": lambda peak, end, steps: optax.constant_schedule(peak),
}
"""What each optimizer.schedule is after the warm-up: peak, end and the steps between them -> schedule."""


def learning_rate_schedule(settings: Optimizer, num_steps: int) -> optax.Schedule:
  """The learning rate as a function of the updates applied so far.

  It rises linearly from 0 at step 0 to the peak at step `warmup_steps` (with 0 it starts there), then runs to the end
  value at step `num_steps` along half a cosine or a line, or stays at the peak ('constant').
  """
  peak, end, rest = settings.peak_learning_rate, settings.end_learning_rate, num_steps - settings.warmup_steps
  body = SCHEDULES[settings.schedule](peak, end, rest)
  if not settings.warmup_steps:
    return body
  return optax.join_schedules([optax.linear_schedule(0.0, peak, settings.warmup_steps), body], [settings.warmup_steps])


def decay_mask(params: Any) -> Any:
  """True for each parameter that weight decay acts on: a `kernel` of rank 2 or more (dense, convolution, depthwise).

  All else is exempt: biases, scales of norms and layers, bias tables of relative attention, the network that makes
  such a table (`bias_mlp`), and parameters of other names.
  """

  def decays(path: jax.tree_util.KeyPath, leaf: Any) -> bool:
    names = names_of(path)
    return names[-1] == "kernel" and "bias_mlp" not in names and leaf.ndim >= 2

  return jax.tree_util.tree_map_with_path(decays, params)


def make_optimizer(settings: Optimizer, num_steps: int) -> optax.GradientTransformation:
  """Clipping by global norm (not with `clip_norm` 0), then AdamW with `decay_mask`.

  Parameters in the parts that `freeze` names get updates of 0, have no moments, and do not count in the norm. With
  `layer_decay` below 1 the updates, weight decay included, are multiplied by layer_decay ** `layer_depths`.

  Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
  """
  adamw = optax.adamw(
    learning_rate_schedule(settings, num_steps),
    b1=settings.beta1,
    b2=settings.beta2,
    eps=settings.epsilon,
    weight_decay=settings.weight_decay,
    mask=decay_mask,
  )
  optimizer = optax.chain(optax.clip_by_global_norm(settings.clip_norm), adamw) if settings.clip_norm else adamw
  optimizer = _of_float32(optimizer)
  if split_parts(settings.freeze):
    optimizer = optax.partition(
      {True: optax.set_to_zero(), False: optimizer}, lambda params: frozen(settings.freeze, params)
    )
  if settings.layer_decay < 1:  # outside the partition, where the depths are those of the whole tree
    optimizer = optax.chain(optimizer, _scale_by_depth(settings.layer_decay))
  return optimizer


def _of_float32(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
  """The same with moments and updates in float32 at least, whatever the dtype of the parameters."""

  def init(params: Any) -> optax.OptState:
    return optimizer.init(in_float32(params))

  def update(updates: Any, state: optax.OptState, params: Any = None) -> tuple[Any, optax.OptState]:
    return optimizer.update(in_float32(updates), state, in_float32(params))

  return optax.GradientTransformation(init, update)


def _scale_by_depth(layer_decay: float) -> optax.GradientTransformation:
  def scale(updates: Any, _: Any) -> Any:
    return jax.tree.map(lambda update, depth: update * layer_decay**depth, updates, layer_depths(updates))

  return optax.stateless(scale)


def layer_depths(params: Any) -> Any:
  """The distance of each parameter from the classifier, counted in blocks.

  0: the classifier. 1, 2, ..: the blocks of all stages, from the last one backwards; all of a block, its norms,
  shortcut and bias table too. Then the stem. These are the groups of BEiT (Bao et al., "BEiT: BERT Pre-Training of
  Image Transformers", ICLR 2022), with our stem in the place of its embedding.

  Raises:
    UserError: a parameter that lies in none of stem, stage_N/block_M and classifier.
  """
  blocks = sorted(
    {block for path, _ in jax.tree_util.tree_leaves_with_path(params) if (block := _block(names_of(path)))}
  )

  def depth(path: jax.tree_util.KeyPath, _: Any) -> int:
    names = names_of(path)
    if names[0] == "classifier":
      return 0
    if names[0] == "stem":
      return len(blocks) + 1
    block = _block(names)
    if block is None:
      raise UserError(
        f"optimizer.layer_decay needs a model of parts stem, stage_N/block_M and classifier, got {'/'.join(names)!r}; "
        f"set it to 1.0."
      )
    return len(blocks) - blocks.index(block)

  return jax.tree_util.tree_map_with_path(depth, params)


def _block(names: tuple[str, ...]) -> tuple[int, int] | None:
  """(stage, block) of a path, which sort as numbers: block_10 comes after block_9."""
  match = re.match(r"stage_(\d+)/block_(\d+)(/|$)", "/".join(names))
  return (int(match[1]), int(match[2])) if match else None


def check_optimizer(settings: Optimizer, params: Any) -> None:
  """What `freeze` and `layer_decay` ask of the tree of parameters (arrays or their shapes).

  Raises:
    UserError: see `freezing.check_freeze` and `layer_depths`.
  """
  check_freeze(settings.freeze, params)
  if settings.layer_decay < 1:
    layer_depths(params)
