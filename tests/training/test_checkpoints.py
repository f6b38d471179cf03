import errno
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.errors import UserError
from convattn.training import checkpoints as module
from convattn.training.checkpoints import Checkpoints
from convattn.training.config import Checkpoint
from convattn.training.manifest import verify, write_manifest
from convattn.training.state import TrainState, no_nonfinite, sha256
from convattn.training.task import Ranking

ROOT = Path(module.__file__).parents[2]


def _state(step):
  values = jax.random.normal(jax.random.key(step), (3, 5))
  return TrainState(
    step=jnp.int32(step),
    params={"w": values},
    model_state={"batch_stats": {"mean": values[0]}},
    opt_state=({"mu": values.astype(jnp.bfloat16)}, ()),
    ema={},
    window={"loss": jnp.float32(step)},
    nonfinite=no_nonfinite(),
  )


def _template():
  sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), _state(0))


def _accuracy(value):
  return {} if value is None else {"validation/accuracy": value, "train/loss": 7.0}


def test_newest_and_best_are_kept_and_a_step_without_validation_is_no_candidate(tmp_path):
  with Checkpoints(tmp_path, Checkpoint(keep_newest=2, keep_best=1), Ranking("validation/accuracy")) as checkpoints:
    assert checkpoints.best() is None
    assert checkpoints.restore(_template()) is None
    for step, accuracy in ((2, 0.5), (4, 0.9), (6, None), (8, 0.9), (10, 0.7), (12, None), (14, None)):
      checkpoints.save(step, _state(step), {"step": step}, _accuracy(accuracy))
    assert checkpoints.best() == (8, 0.9)  # of equals the later
    assert checkpoints.steps() == [8, 12, 14]
  with Checkpoints(tmp_path, Checkpoint(keep_newest=2, keep_best=1), Ranking("validation/accuracy")) as reopened:
    assert reopened.best() == (8, 0.9)
    reopened.save(16, _state(16), {}, _accuracy(0.8))
    reopened.save(18, _state(18), {}, _accuracy(None))
    assert reopened.best() == (8, 0.9)
    assert reopened.steps() == [8, 16, 18]


def test_every_nth_is_kept_for_good(tmp_path):
  settings = Checkpoint(every=5, keep_newest=1, keep_best=1, keep_every=2)
  with Checkpoints(tmp_path, settings, Ranking("validation/accuracy")) as checkpoints:
    # 12 is the step at which a signal came: it is no fifth one, and moves none of those behind it.
    for step, accuracy in ((5, 0.9), (10, 0.1), (12, None), (15, 0.2), (20, 0.3), (25, 0.4)):
      checkpoints.save(step, _state(step), {}, _accuracy(accuracy))
    assert checkpoints.steps() == [5, 10, 20, 25]
    assert checkpoints.best() == (5, 0.9)
    assert checkpoints.restore(_template(), 10).step == 10
  _flip(tmp_path / "10")
  with Checkpoints(tmp_path, settings, Ranking("validation/accuracy")) as checkpoints:
    assert checkpoints.steps() == [5, 20, 25]
    checkpoints.save(27, _state(27), {}, _accuracy(None))
    assert checkpoints.steps() == [5, 20, 27]
  assert verify(tmp_path / "damaged" / "10") is not None
  with Checkpoints(tmp_path, Checkpoint(every=5, keep_newest=1, keep_best=0), None) as checkpoints:
    checkpoints.save(30, _state(30), {}, {})
    assert checkpoints.steps() == [30]  # they are no longer asked for


def test_without_best_only_the_newest_are_kept(tmp_path):
  with Checkpoints(tmp_path, Checkpoint(keep_newest=1, keep_best=0), Ranking("validation/accuracy")) as checkpoints:
    for step, accuracy in ((1, 0.9), (2, 0.1)):
      checkpoints.save(step, _state(step), {}, _accuracy(accuracy))
    checkpoints.wait()
    assert checkpoints.steps() == [2]


