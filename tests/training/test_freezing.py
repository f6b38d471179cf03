"""Frozen parts stand still bit for bit, and layers learn the slower the farther they are from the classifier."""

import dataclasses
import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from convattn import create_model
from convattn.training import ImageClassification, build, make_mesh, run, runs, sha256
from convattn.training.config import Optimizer
from convattn.training.freezing import check_freeze, evaluate_frozen, frozen, frozen_line
from convattn.training.optimizer import check_optimizer, layer_depths, make_optimizer
from convattn.training.program import run_keys
from convattn.training.sharding import put_batch
from convattn.training.task import ALL_ROWS

pytestmark = pytest.mark.usefixtures("shared_programs")


def _flat(tree):
  return {jax.tree_util.keystr(k, simple=True, separator="/"): v for k, v in jax.tree_util.tree_leaves_with_path(tree)}


def _variables(model):
  """Of its shapes, for images of 5x7x2; positive numbers."""
  images = jax.ShapeDtypeStruct((1, 5, 7, 2), jnp.float32)
  shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
  draws = np.random.default_rng(0)
  return jax.tree.map(lambda like: jnp.asarray(draws.uniform(0.5, 1, like.shape), like.dtype), shapes)


def _params(model):
  return _variables(model)["params"]


def _experiment(toy, **fields):
  optimizer = dataclasses.replace(toy.EXPERIMENT.optimizer, warmup_steps=0, weight_decay=0.3, **fields)
  return dataclasses.replace(toy.EXPERIMENT, optimizer=optimizer)


def _states(toy, experiment, model, steps=3, nudge=lambda state: state):
  """States after 0, 1, .. updates on two devices, fetched."""
  task = ImageClassification(toy.dataset(), experiment)
  program = toy.shared_build(experiment, model, task, make_mesh(jax.devices()[:2]))
  init_key, train_key = run_keys(0)
  state = nudge(program.init(init_key))
  states = [jax.device_get(state)]
  for step in range(steps):
    state = program.train_step(state, put_batch(task.train_rows(step, ALL_ROWS), program.mesh), train_key)
    states.append(jax.device_get(state))
  return states


FREEZE = "stem, stage_1/*/expand_[mn]orm/*,classifier/norm/"


def _negative_zeros(state):
  """Biases and running means of -0.0, of which adding 0 makes another bit pattern."""

  def flip(path, leaf):
    return -jnp.zeros_like(leaf) if path[-1].key in ("bias", "mean") else leaf

  at = jax.tree_util.tree_map_with_path
  ema = {"params": at(flip, state.ema["params"]), "model_state": at(flip, state.ema["model_state"])}
  return state.replace(params=at(flip, state.params), model_state=at(flip, state.model_state), ema=ema)


def _short(toy):
  return dataclasses.replace(_experiment(toy, freeze=FREEZE, layer_decay=0.7), num_steps=4)


@pytest.fixture(scope="module")
def coatnet_states(toy):
  return _states(toy, _short(toy), toy.coatnet(), nudge=_negative_zeros)


def test_frozen_parameters_statistics_and_averages_keep_every_bit_and_all_others_move(coatnet_states):
  first, *_, last = coatnet_states
  parts = ("stem/", "stage_1/block_0/expand_norm/", "classifier/norm/")
  trees = {
    "params": lambda state: state.params,
    "batch_stats": lambda state: state.model_state["batch_stats"],
    "averaged params": lambda state: state.ema["params"],
    "averaged batch_stats": lambda state: state.ema["model_state"]["batch_stats"],
  }
  for name, get in trees.items():
    before, after = _flat(get(first)), _flat(get(last))
    still = {path for path in before if before[path].tobytes() == after[path].tobytes()}
    # A key's bias shifts all logits of a query alike, so that its gradient is rounding; it moves nevertheless.
    assert still == {path for path in before if path.startswith(parts)}, name
    assert still
  for path in _flat(first.ema["params"]):
    if path.startswith(parts):
      np.testing.assert_array_equal(_flat(last.ema["params"])[path], _flat(last.params)[path])


