import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from convattn.training import ImageClassification, build, make_mesh
from convattn.training.optimizer import learning_rate_schedule, make_optimizer
from convattn.training.sharding import put_batch
from convattn.training.state import no_nonfinite, sha256
from convattn.training.steps import make_eval_step, make_init, make_train_step, training_numbers
from convattn.training.task import ALL_ROWS


def _jitted(toy, experiment, model):
  """(task, init, step) of pure functions that were not jitted by us."""
  task = ImageClassification(toy.dataset(), experiment)
  optimizer = make_optimizer(experiment.optimizer, experiment.num_steps)
  schedule = learning_rate_schedule(experiment.optimizer, experiment.num_steps)
  ema_decay = experiment.ema_decay
  step = make_train_step(model, task, optimizer, schedule, ema_decay=ema_decay, log_every=experiment.log_every)
  return task, jax.jit(make_init(model, task, optimizer, ema_decay=ema_decay)), jax.jit(step)


def _trained(jitted, steps, seed=3):
  """States after 0, 1, .. `steps` updates."""
  task, init, step = jitted
  init_key, train_key = jax.random.split(jax.random.key(seed))
  states = [init(init_key)]
  for index in range(steps):
    states.append(step(states[-1], task.train_rows(index, ALL_ROWS), train_key))
  return states


@pytest.fixture(scope="module")
def states(toy):
  return _trained(_jitted(toy, toy.EXPERIMENT, toy.Toy()), 8)


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


def test_an_average_that_warms_up_equals_its_closed_form_in_the_step(toy):
  experiment = dataclasses.replace(toy.EXPERIMENT, ema_decay=0.3, ema_warmup=True)
  task = ImageClassification(toy.dataset(), experiment)
  program = build(experiment, toy.Toy(), task, make_mesh(jax.devices()[:1]))
  state, key = program.init(jax.random.key(3)), jax.random.key(4)
  assert jax.tree.structure(state) == jax.tree.structure(build(toy.EXPERIMENT, toy.Toy(), task, program.mesh).template)
  expected = None
  for index, decay in enumerate([0, 1 / 10, 2 / 11, 3 / 12, 0.3, 0.3]):
    state = program.train_step(state, put_batch(task.train_rows(index, ALL_ROWS), program.mesh), key)
    newest = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (state.params, state.model_state))
    held = newest if expected is None else expected
    expected = jax.tree.map(lambda old, new, decay=decay: decay * old + (1 - decay) * new, held, newest)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # noqa: E731
  jax.tree.map(close, (state.ema["params"], state.ema["model_state"]), expected)


def test_window_holds_the_steps_since_the_last_multiple_of_log_every(toy, states):
  # log_every is 5: after step 5 the window is full, and step 6 starts a new one.
  assert [float(state.window["steps"]) for state in states] == [0, 1, 2, 3, 4, 5, 1, 2, 3]
  schedule = learning_rate_schedule(toy.EXPERIMENT.optimizer, toy.EXPERIMENT.num_steps)
  for last, steps in ((5, range(5)), (8, range(5, 8))):
    means = training_numbers(states[last], 0)
    assert means["train/learning_rate"] == pytest.approx(np.mean([schedule(step) for step in steps]), rel=1e-5)
  assert set(training_numbers(states[8], 0)) == {
    "train/loss", "train/accuracy", "train/learning_rate",
    "train/gradient_norm", "train/update_norm", "train/parameter_norm",
  }  # fmt: skip


def test_a_step_is_a_function_of_state_batch_and_key(toy, states):
  anew = _jitted(toy, toy.EXPERIMENT, toy.Toy())
  assert sha256(_trained(anew, 2)[2]) == sha256(states[2])
  assert sha256(_trained(anew, 2, seed=4)[2]) != sha256(states[2])


