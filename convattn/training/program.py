"""The steps of an experiment, jitted over a mesh, and their lowered text for any platform."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from convattn.models import create_model
from convattn.training import sharding
from convattn.training.config import Experiment
from convattn.training.optimizer import check_optimizer, learning_rate_schedule, make_optimizer
from convattn.training.state import TrainState
from convattn.training.steps import make_eval_step, make_init, make_train_step
from convattn.training.task import ALL_ROWS, Task


@dataclasses.dataclass(frozen=True)
class Program:
  """Jitted functions; none has run or been compiled yet.

  Attributes:
    mesh: the devices, along the axes "data" and "fsdp".
    init: (key) -> TrainState, placed as in `template`; (key, variables) starts from those instead of drawn ones.
    train_step: (state, batch, key) -> state. The state that goes in is donated: it must not be used again.
    eval_step: (params, model_state, batch with "mask") -> metric sums.
    template: the state's shapes, dtypes and shardings.
    micro_batches: the equal parts that a batch to train on is cut into.
  """

  mesh: Mesh
  init: Any
  train_step: Any
  eval_step: Any
  template: TrainState
  micro_batches: int = 1


def make_model(experiment: Experiment, num_classes: int) -> nn.Module:
  """The experiment's model by name, with its overrides, dtype and rematerialisation."""
  return create_model(
    experiment.model.name,
    num_classes=num_classes,
    dtype=jnp.dtype(experiment.compute.dtype),
    remat=experiment.compute.remat,
    **experiment.model.overrides,
  )


def run_keys(seed: int) -> tuple[jax.Array, jax.Array]:
  """(key for the initial parameters, key of the training steps)."""
  init_key, train_key = jax.random.split(jax.random.key(seed))
  return init_key, train_key


def build(experiment: Experiment, model: nn.Module, task: Task, mesh: Mesh) -> Program:
  """Jits the steps of `experiment` over `mesh`: one global batch, split over both axes; the state over "fsdp".

  The matmul precision is fixed while the functions are traced and leaves JAX's global setting alone.

  Raises:
    UserError: the optimizer's settings name parts that the model does not have.
  """
  optimizer = make_optimizer(experiment.optimizer, experiment.num_steps)
  train_step = make_train_step(
    model,
    task,
    optimizer,
    learning_rate_schedule(experiment.optimizer, experiment.num_steps),
    ema_decay=experiment.ema_decay,
    ema_warmup=experiment.ema_warmup,
    log_every=experiment.log_every,
    freeze=experiment.optimizer.freeze,
    micro_batches=experiment.micro_batches,
    skip_nonfinite=experiment.max_skipped_steps > 0,
  )
  precise = functools.partial(_traced_under, experiment.compute.matmul_precision, mesh)
  whole, rows = sharding.replicated(mesh), sharding.by_batch(mesh)
  init = precise(make_init(model, task, optimizer, ema_decay=experiment.ema_decay, freeze=experiment.optimizer.freeze))
  shapes = jax.eval_shape(init, run_keys(experiment.seed)[0])
  check_optimizer(experiment.optimizer, shapes.params)
  placed = sharding.state_shardings(shapes, mesh)
  return Program(
    mesh=mesh,
    init=jax.jit(init, in_shardings=whole, out_shardings=placed),
    train_step=jax.jit(
      precise(train_step),
      in_shardings=(placed, rows, whole),
      out_shardings=placed,
      # To find the operation JAX computes the step a second time, from the same arrays.
      donate_argnums=() if experiment.compute.debug_nans else 0,
    ),
    eval_step=jax.jit(
      precise(make_eval_step(model, task)),
      in_shardings=(placed.params, placed.model_state, rows),
      out_shardings=whole,
    ),
    template=jax.tree.map(
      lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), shapes, placed
    ),
    micro_batches=experiment.micro_batches,
  )


def _traced_under(precision: str, mesh: Mesh, function: Callable[..., Any]) -> Callable[..., Any]:
  @functools.wraps(function)
  def traced(*args: Any) -> Any:
    with jax.default_matmul_precision(precision), nn.intercept_methods(sharding.keep_rows(mesh)):
      return function(*args)

  return traced


def lowerings(
  program: Program, task: Task, platforms: Sequence[str] = ("cpu", "cuda", "tpu")
) -> dict[tuple[str, str], str]:
  """StableHLO text of both steps for each platform, keyed ("train" or "eval", platform). Needs no such device.

  Without evaluation splits the task has no batch for "eval", and there is none.
  """
  key = jax.eval_shape(lambda: jax.random.key(0))
  state = program.template
  traced = {"train": program.train_step.trace(state, _shapes(task.train_rows(0, ALL_ROWS)), key)}
  for split in task.evaluation_splits[:1]:
    batch = _shapes(next(iter(task.evaluation_rows(split, ALL_ROWS))))
    traced["eval"] = program.eval_step.trace(state.params, state.model_state, batch)
  return {
    (name, platform): step.lower(lowering_platforms=(platform,)).as_text()
    for name, step in traced.items()
    for platform in platforms
  }


def _shapes(batch: dict[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
  return {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in batch.items()}