def test_there_are_no_moments_of_frozen_parameters(toy, coatnet_states):
  state = coatnet_states[0]
  params = _flat(state.params)
  moving = sum(leaf.size for path, leaf in params.items() if not _flat(frozen(FREEZE, state.params))[path])
  whole = sum(leaf.size for leaf in params.values())
  assert 0 < moving < whole
  sizes = [leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
  assert sum(sizes) == 2 * moving
  free = make_optimizer(Optimizer(), 10).init(state.params)
  assert sum(leaf.size for leaf in jax.tree.leaves(free) if leaf.ndim) == 2 * whole


@pytest.mark.slow
def test_the_gradient_norm_and_its_clipping_are_of_the_moving_parameters(toy):
  params = {"a": {"kernel": jnp.zeros((1, 2))}, "b": {"bias": jnp.zeros(2)}}
  gradients = {"a": {"kernel": jnp.full((1, 2), 1e6)}, "b": {"bias": jnp.array([3.0, -4.0])}}
  settings = Optimizer(peak_learning_rate=0.1, epsilon=2.0, clip_norm=0.5, freeze="a")
  optimizer = make_optimizer(settings, num_steps=10)
  updates, _ = optimizer.update(gradients, optimizer.init(params), params)
  clipped = np.array([0.3, -0.4])
  np.testing.assert_allclose(updates["b"]["bias"], -0.1 * clipped / (np.abs(clipped) + 2.0), rtol=1e-5)
  np.testing.assert_array_equal(updates["a"]["kernel"], 0)
  experiment = _experiment(toy, freeze="conv,norm", clip_norm=0.0)
  state = _states(toy, experiment, toy.Toy(dropout=0.0), steps=1)[1]
  task = ImageClassification(toy.dataset(), experiment)
  program = build(experiment, toy.Toy(dropout=0.0), task, make_mesh(jax.devices()[:2]))
  variables = program.init(run_keys(0)[0])
  _, augmentation_key = jax.random.split(jax.random.fold_in(run_keys(0)[1], 0))
  images, targets = task.prepare_train(augmentation_key, task.train_rows(0, ALL_ROWS))

  def loss(head):
    params = {**variables.params, "head": head}
    logits, _ = toy.Toy(dropout=0.0).apply(
      {"params": params, **variables.model_state}, images, train=True, mutable=["batch_stats"]
    )
    return task.losses(logits, targets).mean()

  expected = optax.tree.norm(jax.grad(loss)(variables.params["head"]))
  assert float(state.window["gradient_norm"]) == pytest.approx(float(expected), rel=1e-4)


class Seen(nn.Module):
  """Tells its inputs' mode: a module of `parts` modules that each add 1 in training mode."""

  @nn.compact
  def __call__(self, x, *, train):
    for name in ("first", "second"):
      x = Adds(name=name)(x, train=train)
    return nn.Dropout(0.99, name="last")(x, deterministic=not train)


class Adds(nn.Module):
  @nn.compact
  def __call__(self, x, *, train):
    return Flag(name="inner")(x, train=train)


class Flag(nn.Module):
  @nn.compact
  def __call__(self, x, *, train):
    return x + self.param("step", nn.initializers.ones, ()) if train else x


@pytest.mark.parametrize(
  "freeze, added",
  [
    ("", 2),
    ("second", 1),
    ("first/inner", 1),
    ("first,second", 0),
    ("seco", 2),
    ("f*/inn*/*", 1),
    ("*/inner", 0),
    ("*/i", 2),
  ],
)
def test_frozen_modules_compute_as_at_evaluation(freeze, added):
  variables = {"params": {name: {"inner": {"step": jnp.float32(1)}} for name in ("first", "second")}}

  def apply(freeze):
    with nn.intercept_methods(evaluate_frozen(freeze)):
      return Seen().apply(variables, jnp.full((3, 5), 7.0), train=True, rngs={"dropout": jax.random.key(0)})

  assert (np.unique(np.asarray(apply(f"last,{freeze}"))) == 7 + added).all()
  assert not np.all(apply(freeze))  # not frozen, dropout drops


@pytest.mark.parametrize("remat", ["none", "block"])
def test_a_frozen_stage_ignores_the_batch_that_it_is_in(toy, remat):
  model = toy.coatnet(remat=remat)
  images = jax.random.normal(jax.random.key(1), (4, 5, 7, 2))
  variables = _variables(model)

  @functools.partial(jax.jit, static_argnums=(0, 2))
  def maps(freeze, images, train=True):
    with nn.intercept_methods(evaluate_frozen(freeze)):
      return model.apply(variables, images, train=train, mutable=["batch_stats"], method="features")[0]

  held, free, evaluated = maps("stem,stage_1", images), maps("", images), maps("", images, train=False)
  np.testing.assert_allclose(held[1], evaluated[1], rtol=1e-5, atol=1e-5)
  assert np.abs(free[1] - evaluated[1]).max() > 0.1
  np.testing.assert_allclose(maps("stem,stage_1", images[:2])[1], held[1][:2], rtol=1e-5, atol=1e-5)


def test_any_model_is_frozen_by_its_own_paths(toy):
  first, *_, last = _states(toy, _experiment(toy, freeze="norm,head/bias"), toy.Toy())
  moved = {path for path, leaf in _flat(first.params).items() if not np.array_equal(leaf, _flat(last.params)[path])}
  assert moved == {"conv/kernel", "head/kernel"}
  assert sha256(first.model_state) == sha256(last.model_state)


@pytest.mark.slow
def test_freezing_one_part_or_none_leaves_the_others_update_as_it_is(toy):
  params = _params(toy.coatnet())
  gradients = jax.tree.map(jnp.cos, params)
  updates = {}
  for freeze in ("", "stem,stage_2"):
    optimizer = make_optimizer(Optimizer(clip_norm=0.0, freeze=freeze), 10)
    updates[freeze] = optimizer.update(gradients, optimizer.init(params), params)[0]
  for part in ("stage_1", "classifier"):
    assert sha256(updates["stem,stage_2"][part]) == sha256(updates[""][part])
  assert not any(
    np.any(leaf) for part in ("stem", "stage_2") for leaf in jax.tree.leaves(updates["stem,stage_2"][part])
  )


@pytest.mark.parametrize(
  "freeze, message",
  [
    ("stem,stage1", r"optimizer.freeze: the model has no part 'stage1'; did you mean stage_1\\?"),
    ("stage_1/block_00", r"no part 'stage_1/block_00'; did you mean stage_1/block_0"),
    ("stem/conv_1/kernel/0", r"no part 'stem/conv_1/kernel/0'; did you mean stem/conv_1/kernel"),
    ("xyzzy", r"no part 'xyzzy'; did you mean"),
    ("stem,stage_[34]/*", r"no part 'stage_\[34\]'; did you mean stage_[12]"),
    ("*", r"optimizer.freeze is '\*', which leaves nothing to train"),
    ("/*/", r"optimizer.freeze is '/\*/', which leaves nothing to train"),
    (
      "stem,stage_1,stage_2,classifier",
      r"'stem,stage_1,stage_2,classifier', which leaves nothing to train; name fewer",
    ),
  ],
)
def test_a_part_that_is_not_there_is_named_before_anything_runs(toy, tmp_path, freeze, message):
  experiment = _experiment(toy, freeze=freeze)
  with pytest.raises(ValueError, match=message) as raised:
    run(experiment, tmp_path / "new", model=toy.coatnet(), task=ImageClassification(toy.dataset(), experiment))
  assert "\n" not in str(raised.value)
  assert not (tmp_path / "new").exists()


def test_a_name_is_frozen_whole():
  tree = {"stage_1": {"kernel": 0}, "stage_10": {"kernel": 0}}
  assert frozen("stage_1", tree) == {"stage_1": {"kernel": True}, "stage_10": {"kernel": False}}
  assert not any(jax.tree.leaves(frozen(" , ", tree)))
  check_freeze("", tree)


def test_a_pattern_freezes_what_it_matches_and_all_that_lies_in_it(toy):
  params = _params(toy.coatnet())
  paths = set(_flat(params))
  for freeze, wanted in {
    "stage_[12]/*": {path for path in paths if path.startswith("stage_")},
    "stage_[!1]": {path for path in paths if path.startswith("stage_2/")},
    "*/bias": {path for path in paths if path.endswith("/bias")},
    "*/norm*, classifier": {path for path in paths if "/norm" in path or path.startswith("classifier/")},
    "*/block_?/*_norm": {path for path in paths if any(name.endswith("_norm") for name in path.split("/"))},
  }.items():
    assert 0 < len(wanted) < len(paths)
    assert {path for path, still in _flat(frozen(freeze, params)).items() if still} == wanted, freeze
    check_freeze(freeze, params)


def test_how_many_parameters_are_frozen_is_one_line(toy):
  params = _params(toy.coatnet())
  sizes = {path: leaf.size for path, leaf in _flat(params).items()}
  held = sum(size for path, size in sizes.items() if path.startswith("stage_"))
  line = f"{held:,} of {sum(sizes.values()):,} parameters are frozen (optimizer.freeze: stage_?)"
  assert frozen_line("stage_?", params) == line
  assert frozen_line(" ,", params) is None


def test_depths_count_blocks_from_the_classifier_to_the_stem():
  model = create_model("coatnet_0", num_classes=5)
  images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)["params"]
  depths = _flat(layer_depths(shapes))
  # Stages of 2, 3, 5 and 2 blocks: 12 in all.
  wanted = {"classifier": 0, "stage_4/block_1": 1, "stage_4/block_0": 2, "stage_3/block_4": 3, "stage_1/block_0": 12}
  for part, depth in {**wanted, "stem": 13}.items():
    assert {value for path, value in depths.items() if path.startswith(f"{part}/")} == {depth}, part
  assert set(depths.values()) == set(range(14))


