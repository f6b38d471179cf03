"""Gradients of a batch that passes through the model in parts."""

import dataclasses
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.models import CoAtNet, Run, Spec, Stage
from convattn.training import Experiment, ImageClassification, build, make_mesh
from convattn.training.settings import validate_batch_sizes
from convattn.training.sharding import by_batch, put_batch
from convattn.training.steps import make_gradients, split_rows
from convattn.training.task import ALL_ROWS
from convattn.training.task_checks import check_task, first_batches

SPEC = Spec((Stage((Run("C", 1, 8),), 2), Stage((Run("T", 1, 8),), 1)), (4, 4), stem_stride=1, head_size=4)
PLAIN = CoAtNet(dataclasses.replace(SPEC, conv_norm="layer"), num_classes=3)


def inputs_and_targets(rows, seed=0):
  draws = np.random.default_rng(seed)
  images = draws.normal(size=(rows, 5, 7, 2)).astype(np.float32)
  targets = draws.dirichlet((1, 1, 1), rows).astype(np.float32)
  return {"images": images, "targets": targets}


def gradients_of(toy, model, batch, parts, key=None, mesh=None, variables=None):
  """(Gradients, model_state) of the batch in `parts` parts, over `mesh`."""
  task = ImageClassification(toy.dataset(), toy.EXPERIMENT)
  mesh = make_mesh(jax.devices()[:1]) if mesh is None else mesh
  variables = model.init(jax.random.key(1), batch["images"][:1], train=False) if variables is None else variables
  state = {name: values for name, values in variables.items() if name != "params"}
  compute = jax.jit(make_gradients(model, task, micro_batches=parts))
  placed = put_batch(batch, mesh)
  key = jax.random.key(2) if key is None else key
  return compute(variables["params"], state, placed["images"], placed["targets"], key)


def assert_close(ours, theirs, tolerance):
  """Each leaf to `tolerance` of its norm; a little more for those that are 0 but for rounding, as of a key's bias."""

  def check(path, one, other):
    one, other = np.asarray(one), np.asarray(other)
    error, size = np.linalg.norm(one - other), np.linalg.norm(other)
    assert error <= tolerance * size + tolerance / 100, (jax.tree_util.keystr(path), error / size)

  jax.tree.map_with_path(check, ours, theirs)


@pytest.mark.slow
def test_parts_equal_the_whole_where_examples_do_not_see_each_other(toy):
  with jax.enable_x64(True):
    model = PLAIN.clone(dtype=jnp.float64, param_dtype=jnp.float64)
    batch = jax.tree.map(lambda array: array.astype(np.float64), inputs_and_targets(24))
    whole, _ = gradients_of(toy, model, batch, 1)
    for devices in (1, 4):
      parts, _ = gradients_of(toy, model, batch, 3, mesh=make_mesh(jax.devices()[:devices]))
      assert_close(parts.gradients, whole.gradients, 1e-12)
      assert_close((parts.loss, parts.metrics), (whole.loss, whole.metrics), 1e-6)  # float32


def test_batch_norm_sees_one_part_at_a_time_in_order(toy):
  model, batch = toy.Toy(dropout=0.0), inputs_and_targets(12)
  variables = model.init(jax.random.key(1), batch["images"][:1], train=False)
  expected, state = [], variables
  for index in range(3):
    part = {name: array[index::3] for name, array in batch.items()}
    gradients, updated = gradients_of(toy, model, part, 1, variables=state)
    expected.append(gradients)
    state = {"params": variables["params"], **updated}
  gradients, updated = gradients_of(toy, model, batch, 3, variables=variables)
  assert_close(gradients, jax.tree.map(lambda *parts: sum(parts) / 3, *expected), 2e-6)
  assert_close(updated, {"batch_stats": state["batch_stats"]}, 2e-6)
  whole, other = gradients_of(toy, model, batch, 1, variables=variables)
  for one, two in ((gradients, whole), (updated, other)):  # and that is not the whole batch's
    with pytest.raises(AssertionError):
      assert_close(one, two, 1e-3)


class Draws(nn.Module):
  """Keeps what it drew in the last three calls, newest last."""

  @nn.compact
  def __call__(self, x, *, train):
    drawn = self.variable("draws", "last", lambda: jnp.zeros(3))
    if train:
      drawn.value = jnp.append(drawn.value[1:], jax.random.uniform(self.make_rng("dropout")))
    return nn.Dense(3, name="head")(x.mean((1, 2)))


