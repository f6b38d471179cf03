import fcntl
import importlib.util
import io
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import time

import pytest

from convattn.data import load, stock
from convattn.data.stock import prepare_stock

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import record_sets

ROOT = pathlib.Path(__file__).resolve().parents[2]
HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None


@pytest.fixture
def installed(monkeypatch):
  """As if TensorFlow were there."""
  monkeypatch.setattr(stock.importlib.util, "find_spec", lambda name: name)


def made(name, root, manual_dir):
  record_sets.write(root, name, {"train": record_sets.examples(10), "test": record_sets.examples(3)})


def test_data_that_is_missing_names_the_command_that_makes_it(tmp_path, monkeypatch):
  for name in ("cifar10", "cifar10_corrupted/fog_1"):
    with pytest.raises(ValueError) as caught:
      load(name, str(tmp_path))
    assert str(caught.value) == (
      f"data set {name!r} is not in {str(tmp_path)!r}; make it with: convattn prepare {name} --data_dir={tmp_path}"
    )
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "there"))
  with pytest.raises(ValueError, match=f"prepare mnist --data_dir={tmp_path}/there$"):
    load("mnist")


def test_a_name_that_nobody_knows_gives_the_nearest_of_all(tmp_path):
  record_sets.write(tmp_path, "pets", {"test": record_sets.examples(2)})
  with pytest.raises(
    ValueError, match="unknown data set 'cifer10'; did you mean 'cifar10' or .* Known: digits, folder"
  ):
    load("cifer10", str(tmp_path))
  with pytest.raises(ValueError, match="did you mean 'pets'[?] Known: digits, folder, pets, and"):
    load("pats", str(tmp_path))


@pytest.mark.skipif(HAS_TENSORFLOW, reason="TensorFlow is installed")
def test_without_tensorflow_it_says_how_to_install_it_and_writes_nothing(tmp_path):
  with pytest.raises(ValueError, match=r"'cifar10' takes TensorFlow .* pip install '\.\[prepare\]'") as caught:
    prepare_stock("cifar10", tmp_path / "made")
  assert "\n" not in str(caught.value) and not (tmp_path / "made").exists()


def test_what_is_there_is_not_made_again(tmp_path, installed, monkeypatch):
  monkeypatch.setattr(stock, "_download_and_prepare", made)
  folder = prepare_stock("cifar10", tmp_path)
  assert folder == tmp_path / "cifar10" / "1.0.0" and len(load("cifar10", str(tmp_path)).train) == 9
  monkeypatch.setattr(stock, "_download_and_prepare", lambda *_: pytest.fail("made again"))
  assert prepare_stock("cifar10", tmp_path) == folder


def test_an_unknown_name_is_not_tried(tmp_path, installed, monkeypatch):
  monkeypatch.setattr(stock, "_download_and_prepare", lambda *_: pytest.fail("tried"))
  with pytest.raises(ValueError, match="did you mean 'cifar10'"):
    prepare_stock("cifer10", tmp_path)


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path, installed, monkeypatch):
  half = tmp_path / "cifar10" / "incomplete.ABC_1.0.0"
  half.mkdir(parents=True)
  (half / "features.json").write_text("{}")
  with pytest.raises(ValueError, match="make it with"):
    load("cifar10", str(tmp_path))
  monkeypatch.setattr(stock, "_download_and_prepare", made)
  prepare_stock("cifar10", tmp_path)
  assert [path.name for path in (tmp_path / "cifar10").iterdir()] == ["1.0.0"]


def prepare_slowly(root):
  """In a process of its own: prepares when the other asks for the lock as well, and says in a file that it did."""
  flock = stock.fcntl.flock

  def ask(*arguments):
    (root / f"{os.getpid()}.asks").touch()
    flock(*arguments)

  def slow(name, root, manual_dir):
    (root / f"{os.getpid()}.made").touch()
    until = time.monotonic() + 600
    while len(list(root.glob("*.asks"))) < 2 and len(list(root.glob("*.made"))) < 2:
      assert time.monotonic() < until
      time.sleep(0.01)
    made(name, root, manual_dir)

  stock._download_and_prepare, stock.fcntl.flock = slow, ask
  stock.importlib.util.find_spec = lambda name: name
  prepare_stock("cifar10", root)