def test_dropout_and_augmentation_differ_from_step_to_step(toy, states):
  task = ImageClassification(toy.dataset(), toy.EXPERIMENT)
  optimizer = make_optimizer(toy.EXPERIMENT.optimizer, toy.EXPERIMENT.num_steps)
  step = make_train_step(toy.Toy(), task, optimizer, lambda step: 0.0, ema_decay=0.0, log_every=1)
  batch, key = task.train_rows(0, ALL_ROWS), jax.random.key(0)
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
  before, after = _trained(_jitted(toy, experiment, Stateless()), 1)
  assert before.model_state == after.model_state == {}
  assert after.ema == {}
  task = ImageClassification(toy.dataset(), experiment)
  _, train_key = jax.random.split(jax.random.key(3))
  _, augmentation_key = jax.random.split(jax.random.fold_in(train_key, 0))
  images, targets = task.prepare_train(augmentation_key, task.train_rows(0, ALL_ROWS))

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
  assert float(after.window["update_norm"]) == pytest.approx(float(optax.tree.norm(updates)), rel=1e-5)
  assert float(after.window["parameter_norm"]) == pytest.approx(float(optax.tree.norm(expected)), rel=1e-5)
  jax.tree.map(np.testing.assert_array_equal, after.nonfinite, no_nonfinite())


class Counter(nn.Module):
  """Carries a collection that is not batch_stats, with an integer in it."""

  @nn.compact
  def __call__(self, x, *, train):
    calls = self.variable("calls", "number", lambda: jnp.zeros((), jnp.int32))
    if train:
      calls.value = calls.value + 1
    return nn.Dense(3, name="head")(x.mean((1, 2)))


def test_any_collection_of_the_model_is_carried(toy):
  states = _trained(_jitted(toy, toy.EXPERIMENT, Counter()), 3)
  assert [int(state.model_state["calls"]["number"]) for state in states] == [0, 1, 2, 3]
  assert int(states[3].ema["model_state"]["calls"]["number"]) == 3


def test_evaluation_uses_running_statistics_and_nothing_random(toy, states):
  task, model = ImageClassification(toy.dataset(), toy.EXPERIMENT), toy.Toy(dropout=0.9)
  step = jax.jit(make_eval_step(model, task))
  batch = next(task.evaluation_rows("test", ALL_ROWS))
  sums = step(states[8].params, states[8].model_state, batch)
  logits = model.apply({"params": states[8].params, **states[8].model_state}, task.prepare_eval(batch)[0], train=False)
  assert sums["accuracy"] == (np.asarray(logits).argmax(-1) == batch["label"]).sum()
  assert step(states[8].params, states[0].model_state, batch)["loss"] != sums["loss"]


class Overflow(ImageClassification):
  """Images that are infinite in the steps whose keys' data are in the set `bad`."""

  def poisoned(self, bad):
    object.__setattr__(self, "_bad", bad)
    return self

  def train_rows(self, step, rows):
    batch = super().train_rows(step, rows)
    return {**batch, "factor": np.full(len(batch["label"]), np.inf if step in self._bad else 1, np.float32)}

  def prepare_train(self, key, batch):
    images, targets = super().prepare_train(key, batch)
    return images * batch["factor"][:, None, None, None], targets


@pytest.fixture(scope="module")
def poisoned(toy):
  """A function of (bad, steps, skip): states after 0 .. `steps` updates, the batches of those in `bad` infinite."""
  optimizer = dataclasses.replace(toy.EXPERIMENT.optimizer, clip_norm=0)
  experiment = dataclasses.replace(toy.EXPERIMENT, optimizer=optimizer)
  task, model = Overflow(toy.dataset(), experiment), toy.Toy()
  optimizer = make_optimizer(experiment.optimizer, experiment.num_steps)
  schedule = learning_rate_schedule(experiment.optimizer, experiment.num_steps)
  init = jax.jit(make_init(model, task, optimizer, ema_decay=0.8))

  @functools.cache
  def jitted(skip):
    return jax.jit(make_train_step(model, task, optimizer, schedule, ema_decay=0.8, log_every=5, skip_nonfinite=skip))

  def train(bad, steps, *, skip):
    rows = Overflow(toy.dataset(), experiment).poisoned(bad).train_rows
    states = [init(jax.random.key(1))]
    for index in range(steps):
      states.append(jitted(skip)(states[-1], rows(index, ALL_ROWS), jax.random.key(2)))
    return states

  return train