def test_parts_draw_different_numbers_and_one_part_draws_from_the_key_itself(toy):
  batch = inputs_and_targets(6)
  drawn = {}
  for parts in (1, 3):
    _, state = gradients_of(toy, Draws(), batch, parts)
    drawn[parts] = np.asarray(state["draws"]["last"])
  assert len(set(drawn[3].tolist())) == 3
  assert drawn[1][2] not in drawn[3]
  for index in range(3):
    _, state = gradients_of(toy, Draws(), batch, 1, key=jax.random.fold_in(jax.random.key(2), index))
    assert float(state["draws"]["last"][2]) == drawn[3][index]


def test_each_row_is_in_one_part_and_a_device_keeps_its_rows():
  rows = jnp.arange(24, dtype=jnp.int32)
  assert sorted(np.ravel(split_rows(rows, 3)).tolist()) == list(range(24))
  mesh = make_mesh(jax.devices()[:4])
  placed = put_batch({"rows": np.arange(24)}, mesh)["rows"]
  before = {shard.device: set(np.asarray(shard.data).tolist()) for shard in placed.addressable_shards}
  after = jax.jit(lambda rows: split_rows(rows, 3))(placed)
  assert after.shape == (3, 8)
  for shard in after.addressable_shards:
    assert shard.data.shape == (3, 2)
    assert set(np.ravel(shard.data).tolist()) == before[shard.device]


def _compiled_step(toy, parts, **augmentation):
  changes = dataclasses.replace(toy.EXPERIMENT.augmentation, mixup_alpha=0.0, **augmentation)
  experiment = dataclasses.replace(toy.EXPERIMENT, batch_size=64, micro_batches=parts, augmentation=changes)
  task = ImageClassification(toy.dataset(train=70), experiment)
  program = build(experiment, toy.Toy(), task, make_mesh())
  batch = {
    name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=by_batch(program.mesh))
    for name, array in task.train_rows(0, ALL_ROWS).items()
  }
  return program.train_step.lower(program.template, batch, jax.eval_shape(lambda: jax.random.key(0))).compile()


def test_no_images_are_sent_and_only_one_part_is_kept(toy):
  whole, parts = _compiled_step(toy, 1), _compiled_step(toy, 8)
  for text in (whole.as_text(), parts.as_text()):
    assert "all-reduce(" in text  # gradients are
    assert not re.findall(r"= .*(all-gather|all-to-all|collective-permute)(?:-start)?\(", text)
  kept = [compiled.memory_analysis().temp_size_in_bytes for compiled in (whole, parts)]
  assert kept[1] < kept[0] / 3


@pytest.mark.parametrize(
  "sizes, message",
  [
    ((12, 8, 2), "batch_size must be a multiple of the 4 devices times 2 micro_batches, got 12; try 8 or 16."),
    ((7, 8, 2), "batch_size must be a multiple of the 4 devices times 2 micro_batches, got 7; try 8."),
    ((10, 8, 1), "batch_size must be a multiple of the 4 devices, got 10; try 8 or 12."),
    ((16, 6, 2), "eval_batch_size must be a multiple of the 4 devices, got 6; try 4 or 8."),
  ],
)
def test_a_batch_that_cannot_be_divided_is_refused_with_the_nearest_that_can(sizes, message):
  batch_size, eval_batch_size, parts = sizes
  experiment = Experiment(batch_size=batch_size, eval_batch_size=eval_batch_size, micro_batches=parts)
  with pytest.raises(ValueError) as raised:
    validate_batch_sizes(experiment, 4)
  assert str(raised.value) == message
  validate_batch_sizes(dataclasses.replace(experiment, batch_size=16, eval_batch_size=4), 4)


def test_a_task_of_ones_own_is_asked_for_batches_that_divide(toy):
  experiment = dataclasses.replace(toy.EXPERIMENT, batch_size=12, micro_batches=8)
  task = ImageClassification(toy.dataset(), experiment)
  program = build(experiment, toy.Toy(), task, make_mesh(jax.devices()[:1]))
  with pytest.raises(ValueError, match="12 rows, a multiple of the 1 devices times 8 micro_batches, got image: 12"):
    check_task(program, task, first_batches(task), 12)