def test_an_accuracy_that_is_no_number_has_no_rank(tmp_path):
  with Checkpoints(tmp_path, Checkpoint(keep_newest=1, keep_best=1), Ranking("validation/accuracy")) as checkpoints:
    for step, accuracy in ((1, float("nan")), (2, 0.3), (3, float("nan")), (4, float("nan"))):
      checkpoints.save(step, _state(step), {}, _accuracy(accuracy))
    assert checkpoints.best() == (2, 0.3)
    assert checkpoints.steps() == [2, 4]


def test_a_save_returns_before_the_checkpoint_is_complete_and_it_counts_when_it_is_signed(tmp_path, monkeypatch):
  go_on = threading.Event()
  monkeypatch.setattr(module, "write_manifest", lambda folder: (go_on.wait(), write_manifest(folder)))
  with Checkpoints(tmp_path, Checkpoint(), Ranking("validation/accuracy")) as checkpoints:
    checkpoints.save(4, _state(4), {}, {})
    assert verify(tmp_path / "4") == "manifest.json is missing"
    go_on.set()
    assert checkpoints.steps() == [4]
    assert verify(tmp_path / "4") is None


def test_nothing_is_written_into_a_checkpoint_that_counts(tmp_path):
  with Checkpoints(tmp_path, Checkpoint(keep_newest=3), Ranking("validation/accuracy")) as checkpoints:
    for step in (2, 4, 6):
      checkpoints.save(step, _state(step), {}, _accuracy(0.5))
  with Checkpoints(tmp_path, Checkpoint(keep_newest=3), Ranking("validation/accuracy")) as checkpoints:
    assert checkpoints.restore(_template(), 4).step == 4
  assert [verify(tmp_path / name) for name in ("2", "4", "6")] == [None] * 3


def _flip(folder):
  path = folder / "state" / "_METADATA"
  content = bytearray(path.read_bytes())
  content[-9] ^= 4
  path.write_bytes(content)


DAMAGE = {
  "manifest.json is missing": lambda folder: (folder / "manifest.json").unlink(),  # killed before it was written
  "commit_success.txt has 0 bytes instead of": lambda folder: (folder / "commit_success.txt").write_text(""),
  "state/_METADATA has another SHA-256": _flip,
  "metrics/metadata is missing": lambda folder: (folder / "metrics" / "metadata").unlink(),
  "manifest.json is missing ": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
}


@pytest.mark.parametrize("problem", DAMAGE)
def test_a_damaged_step_is_named_and_set_aside_and_the_one_before_it_used(tmp_path, problem, capfd):
  for repetition in ("", ".1"):
    with Checkpoints(tmp_path, Checkpoint(keep_newest=2, keep_best=1), Ranking("validation/accuracy")) as checkpoints:
      if not repetition:
        checkpoints.save(2, _state(2), {}, _accuracy(0.3))
      checkpoints.save(4, _state(4), {}, _accuracy(0.9))
      assert checkpoints.best() == (4, 0.9)
    DAMAGE[problem](tmp_path / "4")
    left = sorted(path.name for path in (tmp_path / "4").rglob("*"))
    capfd.readouterr()
    with Checkpoints(tmp_path, Checkpoint(keep_newest=2, keep_best=1), Ranking("validation/accuracy")) as checkpoints:
      assert (checkpoints.steps(), checkpoints.best()) == ([2], (2, 0.3))
      np.testing.assert_array_equal(checkpoints.restore(_template()).params["w"], _state(2).params["w"])
    aside = tmp_path / "damaged" / f"4{repetition}"
    assert sorted(path.name for path in aside.rglob("*")) == left
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"warning: the checkpoint {tmp_path / '4'} is damaged ({problem.strip()}")
    assert line.endswith(f"; it is now {aside} and does not count.")


