"""The gradient of the mean loss over a batch, computed at once or part by part."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from convattn.training.parts import evaluate_frozen, hold_collections, without_gradient
from convattn.training.task import Task


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
