import fcntl
import json
import os
import shutil

import pytest


@pytest.fixture(autouse=True)
def no_traces(tmp_path_factory, monkeypatch):
  """The user's own cache is left alone, and a command leaves JAX's settings of the cache as they were."""
  import jax

  def settings():
    return {name: value for name, value in jax.config.values.items() if "cache" in name}

  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
  before = settings()
  yield
  assert settings() == before


@pytest.fixture
def programs(monkeypatch):
  """Where compiled programs are kept, as if this process had not been given JAX's variable; all of them are."""
  import jax
  from jax.experimental.compilation_cache import compilation_cache as jax_cache

  from convattn.commands import compilation_cache

  def use(folder, seconds):
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)
    jax_cache.reset_cache()

  before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
  use(None, 0.0)
  yield compilation_cache.default_folder()
  use(*before)


@pytest.fixture
def events():
  """What JAX did with its cache since the list was cleared: "hits" and "misses"."""
  import jax

  seen = []

  def listen(event, **_):
    start, _, kind = event.rpartition("/cache_")
    if start and kind in ("hits", "misses"):
      seen.append(kind)

  jax.monitoring.register_event_listener(listen)
  yield seen
  jax.monitoring.unregister_event_listener(listen)


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
  """The workdir of a short finished run on the digits, with averaged weights, of a model that compiles quickly."""
  folder = tmp_path_factory.getbasetemp()
  if "PYTEST_XDIST_WORKER" in os.environ:  # the first process that needs it trains for all of them
    folder = folder.parent
  folder /= "digits"
  folder.mkdir(exist_ok=True)
  with (folder / "lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not (folder / "run" / "result.json").exists():
      train_on_digits(folder)
  return folder / "run"


def train_on_digits(folder):
  import jax

  from convattn import training
  from convattn.models import CoAtNet, Run, Spec, Stage
  from convattn.training import runs
  from convattn.training.config import Checkpoint, Data, Experiment, Optimizer

  experiment = Experiment(
    num_steps=40,
    batch_size=32,
    eval_batch_size=120,
    eval_every=40,
    ema_decay=0.8,
    data=Data(dir=str(folder / "data")),
    optimizer=Optimizer(peak_learning_rate=0.02),
    checkpoint=Checkpoint(every=40),
  )
  stages = (Stage((Run("C", 1, 16),), 2), Stage((Run("T", 1, 32),), 2))
  model = CoAtNet(Spec(stages, (8, 8), stem_stride=1, head_size=8), 10)
  with pytest.MonkeyPatch.context() as patch:  # one device compiles in half of the time
    patch.setattr(runs, "make_mesh", lambda fsdp: training.make_mesh(jax.devices()[:1], fsdp))
    training.run(experiment, folder / "run", model=model)


@pytest.fixture
def edited(digits_run, tmp_path):
  """A function that copies the last checkpoint, changes its description, and returns its folder."""
  from convattn.training.manifest import write_manifest

  def make(**changes):
    folder = shutil.copytree(digits_run / "checkpoints" / "40", tmp_path / "edited")
    path = folder / "description" / "metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    write_manifest(folder)
    return folder

  return make


@pytest.fixture
def call(capfd):
  """A function that carries out a command: (exit status, stdout, stderr)."""
  from convattn.commands import main

  def carry_out(*arguments):
    capfd.readouterr()
    status = main(list(map(str, arguments)))
    return status, *capfd.readouterr()

  return carry_out


@pytest.fixture
def refusal(call):
  """A function that carries out a command that ends in one line; returns that line and what stood on stdout."""

  def carry_out(name, *arguments):
    status, out, err = call(name, *arguments)
    assert status == 2
    assert err.count("\n") == 1
    assert err.startswith(f"convattn {name}: ")
    return err.removeprefix(f"convattn {name}: ").rstrip(), out

  return carry_out


@pytest.fixture
def released(tmp_path, monkeypatch):
  """A tag of weights in a Hugging Face cache: `test_coatnet` at 32 px, drawn at random."""
  import jax
  import numpy as np
  import safetensors.numpy

  from convattn import create_model, pretrained
  from convattn.pretrained import tags

  model = create_model("test_coatnet", 10)
  image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
  shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
  draws = np.random.default_rng(0)
  variables = jax.tree.map(lambda leaf: draws.normal(0.2, 0.2, leaf.shape).astype(np.float32), dict(shapes))
  variables["batch_stats"] = jax.tree.map(lambda leaf: np.abs(leaf) + 0.5, variables["batch_stats"])
  tag = "test_coatnet.toy"
  row = tags.Tag(tag, pretrained.Preprocessing((32, 32), (0.5,) * 3, (0.25,) * 3, 0.9, "center"), num_classes=10)
  monkeypatch.setattr(tags, "TAGS", (*tags.TAGS, row))
  monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
  folder = tmp_path / "hub" / f"models--timm--{tag}" / "snapshots" / "main"
  folder.mkdir(parents=True)
  tensors = pretrained.to_timm("test_coatnet", variables)
  tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
  safetensors.numpy.save_file(tensors, folder / "model.safetensors")
  return tag