def test_a_damaged_step_between_sound_ones_does_not_count_either(tmp_path):
  with Checkpoints(tmp_path, Checkpoint(keep_newest=1, keep_best=1), Ranking("validation/accuracy")) as checkpoints:
    for step, accuracy in ((2, 0.9), (4, 0.1)):
      checkpoints.save(step, _state(step), {}, _accuracy(accuracy))
  _flip(tmp_path / "2")
  with Checkpoints(tmp_path, Checkpoint(keep_newest=1, keep_best=1), Ranking("validation/accuracy")) as checkpoints:
    assert (checkpoints.steps(), checkpoints.best()) == ([4], (4, 0.1))
    checkpoints.save(6, _state(6), {}, _accuracy(0.05))
    assert checkpoints.steps() == [4, 6]
  assert verify(tmp_path / "damaged" / "2") is not None


def test_a_step_is_deleted_only_when_a_later_one_is_signed(tmp_path, monkeypatch):
  def fail(folder):
    raise RuntimeError("not signed")

  with Checkpoints(tmp_path, Checkpoint(keep_newest=1, keep_best=0), Ranking("validation/accuracy")) as checkpoints:
    checkpoints.save(2, _state(2), {}, {})
    checkpoints.wait()
    monkeypatch.setattr(module, "write_manifest", fail)
    checkpoints.save(4, _state(4), {}, {})
    with pytest.raises(RuntimeError, match="not signed"):
      checkpoints.wait()
    assert checkpoints.steps() == [2]
  assert (verify(tmp_path / "2"), verify(tmp_path / "4")) == (None, "manifest.json is missing")


FULL = """
import resource, sys
import jax, jax.numpy as jnp
from convattn.training.checkpoints import Checkpoints
from convattn.training.config import Checkpoint
from convattn.errors import UserError
from convattn.training.state import TrainState, no_nonfinite
from convattn.training.task import Ranking

def state(step, size):
  noise = jax.random.normal(jax.random.key(step), (size,))
  return TrainState(jnp.int32(step), {"w": noise, "v": noise + 1}, {}, (), {}, {}, no_nonfinite())

try:
  with Checkpoints(sys.argv[1], Checkpoint(keep_newest=1), Ranking("validation/accuracy")) as checkpoints:
    checkpoints.save(4, state(4, 5), {}, {})
    checkpoints.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    checkpoints.save(6, state(6, 33_333), {}, {})
except UserError as error:
  print(error)
"""


