"""AdamW as an optax chain: which parameters decay, and what the learning rate is at each step."""

from typing import Any

import jax
import optax

from convattn.training.config import Optimizer


def learning_rate_schedule(settings: Optimizer, num_steps: int) -> optax.Schedule:
  """The learning rate as a function of the updates applied so far.

  It rises linearly from 0 at step 0 to the peak at step `warmup_steps` (with 0 it starts there), then runs to the end
  value at step `num_steps` along half a cosine or a line, or stays at the peak ('constant').
  """
  peak, end, rest = settings.peak_learning_rate, settings.end_learning_rate, num_steps - settings.warmup_steps
  match settings.schedule:
    case "cosine":
      body = optax.cosine_decay_schedule(peak, rest, alpha=end / peak)
    case "linear":
      body = optax.linear_schedule(peak, end, rest)
    case "constant":
      body = optax.constant_schedule(peak)
    case unknown:
      raise ValueError(f"optimizer.schedule must be 'cosine', 'linear' or 'constant', got {unknown!r}.")
  if not settings.warmup_steps:
    return body
  return optax.join_schedules([optax.linear_schedule(0.0, peak, settings.warmup_steps), body], [settings.warmup_steps])


def decay_mask(params: Any) -> Any:
  """True for each parameter that weight decay acts on: a `kernel` of rank 2 or more (dense, convolution, depthwise).

  All else is exempt: biases, scales of norms, bias tables of relative attention, and parameters of other names.
  """

  def decays(path: jax.tree_util.KeyPath, leaf: Any) -> bool:
    return jax.tree_util.keystr(path[-1:], simple=True) == "kernel" and leaf.ndim >= 2

  return jax.tree_util.tree_map_with_path(decays, params)


def make_optimizer(settings: Optimizer, num_steps: int) -> optax.GradientTransformation:
  """Clipping by global norm (not with `clip_norm` 0), then AdamW with `decay_mask`.

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
  return optax.chain(optax.clip_by_global_norm(settings.clip_norm), adamw) if settings.clip_norm else adamw
