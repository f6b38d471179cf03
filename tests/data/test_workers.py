import contextlib
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from convattn.data import (
  BrokenPicture,
  HostAugmentation,
  Workers,
  WorkersEnded,
  augmented_batch,
  evaluation_batches,
  load,
)

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import record_sets

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHANGES = HostAugmentation(resized_crop_area=0.3, randaugment_layers=2, randaugment_magnitude=6)
PLACE = {"batch_size": 11, "seed": 3, "step": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  """Pictures of several sizes; one of the train part and one of the validation part are broken."""
  root = tmp_path_factory.mktemp("pictures")
  for split, count in (("train", 6), ("val", 7)):
    for i in range(count):
      path = root / split / ("cat", "dog")[i % 2] / f"{i}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      pixels = np.random.default_rng(i + count).integers(0, 255, (20 + i, 31 - 2 * i, 3), np.uint8)
      Image.fromarray(pixels).save(path)
  (root / "train" / "dog" / "1.png").write_text("")
  (root / "val" / "cat" / "4.png").write_text("")
  return root


def dataset(root, broken="skip"):
  return load("folder", str(root), image_size=7, broken=broken)


@pytest.fixture(scope="module", params=[1, 3])
def workers(request, root):
  data = dataset(root)
  made = Workers(data, CHANGES, request.param)
  yield data, made
  made.close()


def same(one, other):
  assert one.keys() == other.keys()
  for name in one:
    np.testing.assert_array_equal(one[name], other[name])
    assert one[name].dtype == other[name].dtype


def test_batches_are_those_of_one_process_whatever_the_number_of_workers(workers, root):
  _, made = workers
  for step in (2, 0, 7):
    place = {**PLACE, "step": step}
    whole = augmented_batch(dataset(root), CHANGES, **place)
    same(made.train_batch(**place), whole)
    for rows in (slice(0, 4), slice(4, 11), slice(10, 11)):
      part = {name: array[rows] for name, array in whole.items()}
      same(made.train_batch(**place, rows=rows), part)
      same(augmented_batch(dataset(root), CHANGES, **place, rows=rows), part)


@pytest.mark.parametrize("batch_size", [2, 3, 20])
def test_evaluation_batches_too(workers, root, batch_size):
  _, made = workers
  for rows in (slice(0, 1), slice(1, 20)):
    parts = list(made.evaluation_batches("validation", batch_size, rows))
    for part, batch in zip(parts, evaluation_batches(dataset(root).validation, batch_size), strict=True):
      same(part, {name: array[rows] for name, array in batch.items()})
  ours = list(made.evaluation_batches("validation", batch_size))
  theirs = list(evaluation_batches(dataset(root).validation, batch_size))
  assert len(ours) == len(theirs)
  for one, other in zip(ours, theirs, strict=True):
    same(one, other)
  assert sum(batch["mask"].sum() for batch in ours) == 6


def test_records_are_read_in_workers_too(tmp_path):
  splits = {"train": record_sets.examples(9), "test": record_sets.examples(4)}
  record_sets.write(tmp_path, "pets", splits)
  data = load("pets", str(tmp_path), image_size=6)
  made = Workers(data, CHANGES, 2)
  same(made.train_batch(**PLACE), augmented_batch(data, CHANGES, **PLACE))
  (ours,), (theirs,) = made.evaluation_batches("test", 5), evaluation_batches(data.test, 5)
  same(ours, theirs)
  made.close()


def test_what_they_skip_is_counted_and_named_here(root, capsys):
  data = dataset(root)
  made = Workers(data, HostAugmentation(), 2)
  made.train_batch(**PLACE)
  list(made.evaluation_batches("validation", 3))
  made.train_batch(**PLACE)
  made.close()
  said = capsys.readouterr().err.splitlines()
  assert data.skipped() == 2 and len(said) == 2
  assert any("dog/1.png" in line for line in said) and any("cat/4.png" in line for line in said)


def test_a_broken_picture_is_raised_here(root):
  made = Workers(dataset(root, "stop"), CHANGES, 1)
  with pytest.raises(BrokenPicture, match=r"dog/1\.png") as caught:
    made.train_batch(**PLACE)
  assert caught.value.picture.endswith("dog/1.png")
  made.close()


def test_a_number_out_of_range_is_told_before_any_process_starts(root):
  with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
    Workers(dataset(root), CHANGES, 0)
  made, before = Workers(dataset(root), CHANGES, 1), children(os.getpid())
  with pytest.raises(ValueError, match="step must be at least 0"):
    made.train_batch(**{**PLACE, "step": -1})
  with pytest.raises(ValueError, match="batch_size must be at least 1"):
    made.evaluation_batches("validation", 0)
  assert children(os.getpid()) == before


def children(pid):
  """Workers that `pid` has started."""
  found = []
  for folder in pathlib.Path("/proc").glob("[0-9]*"):
    with contextlib.suppress(OSError):  # it has ended meanwhile
      parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
      if parent == pid and b"spawn_main" in (folder / "cmdline").read_bytes():
        found.append(int(folder.name))
  return found


def gone(pids):
  until = time.monotonic() + 600
  while any(os.path.exists(f"/proc/{pid}") for pid in pids):
    if time.monotonic() > until:
      return False
    time.sleep(0.02)
  return True


def test_they_survive_the_signals_of_a_job_until_they_are_closed(root):
  made, before = Workers(dataset(root), CHANGES, 1), children(os.getpid())
  first = made.train_batch(**PLACE)
  (pid,) = {*children(os.getpid())} - {*before}
  for number in (signal.SIGINT, signal.SIGTERM):
    os.kill(pid, number)
  same(made.train_batch(**PLACE), first)
  assert {*children(os.getpid())} - {*before} == {pid}
  made.close()
  assert gone([pid])
  same(made.train_batch(**PLACE), first)  # by another process
  made.close()


def test_one_that_is_killed_is_told_in_a_line(root):
  made, before = Workers(dataset(root), CHANGES, 1), children(os.getpid())
  made.train_batch(**PLACE)
  (pid,) = {*children(os.getpid())} - {*before}
  os.kill(pid, signal.SIGKILL)
  with pytest.raises(WorkersEnded, match="out of memory.*data.workers=0") as caught:
    made.train_batch(**PLACE)
  assert "\n" not in str(caught.value)
  made.close()


SCRIPT = """
import signal, sys
from convattn.data import HostAugmentation, Workers, load

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process started in the background lacks

def main():
  made = Workers(load("folder", sys.argv[1], image_size=7, broken="skip"), HostAugmentation(), 2)
  made.train_batch(batch_size=11, seed=3, step=2)
  print("ready", flush=True)
  {then}

{guard}main()
"""


def script(tmp_path, root, then, guard="if __name__ == '__main__': "):
  path = tmp_path / "script.py"
  path.write_text(SCRIPT.format(then=then, guard=guard))
  return subprocess.Popen(
    [sys.executable, path, root],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
  )


@pytest.mark.parametrize("end", ["interrupt", "kill", "exception"])
def test_none_is_left_behind(tmp_path, root, end):
  process = script(tmp_path, root, "signal.pause()" if end != "exception" else "raise OSError('ours')")
  assert process.stdout.readline() == "ready\n"
  workers = children(process.pid)
  if end == "interrupt":
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
  elif end == "kill":
    process.kill()
  _, said = process.communicate(timeout=600)
  assert gone(workers)
  if end != "kill":
    assert workers or end == "exception"
    assert said.count("Traceback") == 1  # none of a worker
    assert said.splitlines()[-1] == {"interrupt": "KeyboardInterrupt", "exception": "OSError: ours"}[end]


def test_a_script_without_the_guard_is_told_what_it_lacks(tmp_path, root):
  process = script(tmp_path, root, "pass", guard="")
  _, said = process.communicate(timeout=600)
  (line,) = (line for line in said.splitlines() if "WorkersEnded: " in line)  # among what the workers themselves say
  assert "__name__ == '__main__'" in line and process.returncode == 1


LIGHT = """
import pickle, sys
from convattn.data import workers
dataset, changes, place = pickle.load(open(sys.argv[1], "rb"))
workers._given = dataset, changes
workers._train_rows(0, 0, [(0, 0), (1, 2)])
workers._evaluation_rows("validation", range(2))
print([name for name in ("jax", "jaxlib", "flax", "chex", "tensorflow", "matplotlib") if name in sys.modules])
"""


def test_what_a_worker_does_imports_no_jax(tmp_path, root):
  (tmp_path / "given").write_bytes(pickle.dumps((dataset(root), CHANGES, PLACE)))
  done = subprocess.run(
    [sys.executable, "-c", LIGHT, tmp_path / "given"], capture_output=True, text=True, check=True, cwd=ROOT
  )
  assert done.stdout == "[]\n"
