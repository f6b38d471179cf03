import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from convattn.training import WorkdirError
from convattn.training.checkpoints import Checkpoints
from convattn.training.config import Checkpoint
from convattn.training.state import TrainState, sha256


def _state(step):
  values = jax.random.normal(jax.random.key(step), (3, 5))
  return TrainState(
    step=jnp.int32(step),
    params={"w": values},
    model_state={"batch_stats": {"mean": values[0]}},
    opt_state=({"mu": values.astype(jnp.bfloat16)}, ()),
    ema={},
    window={"loss": jnp.float32(step)},
  )


def _template():
  sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), _state(0))


def _accuracy(value):
  return {} if value is None else {"validation/accuracy": value, "train/loss": 7.0}


def test_newest_and_best_are_kept_and_a_step_without_validation_is_no_candidate(tmp_path):
  with Checkpoints(tmp_path, Checkpoint(keep_newest=2, keep_best=1)) as checkpoints:
    assert checkpoints.best() is None
    assert checkpoints.restore(_template()) is None
    for step, accuracy in ((2, 0.5), (4, 0.9), (6, None), (8, 0.9), (10, 0.7), (12, None), (14, None)):
      checkpoints.save(step, _state(step), {"step": step}, _accuracy(accuracy))
    assert checkpoints.best() == (8, 0.9)  # of equals the later
    assert checkpoints.steps() == [8, 12, 14]
  with Checkpoints(tmp_path, Checkpoint(keep_newest=2, keep_best=1)) as reopened:
    assert reopened.best() == (8, 0.9)
    reopened.save(16, _state(16), {}, _accuracy(0.8))
    reopened.save(18, _state(18), {}, _accuracy(None))
    assert reopened.best() == (8, 0.9)
    assert reopened.steps() == [8, 16, 18]


def test_without_best_only_the_newest_are_kept(tmp_path):
  with Checkpoints(tmp_path, Checkpoint(keep_newest=1, keep_best=0)) as checkpoints:
    for step, accuracy in ((1, 0.9), (2, 0.1)):
      checkpoints.save(step, _state(step), {}, _accuracy(accuracy))
    checkpoints.wait()
    assert checkpoints.steps() == [2]


def test_an_accuracy_that_is_no_number_has_no_rank(tmp_path):
  with Checkpoints(tmp_path, Checkpoint(keep_newest=1, keep_best=1)) as checkpoints:
    for step, accuracy in ((1, float("nan")), (2, 0.3), (3, float("nan")), (4, float("nan"))):
      checkpoints.save(step, _state(step), {}, _accuracy(accuracy))
    assert checkpoints.best() == (2, 0.3)
    assert checkpoints.steps() == [2, 4]


def test_a_save_returns_before_the_checkpoint_is_complete(tmp_path, monkeypatch):
  chosen, manager = [], ocp.CheckpointManager

  def record(directory, options):
    chosen.append(options)
    return manager(directory, options=options)

  monkeypatch.setattr(ocp, "CheckpointManager", record)
  with Checkpoints(tmp_path, Checkpoint()):
    pass
  assert chosen[0].enable_async_checkpointing


def test_a_state_comes_back_bit_for_bit_with_its_description(tmp_path):
  description = {"class_names": ["a", "b"], "mean": [0.1], "nested": {"none": None}}
  with Checkpoints(tmp_path, Checkpoint()) as checkpoints:
    for step in (3, 5):
      checkpoints.save(step, _state(step), {**description, "step": step}, {})
  with Checkpoints(tmp_path, Checkpoint()) as checkpoints:
    assert sha256(checkpoints.restore(_template())) == sha256(_state(5))
    assert sha256(checkpoints.restore(_template(), 3)) == sha256(_state(3))
    assert checkpoints.description(3) == {**description, "step": 3}


def test_saving_a_step_that_is_not_the_latest_is_an_error(tmp_path):
  with Checkpoints(tmp_path, Checkpoint()) as checkpoints:
    checkpoints.save(4, _state(4), {}, {})
    for step in (4, 3):
      with pytest.raises(WorkdirError, match=f"no checkpoint of step {step} was saved .* latest is 4"):
        checkpoints.save(step, _state(step), {}, {})


def test_what_an_interrupted_save_left_is_no_checkpoint(tmp_path):
  with Checkpoints(tmp_path, Checkpoint()) as checkpoints:
    checkpoints.save(4, _state(4), {}, {})
  (tmp_path / "8.orbax-checkpoint-tmp").mkdir()
  with Checkpoints(tmp_path, Checkpoint()) as checkpoints:
    assert checkpoints.latest_step() == 4
    checkpoints.save(8, _state(8), {}, {})
    checkpoints.wait()
    np.testing.assert_array_equal(checkpoints.restore(_template()).params["w"], _state(8).params["w"])
