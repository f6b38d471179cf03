"""The state divided over the axis "fsdp": the same numbers in less room."""

import dataclasses
import math
import re

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from convattn.training import ImageClassification, build, make_mesh, sha256, sharding
from convattn.training.checkpoints import Checkpoints
from convattn.training.feeding import local_rows, put_rows
from convattn.training.program import make_model, run_keys
from convattn.training.sharding import gather, put_batch, split_spec, state_shardings
from convattn.training.task import ALL_ROWS, Ranking


@pytest.fixture
def tiny_leaves(monkeypatch):
  """Arrays of a toy are divided too."""
  monkeypatch.setattr(sharding, "SMALLEST_SPLIT", 16)


def experiment_of(toy, fsdp, **fields):
  # Adam makes a full step of the rounding that stands where a gradient is 0, unless epsilon is larger.
  optimizer = dataclasses.replace(toy.EXPERIMENT.optimizer, epsilon=0.01)
  compute = dataclasses.replace(toy.EXPERIMENT.compute, fsdp=fsdp)
  return dataclasses.replace(toy.EXPERIMENT, optimizer=optimizer, compute=compute, **fields)


def program_of(toy, fsdp, devices=4, **fields):
  experiment = experiment_of(toy, fsdp, **fields)
  task = ImageClassification(toy.dataset(), experiment)
  return build(experiment, toy.coatnet(), task, make_mesh(jax.devices()[:devices], fsdp)), task


def trained(program, task, steps=4):
  init_key, train_key = run_keys(0)
  state = program.init(init_key)
  assert_placed(program, state)
  for step in range(steps):
    state = program.train_step(state, put_batch(task.train_rows(step, ALL_ROWS), program.mesh), train_key)
  return state


def assert_placed(program, state):
  assert jax.tree.map(lambda leaf: leaf.sharding, state) == jax.tree.map(lambda leaf: leaf.sharding, program.template)


def assert_equal_states(one, other):
  def check(path, ours, theirs):
    np.testing.assert_allclose(gather(ours), gather(theirs), 1e-5, 1e-5, err_msg=jax.tree_util.keystr(path))

  for part in ("params", "model_state", "ema", "window", "nonfinite"):
    jax.tree.map_with_path(check, getattr(one, part), getattr(other, part))


@pytest.mark.parametrize(
  "shape, fsdp, axes",
  [
    ((64, 128), 4, (None, "fsdp")),
    ((128, 128), 4, ("fsdp",)),  # of equals the first
    ((3, 3, 30, 64), 5, (None, None, "fsdp")),  # the largest that 5 divides
    ((4096,), 8, ("fsdp",)),
    ((63, 65), 4, ()),  # too small
    ((65, 127), 4, ()),  # nothing that 4 divides
    ((4096, 4096), 1, ()),
    ((), 4, ()),
  ],
)
def test_the_largest_dimension_that_fits_is_divided(shape, fsdp, axes):
  assert split_spec(shape, fsdp) == PartitionSpec(*axes)


@pytest.fixture(scope="module")
def whole(toy):
  """The state that one copy on each device ends with."""
  return trained(*program_of(toy, 1))


@pytest.mark.slow  # of another model in test_program.py
def test_four_devices_equal_one(toy, whole):
  assert len(jax.tree.leaves(whole.params)[0].sharding.device_set) == 4
  assert_equal_states(trained(*program_of(toy, 1, devices=1)), whole)


@pytest.mark.parametrize("fsdp", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_divided_state_trains_as_a_whole_one(toy, tiny_leaves, whole, fsdp):
  program, task = program_of(toy, fsdp)
  divided = trained(program, task)
  for name in ("params", "opt_state", "ema"):
    held = [leaf.addressable_shards[0].data.size / leaf.size for leaf in jax.tree.leaves(getattr(divided, name))]
    assert min(held) == 1 / fsdp, name
  assert_placed(program, divided)
  assert_equal_states(divided, whole)
  # The averages are evaluated by the same program.
  for weights in ({"params": divided.params, "model_state": divided.model_state}, divided.ema):
    batch = put_batch(next(iter(task.evaluation_rows("test", ALL_ROWS))), program.mesh)
    assert np.isfinite(program.eval_step(weights["params"], weights["model_state"], batch)["loss"])


def test_the_compiler_collects_weights_and_sends_no_images(toy, tiny_leaves):
  augmentation = dataclasses.replace(toy.EXPERIMENT.augmentation, mixup_alpha=0.0)  # which does
  program, task = program_of(toy, 4, batch_size=32, augmentation=augmentation)
  batch = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in task.train_rows(0, ALL_ROWS).items()}
  key = jax.eval_shape(lambda: jax.random.key(0))
  text = program.train_step.lower(program.template, batch, key).compile().as_text()
  gathered = {tuple(map(int, sizes.split(","))) for sizes in re.findall(r"= f32\[([\d,]+)\]\S* all-gather\(", text)}
  shapes = {leaf.shape for leaf in jax.tree.leaves(program.template.params)}
  assert gathered
  assert {tuple(sorted(size for size in shape if size > 1)) for shape in gathered} <= {
    tuple(sorted(size for size in shape if size > 1)) for shape in shapes
  }