@pytest.mark.parametrize("largest", [20_000, 90])
def test_a_full_disk_is_one_line_and_the_earlier_checkpoints_are_whole(tmp_path, largest):
  """Files may have so many bytes and no more; from a process of its own, whose last words count as well."""
  folder = tmp_path / "run"
  command = [sys.executable, "-c", FULL.replace("sys.argv[1]", f"__import__('pathlib').Path({str(folder)!r})")]
  done = subprocess.run([*command, "", str(largest)], capture_output=True, text=True, cwd=ROOT, check=False)
  assert done.stdout == (
    f"the disk of {folder} is full (or a quota is); make room, then give the same command to go on from there.\n"
  ), done.stderr
  assert done.stderr == ""
  assert done.returncode == 0
  with Checkpoints(folder, Checkpoint(keep_newest=1), Ranking("validation/accuracy")) as checkpoints:
    assert checkpoints.steps() == [4]
  assert sorted(path.name for path in folder.iterdir()) == ["4"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_that_is_full_for_the_manifest_is_the_same_line(tmp_path, number, monkeypatch):
  def fail(folder):
    raise OSError(number, "no room")

  monkeypatch.setattr(module, "write_manifest", fail)
  with Checkpoints(tmp_path, Checkpoint(), Ranking("validation/accuracy")) as checkpoints:
    checkpoints.save(4, _state(4), {}, {})
    with pytest.raises(UserError, match="is full"):
      checkpoints.wait()
    assert checkpoints.latest_step() is None


def test_another_error_of_a_save_stays_what_it_is(tmp_path, monkeypatch):
  def fail(folder):
    raise PermissionError(errno.EACCES, "closed")

  monkeypatch.setattr(module, "write_manifest", fail)
  with Checkpoints(tmp_path, Checkpoint(), Ranking("validation/accuracy")) as checkpoints:
    checkpoints.save(4, _state(4), {}, {})
    with pytest.raises(PermissionError):
      checkpoints.save(6, _state(6), {}, {})


def test_a_state_of_another_shape_is_refused_in_one_line(tmp_path):
  with Checkpoints(tmp_path, Checkpoint(), Ranking("validation/accuracy")) as checkpoints:
    checkpoints.save(4, _state(4).replace(params={"w": jnp.zeros((2, 5))}), {}, {})
    with pytest.raises(UserError, match=r"holds no state of this run \(params/w is \(2, 5\)") as raised:
      checkpoints.restore(_template())
  assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("before", [1, 2, 4])
def test_a_state_comes_back_on_another_number_of_devices(tmp_path, before):
  def split(count):
    mesh = jax.sharding.Mesh(jax.devices()[:count], ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return lambda leaf: sharding if leaf.ndim == 2 else whole

  values = jax.random.normal(jax.random.key(0), (4, 7))
  state = _state(1).replace(params={"w": values}, opt_state=({"mu": values.astype(jnp.bfloat16)}, ()))
  with Checkpoints(tmp_path, Checkpoint(), Ranking("validation/accuracy")) as checkpoints:
    checkpoints.save(1, jax.tree.map(lambda leaf: jax.device_put(leaf, split(before)(leaf)), state), {}, {})
    for after in (1, 2, 4):
      template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=split(after)(x)), state)  # noqa: B023
      restored = checkpoints.restore(template)
      assert sha256(restored) == sha256(state)
      assert len(restored.params["w"].sharding.device_set) == after


def test_a_state_comes_back_bit_for_bit_with_its_description(tmp_path):
  description = {"class_names": ["a", "b"], "mean": [0.1], "nested": {"none": None}}
  with Checkpoints(tmp_path, Checkpoint(), Ranking("validation/accuracy")) as checkpoints:
    for step in (3, 5):
      checkpoints.save(step, _state(step), {**description, "step": step}, {})
  with Checkpoints(tmp_path, Checkpoint(), Ranking("validation/accuracy")) as checkpoints:
    assert sha256(checkpoints.restore(_template())) == sha256(_state(5))
    assert sha256(checkpoints.restore(_template(), 3)) == sha256(_state(3))
    assert checkpoints.description(3) == {**description, "step": 3}


def test_saving_a_step_that_is_not_the_latest_is_an_error(tmp_path):
  with Checkpoints(tmp_path, Checkpoint(), Ranking("validation/accuracy")) as checkpoints:
    checkpoints.save(4, _state(4), {}, {})
    for step in (4, 3):
      with pytest.raises(UserError, match=f"no checkpoint of step {step} was saved .* latest is 4"):
        checkpoints.save(step, _state(step), {}, {})


def test_what_an_interrupted_save_left_is_no_checkpoint(tmp_path):
  with Checkpoints(tmp_path, Checkpoint(), Ranking("validation/accuracy")) as checkpoints:
    checkpoints.save(4, _state(4), {}, {})
  (tmp_path / "8.orbax-checkpoint-tmp").mkdir()
  (tmp_path / "2.deleted" / "state").mkdir(parents=True)  # and an interrupted deletion
  with Checkpoints(tmp_path, Checkpoint(), Ranking("validation/accuracy")) as checkpoints:
    assert checkpoints.latest_step() == 4
    assert [path.name for path in tmp_path.iterdir()] == ["4"]
    checkpoints.save(8, _state(8), {}, {})
    checkpoints.wait()
    np.testing.assert_array_equal(checkpoints.restore(_template()).params["w"], _state(8).params["w"])
