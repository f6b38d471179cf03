import dataclasses
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.training import ImageClassification, build, lowerings, make_mesh
from convattn.training.config import Compute, Experiment, Model
from convattn.training.evaluation import evaluate
from convattn.training.program import make_model, run_keys
from convattn.training.sharding import put_batch
from convattn.training.task import ALL_ROWS


def _program(toy, devices, experiment=None, model=None):
  experiment = experiment or toy.EXPERIMENT
  task = ImageClassification(toy.dataset(), experiment)
  return toy.shared_build(experiment, model or toy.Toy(), task, make_mesh(jax.devices()[:devices])), task


def _train(program, task, steps=5):
  init_key, train_key = run_keys(0)
  state = program.init(init_key)
  for step in range(steps):
    state = program.train_step(state, put_batch(task.train_rows(step, ALL_ROWS), program.mesh), train_key)
  return state


def _steady(toy):
  # Adam makes a full step of the rounding that stands where a gradient is 0, unless epsilon is larger.
  optimizer = dataclasses.replace(toy.EXPERIMENT.optimizer, epsilon=0.01)
  return dataclasses.replace(toy.EXPERIMENT, optimizer=optimizer)


def test_four_devices_equal_one(toy):
  """Of a CoAtNet in test_sharding.py."""
  assert jax.device_count() >= 4, "set XLA_FLAGS=--xla_force_host_platform_device_count=4"
  states = [_train(*_program(toy, devices, _steady(toy))) for devices in (1, 4)]
  assert len(jax.tree.leaves(states[1].params)[0].sharding.device_set) == 4
  for part in ("params", "model_state", "ema", "window"):
    jax.tree.map_with_path(
      lambda path, one, four: np.testing.assert_allclose(one, four, 2e-5, 1e-5, err_msg=jax.tree_util.keystr(path)),
      getattr(states[0], part),
      getattr(states[1], part),
    )


def test_each_device_gets_its_own_rows(toy):
  batch = {"label": np.arange(8)}
  placed = put_batch(batch, make_mesh(jax.devices()[:4]))["label"]
  assert [shard.data.tolist() for shard in placed.addressable_shards] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_the_state_that_goes_in_is_donated(toy):
  program, task = _program(toy, 4, _steady(toy))
  init_key, train_key = run_keys(0)
  state = program.init(init_key)
  program.train_step(state, put_batch(task.train_rows(0, ALL_ROWS), program.mesh), train_key)
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def test_padded_evaluation_equals_unpadded_and_counts_are_those_of_the_split(toy):
  results, state = [], _program(toy, 1)[0].init(run_keys(0)[0])
  for size in (1, 4, 11, 13, 50):
    experiment = dataclasses.replace(toy.EXPERIMENT, eval_batch_size=size)
    program, task = _program(toy, 1, experiment)
    results.append({split: evaluate(program, task, state.params, state.model_state, split)
                    for split in task.evaluation_splits})  # fmt: skip
  for result in results:
    for split, size in (("validation", 11), ("test", 13)):
      numbers, arrays = result[split]
      assert numbers["count"] == size
      assert numbers["accuracy"] == results[0][split][0]["accuracy"]
      assert numbers["loss"] == pytest.approx(results[0][split][0]["loss"], rel=1e-6)
      np.testing.assert_array_equal(arrays["confusion"], results[0][split][1]["confusion"])
      assert arrays["confusion"].sum() == size


def test_an_empty_split_is_refused(toy):
  experiment = toy.EXPERIMENT
  task = ImageClassification(toy.dataset(validation=0), experiment)
  program = build(experiment, toy.Toy(), task, make_mesh(jax.devices()[:1]))
  with pytest.raises(ValueError, match="split 'validation' has no examples"):
    evaluate(program, task, {}, {}, "validation")


def test_a_split_of_padding_alone_is_refused(toy):
  program, task = _program(toy, 1)
  state = program.init(run_keys(0)[0])
  batches = [{**batch, "mask": 0 * batch["mask"]} for batch in task.evaluation_rows("test", ALL_ROWS)]
  masked = SimpleNamespace(
    evaluation_rows=lambda split, rows: batches, metric_names=task.metric_names, evaluation_batch_size=4
  )
  with pytest.raises(ValueError, match="masks of split 'test' are all 0"):
    evaluate(program, masked, state.params, state.model_state, "test")


def _scatters(texts):
  return {key: "scatter" in text for key, text in texts.items()}  # select_and_scatter too


def test_both_steps_lower_for_every_platform_without_scatter(toy):
  program, task = _program(toy, 4)
  texts = lowerings(program, task)
  assert set(texts) == {(step, platform) for step in ("train", "eval") for platform in ("cpu", "cuda", "tpu")}
  assert not any(_scatters(texts).values())


def test_a_task_without_evaluation_splits_lowers_its_training_step(toy):
  program, task = _program(toy, 1)
  texts = lowerings(program, dataclasses.replace(task, evaluation_splits=()), ("cpu",))
  assert list(texts) == [("train", "cpu")]


class Pooled(nn.Module):
  @nn.compact
  def __call__(self, x, *, train):
    x = nn.Conv(3, (3, 3), name="conv")(x)
    return nn.Dense(3, name="head")(nn.max_pool(x, (2, 2), (2, 2)).mean((1, 2)))


def test_the_scatter_law_sees_a_pooling_gradient(toy):
  program, task = _program(toy, 1, model=Pooled())
  assert _scatters(lowerings(program, task, ("cpu",))) == {("train", "cpu"): True, ("eval", "cpu"): False}


@pytest.mark.parametrize("precision, word", [("default", None), ("high", "HIGH"), ("highest", "HIGHEST")])
def test_precision_reaches_the_products_and_not_the_global_setting(toy, precision, word):
  experiment = dataclasses.replace(toy.EXPERIMENT, compute=Compute(matmul_precision=precision))
  before = jax.config.jax_default_matmul_precision
  program, task = _program(toy, 1, experiment)
  text = lowerings(program, task, ("cuda",))["train", "cuda"]
  convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
  assert convolutions
  for line in convolutions:
    assert (f"precision {word}>" in line or f"precision_config = [#stablehlo<precision {word}>" in line) or (
      word is None and "HIGH" not in line
    )
  assert jax.config.jax_default_matmul_precision == before


def test_the_model_is_made_of_the_experiments_choices():
  experiment = Experiment(
    model=Model(name="coatnet_mini_8", stochastic_depth=0.25, head="plain"),
    compute=Compute(dtype="bfloat16", remat="block"),
  )
  model = make_model(experiment, num_classes=7)
  plain = make_model(Experiment(), num_classes=7)
  assert (model.num_classes, jnp.dtype(model.dtype), model.remat) == (7, jnp.bfloat16, "block")
  assert (model.spec.stochastic_depth, model.spec.head) == (0.25, "plain")
  assert (jnp.dtype(plain.dtype), plain.remat) == (jnp.float32, "none")
  assert plain.spec.head != "plain"


def test_seeds_draw_different_states(toy):
  program, _ = _program(toy, 1)
  first, again, other = (program.init(run_keys(seed)[0]).params["head"]["kernel"] for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert not np.array_equal(first, other)
