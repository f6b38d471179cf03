"""The programs that the benchmarks measure: a named model's inference and training step, as the commands run them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import convattn
from convattn import training
from convattn.analysis import costs
from convattn.inference.logits import in_groups
from convattn.training.config import Compute, Experiment, Optimizer
from convattn.training.program import run_keys
from convattn.training.task import ALL_ROWS

TASKS = ("infer", "train")


@dataclasses.dataclass(frozen=True)
class FixedImages:
  """One batch of random images and labels, again and again: nothing is decoded, drawn or augmented."""

  batch_size: int
  size: int
  num_classes: int = 1000
  metric_names: tuple[str, ...] = ("loss",)
  evaluation_batch_size: int = 1
  evaluation_splits: tuple[str, ...] = ()

  @property
  def metadata(self) -> dict[str, Any]:
    return {}

  @property
  def example_inputs(self) -> jax.Array:
    return jnp.zeros((1, self.size, self.size, 3), jnp.float32)

  def train_rows(self, step: int, rows: slice) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    images = generator.normal(size=(self.batch_size, self.size, self.size, 3)).astype(np.float32)
    return {"image": images, "label": generator.integers(self.num_classes, size=self.batch_size, dtype=np.int32)}

  def evaluation_rows(self, split: str, rows: slice) -> Iterator[dict[str, np.ndarray]]:
    raise KeyError(split)

  def prepare_train(self, key: jax.Array, batch: dict[str, Any]) -> tuple[Any, Any]:
    return batch["image"], batch["label"]

  def prepare_eval(self, batch: dict[str, Any]) -> tuple[Any, Any]:
    return batch["image"], batch["label"]

  def losses(self, outputs: Any, targets: Any) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(outputs, targets)

  def metric_sums(self, outputs: Any, targets: Any, mask: jax.Array) -> dict[str, jax.Array]:
    return {"loss": jnp.sum(self.losses(outputs, targets) * mask), "count": jnp.sum(mask)}


@dataclasses.dataclass
class Measured:
  """A compiled program and its arguments; `step` runs it once and waits for it."""

  compiled: jax.stages.Compiled
  advance: Callable[[], Any]
  multiply_adds: int
  """Of one call, by analysis.costs: forward, and twice that for the gradient of a training step."""

  def step(self) -> None:
    jax.block_until_ready(self.advance())


def lower(
  name: str, *, batch_size: int, task: str, size: int, dtype: str = "float32", remat: str = "none", seed: int = 0
) -> tuple[jax.stages.Lowered, Callable[[], Any], int]:
  """The program of one call, lowered; a function that makes its arguments; its multiply-adds.

  Training is the step of `training.build`: forward, gradient, AdamW, on one device. Stochastic depth is off, as in
  timm's models unless asked for.
  """
  model = convattn.create_model(name, dtype=jnp.dtype(dtype), remat=remat, stochastic_depth=0.0)
  multiply_adds = batch_size * sum(row.multiply_adds for row in costs(model, (size, size, 3)))
  images = FixedImages(batch_size, size)
  if task == "infer":
    forward = jax.jit(in_groups(lambda variables, x: model.apply(variables, x, train=False)))
    shapes = jax.eval_shape(lambda: dict(model.init(jax.random.key(seed), images.example_inputs, train=False)))

    def arguments() -> tuple[Any, ...]:
      drawn = jax.jit(lambda key: dict(model.init(key, images.example_inputs, train=False)))(jax.random.key(seed))
      return drawn, jnp.asarray(images.train_rows(0, ALL_ROWS)["image"])

    return (
      forward.lower(shapes, jax.ShapeDtypeStruct((batch_size, size, size, 3), jnp.float32)),
      arguments,
      multiply_adds,
    )
  experiment = Experiment(
    seed=seed,
    num_steps=10**6,
    batch_size=batch_size,
    log_every=10**6,
    optimizer=Optimizer(peak_learning_rate=1e-4, schedule="constant", clip_norm=0.0),
    compute=Compute(dtype=dtype, remat=remat),
  )
  program = training.build(experiment, model, images, training.make_mesh(jax.devices()[:1]))
  init_key, train_key = run_keys(seed)
  batch = images.train_rows(0, ALL_ROWS)
  shapes = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in batch.items()}
  lowered = program.train_step.lower(program.template, shapes, jax.eval_shape(lambda: train_key))
  return lowered, lambda: (program.init(init_key), jax.device_put(batch), train_key), 3 * multiply_adds


def measured(task: str, lowered: jax.stages.Lowered, arguments: Callable[[], Any], multiply_adds: int) -> Measured:
  """Compiles, makes the arguments and is ready to run."""
  compiled = lowered.compile()
  values = list(arguments())

  def advance() -> Any:
    result = compiled(*values)
    if task == "train":
      values[0] = result
    return result

  return Measured(compiled, advance, multiply_adds)
