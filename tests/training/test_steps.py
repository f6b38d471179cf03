import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from convattn.training import ImageClassification
from convattn.training.optimizer import learning_rate_schedule, make_optimizer
from convattn.training.state import sha256
from convattn.training.steps import make_eval_step, make_init, make_train_step, window_means


def _trained(toy, experiment, steps, model=None, seed=3):
  """States after 0, 1, .. `steps` updates, from unjitted-by-us pure steps."""
  task, model = ImageClassification(toy.dataset(), experiment), model or toy.Toy()
  optimizer = make_optimizer(experiment.optimizer, experiment.num_steps)
  schedule = learning_rate_schedule(experiment.optimizer, experiment.num_steps)
  ema_decay = experiment.ema_decay
  step = jax.jit(make_train_step(model, task, optimizer, schedule, ema_decay=ema_decay, log_every=experiment.log_every))
  init_key, train_key = jax.random.split(jax.random.key(seed))
  states = [jax.jit(make_init(model, task, optimizer, ema_decay=ema_decay))(init_key)]
  for index in range(steps):
    states.append(step(states[-1], task.train_batch(index), train_key))
  return states


@pytest.fixture(scope="module")
def states(toy):
  return _trained(toy, toy.EXPERIMENT, 8)


def test_step_counts_updates_and_everything_moves(states):
  assert [int(state.step) for state in states] == list(range(9))
  for part in ("params", "model_state", "opt_state", "ema"):
    before, after = jax.tree.leaves(getattr(states[0], part)), jax.tree.leaves(getattr(states[8], part))
    assert all(not np.array_equal(a, b) for a, b in zip(before, after, strict=True)), part


def test_ema_covers_params_and_batch_statistics_and_equals_its_closed_form(toy, states):
  weights = toy.EXPERIMENT.ema_decay ** np.arange(7, -1, -1)
  for part in ("params", "model_state"):
    seen = [jax.tree.leaves(getattr(state, part)) for state in states[1:]]
    averages = jax.tree.leaves(states[8].ema[part])
    for index, average in enumerate(averages):
      stacked = np.stack([np.asarray(leaves[index], np.float64) for leaves in seen])
      np.testing.assert_allclose(average, np.tensordot(weights, stacked, 1) / weights.sum(), rtol=1e-4, atol=1e-6)


def test_window_holds_the_steps_since_the_last_multiple_of_log_every(toy, states):
  # log_every is 5: after step 5 the window is full, and step 6 starts a new one.
  assert [float(state.window["steps"]) for state in states] == [0, 1, 2, 3, 4, 5, 1, 2, 3]
  schedule = learning_rate_schedule(toy.EXPERIMENT.optimizer, toy.EXPERIMENT.num_steps)
  for last, steps in ((5, range(5)), (8, range(5, 8))):
    means = window_means(states[last].window)
    assert means["train/learning_rate"] == pytest.approx(np.mean([schedule(step) for step in steps]), rel=1e-5)
  assert set(window_means(states[8].window)) == {
    "train/loss", "train/accuracy", "train/learning_rate", "train/gradient_norm"
  }  # fmt: skip


def test_a_step_is_a_function_of_state_batch_and_key(toy, states):
  again = _trained(toy, toy.EXPERIMENT, 2)
  assert sha256(again[2]) == sha256(states[2])
  assert sha256(_trained(toy, toy.EXPERIMENT, 2, seed=4)[2]) != sha256(states[2])


def test_dropout_and_augmentation_differ_from_step_to_step(toy, states):
  task = ImageClassification(toy.dataset(), toy.EXPERIMENT)
  optimizer = make_optimizer(toy.EXPERIMENT.optimizer, toy.EXPERIMENT.num_steps)
  step = make_train_step(toy.Toy(), task, optimizer, lambda step: 0.0, ema_decay=0.0, log_every=1)
  batch, key = task.train_batch(0), jax.random.key(0)
  losses = [float(jax.jit(step)(states[3].replace(step=jnp.int32(at)), batch, key).window["loss"]) for at in (0, 1, 1)]
  assert losses[0] != losses[1] == losses[2]


class Stateless(nn.Module):
  """No BatchNorm, no dropout: one dense layer."""

  @nn.compact
  def __call__(self, x, *, train):
    x = x.reshape(len(x), -1)
    self.sow("intermediates", "seen", x)
    return nn.Dense(3, name="head")(x)


def test_one_step_of_a_stateless_model_is_optax_on_the_mean_loss(toy):
  experiment = dataclasses.replace(toy.EXPERIMENT, ema_decay=0.0)
  before, after = _trained(toy, experiment, 1, model=Stateless())
  assert before.model_state == after.model_state == {}
  assert after.ema == {}
  task = ImageClassification(toy.dataset(), experiment)
  _, train_key = jax.random.split(jax.random.key(3))
  _, augmentation_key = jax.random.split(jax.random.fold_in(train_key, 0))
  images, targets = task.prepare_train(augmentation_key, task.train_batch(0))

  def loss(params):
    logits = images.reshape(8, -1) @ params["head"]["kernel"] + params["head"]["bias"][None]
    return -(targets * jax.nn.log_softmax(logits)).sum(-1).mean()

  value, gradients = jax.value_and_grad(loss)(before.params)
  optimizer = make_optimizer(experiment.optimizer, experiment.num_steps)
  updates, _ = optimizer.update(gradients, before.opt_state, before.params)
  expected = optax.apply_updates(before.params, updates)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.params, expected)
  assert float(after.window["loss"]) == pytest.approx(float(value), rel=1e-5)
  assert float(after.window["gradient_norm"]) == pytest.approx(float(optax.tree.norm(gradients)), rel=1e-5)


class Counter(nn.Module):
  """Carries a collection that is not batch_stats, with an integer in it."""

  @nn.compact
  def __call__(self, x, *, train):
    calls = self.variable("calls", "number", lambda: jnp.zeros((), jnp.int32))
    if train:
      calls.value = calls.value + 1
    return nn.Dense(3, name="head")(x.mean((1, 2)))


def test_any_collection_of_the_model_is_carried(toy):
  states = _trained(toy, toy.EXPERIMENT, 3, model=Counter())
  assert [int(state.model_state["calls"]["number"]) for state in states] == [0, 1, 2, 3]
  assert int(states[3].ema["model_state"]["calls"]["number"]) == 3


def test_evaluation_uses_running_statistics_and_nothing_random(toy, states):
  task, model = ImageClassification(toy.dataset(), toy.EXPERIMENT), toy.Toy(dropout=0.9)
  step = jax.jit(make_eval_step(model, task))
  batch = next(task.evaluation_batches("test"))
  sums = step(states[8].params, states[8].model_state, batch)
  logits = model.apply({"params": states[8].params, **states[8].model_state}, task.prepare_eval(batch)[0], train=False)
  assert sums["accuracy"] == (np.asarray(logits).argmax(-1) == batch["label"]).sum()
  assert step(states[8].params, states[0].model_state, batch)["loss"] != sums["loss"]