def test_bytes_on_each_device_fall_with_the_number_of_devices(toy):
  experiment = experiment_of(toy, 4, model=dataclasses.replace(toy.EXPERIMENT.model, name="coatnet_mini_32"))
  task = ImageClassification(toy.dataset(), experiment)
  # That states are placed as the template says is seen in `trained`.
  leaves = jax.tree.leaves(build(experiment, make_model(experiment, 3), task, make_mesh(fsdp=4)).template)
  whole = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
  small = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves if leaf.sharding.is_fully_replicated)
  assert all(leaf.sharding.device_set == set(jax.devices()) for leaf in leaves)
  held = sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)
  assert held == (whole - small) // 4 + small
  assert small < 0.02 * whole  # arrays of fewer than 4,096 numbers
  assert held < 0.265 * whole


@pytest.fixture(scope="module")
def largest():
  """Shapes of the largest model's parameters."""
  import convattn

  images = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
  model = convattn.create_model("coatnet_7", num_classes=21841)
  return jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)["params"]


@pytest.mark.parametrize("fsdp, least", [(8, 7.97), (64, 58.6), (256, 182)])
def test_the_largest_model_by_its_shard_shapes(largest, fsdp, least):
  params = largest
  places = state_shardings(params, AbstractMesh((1, fsdp), sharding.AXES))
  pairs = list(zip(jax.tree.leaves(params), jax.tree.leaves(places), strict=True))
  whole, held = (
    sum(leaf.size for leaf, _ in pairs),
    sum(np.prod(place.shard_shape(leaf.shape)) for leaf, place in pairs),
  )
  assert whole > 2.4e9
  assert least < whole / held < fsdp


@pytest.mark.slow
def test_a_checkpoint_is_restored_on_other_devices_and_axes(toy, tiny_leaves, tmp_path):
  program, task = program_of(toy, 4)
  state = trained(program, task, steps=2)
  with Checkpoints(tmp_path, toy.EXPERIMENT.checkpoint, Ranking("validation/accuracy")) as checkpoints:
    checkpoints.save(2, state, {}, {})
    checkpoints.wait()
    for fsdp, devices in ((1, 2), (2, 4), (1, 1)):
      other, _ = program_of(toy, fsdp, devices)
      restored = checkpoints.restore(other.template)
      assert sha256(restored) == sha256(state)
      assert len(restored.params["stem"]["conv_1"]["kernel"].sharding.device_set) == devices
      leaves = jax.tree.leaves(restored.params)
      assert any(not leaf.sharding.is_fully_replicated for leaf in leaves) == (fsdp > 1)


def test_devices_that_cannot_be_grouped_are_refused_with_what_divides_them():
  with pytest.raises(ValueError, match=r"^compute\.fsdp must divide the 4 devices, got 3; try one of 1, 2, 4\.$"):
    make_mesh(fsdp=3)
  assert make_mesh(jax.devices()[:2], 2).shape == {"data": 1, "fsdp": 2}


@pytest.mark.parametrize("fsdp", [1, 2, 4])
def test_rows_put_by_their_process_are_those_of_the_whole_batch(fsdp):
  mesh = make_mesh(fsdp=fsdp)
  batch = {"image": np.arange(48).reshape(8, 6), "label": np.arange(8)}
  assert local_rows(mesh, 8) == slice(0, 8)  # one process has them all
  rows, whole = put_rows(batch, mesh, 8), put_batch(batch, mesh)
  for name in batch:
    assert rows[name].sharding == whole[name].sharding
    for one, other in zip(rows[name].addressable_shards, whole[name].addressable_shards, strict=True):
      assert one.data.shape[0] == 2
      np.testing.assert_array_equal(one.data, other.data)
  with pytest.raises(ValueError, match="'label' must have the 8 rows from 0 to 8, got 7"):
    put_rows({"label": np.arange(7)}, mesh, 8)
