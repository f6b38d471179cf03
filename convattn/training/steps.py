"""The training and evaluation steps as pure functions; `program.py` compiles them."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from convattn.training.freezing import evaluate_frozen, hold, hold_collections, without_gradient
from convattn.training.state import (
  TrainState,
  count_nonfinite,
  debiased_share,
  in_float32,
  no_nonfinite,
  update_average,
  warming_share,
)
from convattn.training.task import Batch, Task

WINDOW_NAMES = ("learning_rate", "gradient_norm", "update_norm", "parameter_norm", "steps")
"""What the window holds beside the task's metrics."""

# Collections that a model writes for whoever asks, and that no later step reads.
_UNKEPT = ("params", "intermediates", "perturbations")


def make_init(
  model: nn.Module, task: Task, optimizer: optax.GradientTransformation, *, ema_decay: float, freeze: str = ""
) -> Callable[[jax.Array], TrainState]:
  """A function of a PRNG key, and of variables that take the place of drawn ones, that makes the first state."""

  def init(key: jax.Array, variables: dict[str, Any] | None = None) -> TrainState:
    if variables is None:
      variables = dict(model.init(key, task.example_inputs, train=False))
    params = variables["params"]
    model_state = {name: values for name, values in variables.items() if name not in _UNKEPT}
    # Zeros, because the first update replaces them whatever they are (see update_average); not where nothing does.
    averaged = {"params": params, "model_state": model_state} if ema_decay else {}
    zeros = jax.tree.map(jnp.zeros_like, in_float32(averaged))
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      model_state=model_state,
      opt_state=optimizer.init(params),
      ema=_held_average(freeze, averaged, zeros),
      window={name: jnp.zeros((), jnp.float32) for name in (*task.metric_names, *WINDOW_NAMES)},
      nonfinite=no_nonfinite(),
    )

  return init


class Gradients(NamedTuple):
  """What one batch says about the parameters.

  Attributes:
    gradients: of the mean loss, shapes and dtypes of the parameters.
    loss: float32 [], the mean over the batch.
    metrics: float32 [] each, the task's metrics over the batch.
  """

  gradients: Any
  loss: jax.Array
  metrics: dict[str, jax.Array]


GradientFunction = Callable[[Any, dict[str, Any], Any, Any, jax.Array], tuple[Gradients, dict[str, Any]]]


def make_gradients(model: nn.Module, task: Task, *, freeze: str = "", micro_batches: int = 1) -> GradientFunction:
  """(params, model_state, inputs, targets, dropout key) -> (Gradients, model_state after the pass).

  With m = `micro_batches` above 1 the batch is cut into m parts of b / m rows (see `split_rows`), one after another in
  a `lax.scan`, so that only one part's activations are kept at a time:

      gradients = 1/m sum_k gradients_k,    loss = 1/m sum_k loss_k,

  which is the gradient of the mean loss over the batch wherever examples do not see each other. They do in BatchNorm:
  it normalises each part by that part's own statistics, and moves its running ones m times, in the order of the
  parts. Dropout draws from fold_in(key, k) in part k. Sums are formed in promote_types(dtype, float32).
  """

  def of_part(
    params: Any, model_state: dict[str, Any], inputs: Any, targets: Any, key: jax.Array
  ) -> tuple[Gradients, dict[str, Any]]:
    def objective(params: Any) -> tuple[jax.Array, tuple[Any, dict[str, Any]]]:
      with nn.intercept_methods(evaluate_frozen(freeze)):
        outputs, updated = model.apply(
          {"params": without_gradient(freeze, params), **model_state},
          inputs,
          train=True,
          mutable=list(model_state),
          rngs={"dropout": key},
        )
      return task.losses(outputs, targets).mean(), (outputs, dict(updated))

    (loss, (outputs, updated)), gradients = jax.value_and_grad(objective, has_aux=True)(params)
    held = {**model_state, **hold_collections(freeze, model_state, updated)}
    return Gradients(gradients, loss.astype(jnp.float32), _batch_means(task, outputs, targets)), held

  def of_batch(
    params: Any, model_state: dict[str, Any], inputs: Any, targets: Any, key: jax.Array
  ) -> tuple[Gradients, dict[str, Any]]:
    def add_part(carry: Any, part: Any) -> tuple[Any, None]:
      sums, model_state = carry
      index, (inputs, targets) = part
      values, model_state = of_part(params, model_state, inputs, targets, jax.random.fold_in(key, index))
      return (jax.tree.map(jnp.add, sums, values), model_state), None

    parts = jax.tree.map(lambda array: split_rows(array, micro_batches), (inputs, targets))
    numbers = jnp.arange(micro_batches, dtype=jnp.int32)
    (sums, model_state), _ = jax.lax.scan(add_part, (_zeros(task, params), model_state), (numbers, parts))
    means = jax.tree.map(lambda total: total / micro_batches, sums)
    gradients = jax.tree.map(lambda mean, like: mean.astype(like.dtype), means.gradients, params)
    return means._replace(gradients=gradients), model_state

  return of_part if micro_batches == 1 else of_batch


def split_rows(array: jax.Array, parts: int) -> jax.Array:
  """[b, ...] -> [parts, b / parts, ...]: part k has the rows k, k + parts, k + 2 parts, ..

  A device that holds a contiguous block of rows, `parts` dividing its size, holds an equal share of each part: nothing
  is sent.
  """
  return array.reshape(-1, parts, *array.shape[1:]).swapaxes(0, 1)


