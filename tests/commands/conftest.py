import json
import shutil

import pytest


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
  """The workdir of a short finished run on the digits, with averaged weights, of a model that compiles quickly."""
  from convattn import training
  from convattn.models import CoAtNet, Run, Spec, Stage
  from convattn.training.config import Checkpoint, Data, Experiment, Optimizer

  folder = tmp_path_factory.mktemp("digits")
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
  training.run(experiment, folder / "run", model=model)
  return folder / "run"


@pytest.fixture
def edited(digits_run, tmp_path):
  """A function that copies the last checkpoint, changes its description, and returns its folder."""

  def make(**changes):
    folder = shutil.copytree(digits_run / "checkpoints" / "40", tmp_path / "edited")
    path = folder / "description" / "metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
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