def _weights(state):
  return {"params": state.params, "model_state": state.model_state, "opt_state": state.opt_state, "ema": state.ema}


def test_an_update_that_is_not_finite_is_counted_and_applied(poisoned):
  states = poisoned({2}, 4, skip=False)
  assert [int(state.nonfinite["count"]) for state in states] == [0, 0, 0, 1, 2]  # what it left makes the next one nan
  assert states[4].nonfinite["steps"].tolist() == [3, 4, -1, -1, -1, -1, -1, -1]
  assert np.isfinite(jax.tree.leaves(states[2].params)[0]).all()
  assert not np.isfinite(jax.tree.leaves(states[3].params)[0]).any()


def test_an_update_that_is_skipped_changes_nothing_but_the_step(toy, poisoned):
  states = poisoned({0, 3}, 7, skip=True)
  clean = poisoned({}, 7, skip=True)
  for at in (0, 3):
    assert sha256(_weights(states[at + 1])) == sha256(_weights(states[at]))
  assert sha256(_weights(states[5])) != sha256(_weights(states[4]))
  assert sha256(_weights(clean[1])) != sha256(_weights(clean[0]))
  assert [int(state.step) for state in states] == list(range(8))
  assert [int(state.nonfinite["count"]) for state in states] == [0, 1, 1, 1, 2, 2, 2, 2]
  assert states[7].nonfinite["steps"].tolist() == [1, 4, -1, -1, -1, -1, -1, -1]
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(states[7]))
  # The window of steps 0 .. 4 holds those three that were applied, at the schedule's first three values.
  schedule = learning_rate_schedule(toy.EXPERIMENT.optimizer, toy.EXPERIMENT.num_steps)
  assert float(states[5].window["steps"]) == 3
  means = training_numbers(states[5], 0)
  assert means["train/learning_rate"] == pytest.approx(np.mean([schedule(step) for step in range(3)]), rel=1e-5)
  assert all(np.isnan(value) for value in training_numbers(states[1], 0).values())


def test_the_average_has_no_share_of_the_start_where_the_first_update_is_skipped(poisoned):
  states = poisoned({0}, 4, skip=True)
  weights = 0.8 ** np.arange(2, -1, -1)
  seen = [np.asarray(state.params["head"]["kernel"], np.float64) for state in states[2:]]
  expected = np.tensordot(weights, np.stack(seen), 1) / weights.sum()
  np.testing.assert_allclose(states[4].ema["params"]["head"]["kernel"], expected, rtol=1e-4, atol=1e-6)


def test_skipping_changes_nothing_where_everything_is_finite(poisoned):
  jax.tree.map(
    lambda one, other: np.testing.assert_allclose(one, other, 1e-6, 1e-7),
    *(poisoned({}, 3, skip=skip)[3] for skip in (False, True)),
  )


def test_moments_and_averages_of_16_bit_parameters_are_kept_in_float32(toy):
  """A thousandth of the way, as the second moment goes, would round to nothing in bfloat16."""
  model = toy.coatnet(param_dtype=jnp.bfloat16)
  task, init, step = _jitted(toy, toy.EXPERIMENT, model)
  first = jax.eval_shape(init, jax.random.key(0))
  after = jax.eval_shape(step, first, task.train_rows(0, ALL_ROWS), jax.random.key(1))
  for state in (first, after):
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype(jnp.bfloat16)}
    for kept in (state.ema, state.opt_state, state.model_state):
      assert {leaf.dtype for leaf in jax.tree.leaves(kept)} <= {jnp.dtype(jnp.float32), jnp.dtype(jnp.int32)}
  assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), first) == jax.tree.map(
    lambda leaf: (leaf.shape, leaf.dtype), after
  )