def test_of_two_processes_at_once_one_prepares_and_the_other_waits(tmp_path):
  context = multiprocessing.get_context("spawn")
  processes = [context.Process(target=prepare_slowly, args=(tmp_path,)) for _ in range(2)]
  for process in processes:
    process.start()
  for process in processes:
    process.join(900)
  assert [process.exitcode for process in processes] == [0, 0]
  assert len(list(tmp_path.glob("*.made"))) == 1 and len(load("cifar10", str(tmp_path)).test) == 3


def test_the_lock_ends_with_the_block(tmp_path, installed, monkeypatch):
  def fail(*_):
    with (tmp_path / ".cifar10.lock").open("a") as file, pytest.raises(BlockingIOError):
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    raise ValueError("it fails")

  monkeypatch.setattr(stock, "_download_and_prepare", fail)
  with pytest.raises(ValueError, match="it fails"):
    prepare_stock("cifar10", tmp_path)
  with (tmp_path / ".cifar10.lock").open("a") as file:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


# What follows takes TensorFlow: it writes ImageNet from two archives that look like the real ones.


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
  folder = tmp_path_factory.mktemp("manual")

  def add(tar, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))

  with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as outer:
    for number, wnid in enumerate(("n01440764", "n01443537")):
      stream = io.BytesIO()
      with tarfile.open(fileobj=stream, mode="w") as inner:
        for i in range(3):
          content = record_sets.encoded(10 * number + i, (30 + i, 40 - i), kind="JPEG")
          add(inner, f"{wnid}_{i}.JPEG", content)
      add(outer, f"{wnid}.tar", stream.getvalue())
  with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as tar:
    for i in range(1, 5):
      add(tar, f"ILSVRC2012_val_{i:08}.JPEG", record_sets.encoded(100 + i, (36, 28), kind="JPEG"))
  return folder


def preparing(root, archives):
  command = [sys.executable, "-m", "convattn", "prepare", "imagenet2012", f"--data_dir={root}"]
  return subprocess.Popen(
    [*command, f"--manual_dir={archives}"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TENSORFLOW, reason="TensorFlow is not installed")
def test_imagenet_is_prepared_from_its_archives_also_after_a_kill_and_by_two_at_once(tmp_path, archives):
  killed = preparing(tmp_path, archives)
  until = time.monotonic() + 600
  while not list(tmp_path.glob("imagenet2012/incomplete.*")):
    assert time.monotonic() < until and killed.poll() is None
    time.sleep(0.005)
  killed.send_signal(signal.SIGKILL)
  killed.communicate()
  assert [path.name[:10] for path in (tmp_path / "imagenet2012").iterdir()] == ["incomplete"]
  both = [preparing(tmp_path, archives) for _ in range(2)]
  for process in both:
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0
    assert said.splitlines() == [str(tmp_path / "imagenet2012"), "train 6", "validation 4", "test 4"]
  assert [path.name for path in (tmp_path / "imagenet2012").iterdir()] == ["5.1.0"]
  dataset = load("imagenet2012", str(tmp_path), image_size=16)
  assert dataset.class_names[0] == "tench" and dataset.num_classes == 1000
  assert sorted(dataset.train.labels) == [0, 0, 0, 1, 1, 1]
  assert dataset.validation[0]["image"].shape == (16, 16, 3)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TENSORFLOW, reason="TensorFlow is not installed")
def test_archives_that_are_missing_are_one_line(tmp_path):
  process = preparing(tmp_path, tmp_path / "nowhere")
  _, said = process.communicate(timeout=900)
  assert process.returncode == 2
  assert said.splitlines()[-1].startswith("convattn prepare: TFDS cannot prepare 'imagenet2012' in ")