def test_eleven_blocks_are_counted_as_numbers():
  tree = {"stage_2": {"block_0": 0}, "stage_1": {f"block_{i}": 0 for i in range(11)}, "classifier": 0, "stem": 0}
  depths = layer_depths(tree)
  assert [depths["stage_1"][f"block_{i}"] for i in range(11)] == list(range(12, 1, -1))
  assert (depths["stage_2"]["block_0"], depths["stem"]) == (1, 13)


def test_updates_shrink_by_a_power_of_the_depth_decay_included(toy):
  # A corner of each array: what is seen is where they lie, and few shapes compile quickly.
  params = jax.tree.map(lambda leaf: leaf[(slice(2),) * leaf.ndim], _params(toy.coatnet()))
  # Without a gradient an update is weight decay alone.
  for gradients in (jax.tree.map(jnp.cos, params), jax.tree.map(jnp.zeros_like, params)):
    updates = {}
    for settings in itertools.product((1.0, 0.5), ("", "stage_2/b*_0")):
      chosen = Optimizer(weight_decay=0.3, clip_norm=0.0, layer_decay=settings[0], freeze=settings[1])
      optimizer = make_optimizer(chosen, 10)
      updates[settings] = optimizer.update(gradients, optimizer.init(params), params)[0]
    for freeze in ("", "stage_2/b*_0"):
      for part, factor in {"classifier": 1, "stage_2": 0.5, "stage_1": 0.25, "stem": 0.125}.items():
        whole = jax.tree.map(lambda leaf, factor=factor: leaf * factor, updates[1.0, freeze][part])
        assert sha256(jax.tree.map(jnp.abs, updates[0.5, freeze][part])) == sha256(jax.tree.map(jnp.abs, whole)), part
    assert any(np.any(leaf) for leaf in jax.tree.leaves(updates[0.5, ""]["stem"]))


def test_depths_need_our_tree(toy):
  params = _params(toy.Toy())
  message = r"optimizer.layer_decay needs .* stem, stage_N/block_M and classifier, got 'conv/kernel'; set it to 1.0"
  with pytest.raises(ValueError, match=message):
    check_optimizer(Optimizer(layer_decay=0.9), params)
  check_optimizer(Optimizer(layer_decay=1.0, freeze="conv"), params)


def test_a_checkpoint_of_a_run_with_frozen_parts_is_read_back_bit_for_bit(toy, tmp_path, monkeypatch, capsys):
  experiment = _short(toy)
  monkeypatch.setattr(runs, "make_mesh", lambda fsdp: make_mesh(jax.devices()[:2], fsdp))  # as in `_states`
  task = ImageClassification(toy.dataset(), experiment)
  state, again = (run(experiment, tmp_path, model=toy.coatnet(), task=task) for _ in range(2))
  assert jax.tree.structure(again) == jax.tree.structure(state)
  assert sha256(again) == sha256(state)
  assert capsys.readouterr().out.count(f"{frozen_line(FREEZE, state.params)}\n") == 1  # where it was trained