def _zeros(task: Task, params: Any) -> Gradients:
  gradients = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.promote_types(leaf.dtype, jnp.float32)), params)
  zero = jnp.zeros((), jnp.float32)
  return Gradients(gradients, zero, dict.fromkeys(task.metric_names, zero))


def _batch_means(task: Task, outputs: Any, targets: Any) -> dict[str, jax.Array]:
  size = jax.tree.leaves(targets)[0].shape[0]
  sums = task.metric_sums(outputs, targets, jnp.ones((size,), jnp.float32))
  return {name: (sums[name] / sums["count"]).astype(jnp.float32) for name in task.metric_names}


def make_train_step(
  model: nn.Module,
  task: Task,
  optimizer: optax.GradientTransformation,
  schedule: optax.Schedule,
  *,
  ema_decay: float,
  log_every: int,
  ema_warmup: bool = False,
  freeze: str = "",
  micro_batches: int = 1,
  skip_nonfinite: bool = False,
) -> Callable[[TrainState, Batch, jax.Array], TrainState]:
  """One update: (state, batch, key of the run) -> state.

  The gradient is that of the mean loss over the whole batch, which is augmented at once and then passes through the
  model in `micro_batches` parts (see `make_gradients`). Dropout and augmentation draw from
  fold_in(key, state.step). The window is emptied before each update whose number, from 0, `log_every` divides. The
  parts that `freeze` names compute as at evaluation; their parameters, statistics and averages are handed on as they
  are, and their gradients are neither computed nor part of "gradient_norm".

  Updates whose mean loss or gradient, or after which parameters or batch statistics, are not finite are counted in
  `nonfinite`. With `skip_nonfinite` they change nothing else but the step: learning rate, moments and averages go on
  with the updates that were applied, and the window sums over those.
  """
  compute_gradients = make_gradients(model, task, freeze=freeze, micro_batches=micro_batches)

  def train_step(state: TrainState, batch: Batch, key: jax.Array) -> TrainState:
    dropout_key, augmentation_key = jax.random.split(jax.random.fold_in(key, state.step))
    inputs, targets = task.prepare_train(augmentation_key, batch)

    (gradients, loss, metrics), model_state = compute_gradients(
      state.params, state.model_state, inputs, targets, dropout_key
    )
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = hold(freeze, state.params, optax.apply_updates(state.params, updates))
    applied = state.step - state.nonfinite["count"] if skip_nonfinite else state.step
    averaged = {"params": params, "model_state": model_state} if ema_decay else {}
    if ema_decay:
      share_of = warming_share if ema_warmup else debiased_share
      averaged = update_average(state.ema, averaged, share_of(ema_decay, applied + 1))
    numbers = {
      **metrics,
      "learning_rate": jnp.asarray(schedule(applied), jnp.float32),
      "gradient_norm": optax.tree.norm(gradients).astype(jnp.float32),
      "update_norm": optax.tree.norm(updates).astype(jnp.float32),
      "parameter_norm": optax.tree.norm(params).astype(jnp.float32),
      "steps": jnp.ones((), jnp.float32),
    }
    norms = [numbers[name] for name in ("gradient_norm", "update_norm", "parameter_norm")]
    statistics = jax.tree.leaves(model_state.get("batch_stats", {}))
    finite = jnp.isfinite(loss) & jnp.isfinite(jnp.stack([*norms, *map(jnp.sum, statistics)])).all()
    window = {name: jnp.where(state.step % log_every != 0, sums, 0) for name, sums in state.window.items()}
    updated_state = TrainState(
      step=state.step + 1,
      params=params,
      model_state=model_state,
      opt_state=opt_state,
      ema=_held_average(freeze, state.ema, averaged),
      window={name: sums + numbers[name] for name, sums in window.items()},
      nonfinite=count_nonfinite(state.nonfinite, finite=finite, number=state.step + 1),
    )
    if not skip_nonfinite:
      return updated_state
    skipped = dataclasses.replace(state, step=state.step + 1, window=window, nonfinite=updated_state.nonfinite)
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated_state, skipped)

  return train_step


def _held_average(freeze: str, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
  """The running average `new` ({} without one), but that of the frozen parts is `old`'s."""
  if not new:
    return {}
  return {
    "params": hold(freeze, old["params"], new["params"]),
    "model_state": hold_collections(freeze, old["model_state"], new["model_state"]),
  }


def training_numbers(state: TrainState, max_skipped_steps: int) -> dict[str, float]:
  """{"train/loss": ...}: the window's sums over its number of steps; nan where all of them were skipped.

  Where some may be skipped, "skipped_steps" is how many have been since the beginning.
  """
  window = jax.device_get(state.window)
  steps = float(window["steps"]) or math.nan
  numbers = {f"train/{name}": float(value) / steps for name, value in window.items() if name != "steps"}
  return numbers | ({"skipped_steps": int(state.nonfinite["count"])} if max_skipped_steps else {})


def make_eval_step(model: nn.Module, task: Task) -> Callable[[Any, dict[str, Any], Batch], dict[str, jax.Array]]:
  """(params, model_state, batch with "mask") -> the task's metric sums."""

  def eval_step(params: Any, model_state: dict[str, Any], batch: Batch) -> dict[str, jax.Array]:
    inputs, targets = task.prepare_eval(batch)
    outputs = model.apply({"params": params, **model_state}, inputs, train=False)
    return task.metric_sums(outputs, targets, batch["mask"])

  return eval_step
