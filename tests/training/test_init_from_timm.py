"""A run that starts from a file of timm's: its preprocessing, its channels, and files that do not serve."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from convattn import create_model, pretrained
from convattn.commands import main
from convattn.errors import UserError
from convattn.training import (
  ImageClassification,
  build,
  make_mesh,
  restore,
  run,
  sha256,
  workdir as files,
)
from convattn.training.classification import load_dataset
from convattn.training.config import Augmentation, Data, Experiment, Model, Optimizer
from convattn.training.init_from import find_initial, initial_variables
from convattn.training.program import make_model, run_keys

pytestmark = pytest.mark.usefixtures("shared_programs", "one_device")


@pytest.fixture(scope="module")
def timm_file(tmp_path_factory):
  """(path of a safetensors file in timm's shape with three classes, the variables in it)."""
  model = create_model("test_coatnet", num_classes=3)
  images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
  draws = np.random.default_rng(0)
  variables = jax.tree.map(lambda like: draws.uniform(0.5, 1, like.shape).astype(np.float32), shapes)
  path = tmp_path_factory.mktemp("timm") / "weights.safetensors"
  tensors = pretrained.to_timm("test_coatnet", variables)
  save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path)
  return path, variables


def test_a_file_of_timms_starts_a_run_with_its_preprocessing(timm_file, tmp_path):
  path, variables = timm_file
  experiment = Experiment(
    init_from=str(path),
    data=Data(classes="0-2", image_size=40),
    model=Model("test_coatnet"),
    augmentation=Augmentation(),
  )
  initial = find_initial(experiment, tmp_path)
  preset = pretrained.preprocessing("test_coatnet")
  assert preset.image_size == (160, 160)
  assert initial.preprocessing == dataclasses.replace(preset, image_size=(64, 64))  # what its tables are for
  chex.assert_trees_all_equal(initial.restored.variables, variables)
  task = ImageClassification(load_dataset(experiment, initial.preprocessing), experiment)
  model = make_model(experiment, task.num_classes)
  assert task.metadata["image_shape"] == [40, 40, 3]  # grey scans as RGB
  assert task.metadata["mean"] == [0.5, 0.5, 0.5]
  program, key = build(experiment, model, task, make_mesh(jax.devices()[:1])), run_keys(0)[0]
  start = initial_variables(initial.restored, model, task, program.template, key)
  expected = pretrained.resize(model, variables, 40)
  chex.assert_trees_all_equal(start, expected)  # three classes, and no names to tell them apart: the head is kept
  more = dataclasses.replace(task, dataset=dataclasses.replace(task.dataset, class_names=tuple("abcd")))
  model = create_model("test_coatnet", num_classes=4)
  start = initial_variables(initial.restored, model, more, build(experiment, model, more, program.mesh).template, key)
  assert start["params"]["classifier"]["logits"]["bias"].shape == (4,)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_stem_is_fitted_to_images_that_keep_their_channels_where_that_is_asked_for(timm_file, tmp_path, channels):
  """Grey scans stay grey; images of two channels, in a task of one's own, start from weights for three."""
  path, variables = timm_file
  experiment = Experiment(
    init_from=str(path), adapt_channels=True, data=Data(classes="0-2", image_size=40), model=Model("test_coatnet")
  )
  initial = find_initial(experiment, tmp_path)
  dataset = load_dataset(experiment, initial.preprocessing)
  assert (dataset.image_shape, dataset.mean, dataset.std) == ((40, 40, 1), (0.5,), (0.5,))
  if channels == 2:
    parts = {name: getattr(dataset, name) for name in ("train", "validation", "test")}
    twice = {name: dataclasses.replace(part, images=part.images.repeat(2, -1)) for name, part in parts.items()}
    dataset = dataclasses.replace(dataset, **twice, image_shape=(40, 40, 2), mean=(0.5,) * 2, std=(0.5,) * 2)
  task = ImageClassification(dataset, experiment)
  model = make_model(experiment, task.num_classes)
  program, key = build(experiment, model, task, make_mesh(jax.devices()[:1])), run_keys(0)[0]
  with pytest.raises(UserError, match=f"channels, but the data's have {channels}; .* or set adapt_channels to true"):
    initial_variables(initial.restored, model, task, program.template, key)
  start = initial_variables(initial.restored, model, task, program.template, key, adapt_channels=True)
  expected = pretrained.resize(model, pretrained.adapt_channels(variables, channels), 40)
  chex.assert_trees_all_equal(start, expected)
  assert expected["params"]["stem"]["conv_1"]["kernel"].shape[2] == channels


@pytest.mark.slow
def test_a_run_on_grey_scans_starts_from_weights_for_colours_and_is_scored_as_it_was_trained(timm_file, tmp_path):
  path, variables = timm_file
  still = Optimizer(peak_learning_rate=1e-30, weight_decay=0.0)
  experiment = Experiment(
    num_steps=1, batch_size=8, eval_batch_size=64, init_from=str(path), adapt_channels=True, optimizer=still,
    data=Data(classes="0-2", image_size=32), model=Model("test_coatnet"),
  )  # fmt: skip
  after = run(experiment, tmp_path / "run")
  summed = variables["params"]["stem"]["conv_1"]["kernel"].sum(2, keepdims=True)
  np.testing.assert_allclose(after.params["stem"]["conv_1"]["kernel"], summed, rtol=1e-6)
  restored = restore(tmp_path / "run")
  assert (restored.preprocessing.mean, restored.preprocessing.image_size) == ((0.5,), (32, 32))
  assert sha256(run(experiment, tmp_path / "run")) == sha256(after)  # a finished one is found again
  out = tmp_path / "a.json"
  assert main(["evaluate", f"--checkpoint={tmp_path / 'run'}", f"--out={out}"]) == 0
  result = files.read_result(tmp_path / "run")
  assert json.loads(out.read_text())["loss"] == pytest.approx(result["test/loss"], rel=1e-4)


def test_how_many_channels_is_read_from_the_file(timm_file, tmp_path):
  """Weights of grey pictures start a run on grey pictures, though the architecture's preset is for colours."""
  _, variables = timm_file
  stem = variables["params"]["stem"]
  kernel = stem["conv_1"]["kernel"].sum(2, keepdims=True)
  grey = variables | {"params": variables["params"] | {"stem": stem | {"conv_1": {"kernel": kernel}}}}
  tensors = pretrained.to_timm("test_coatnet", grey)
  path = tmp_path / "grey.safetensors"
  save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path)
  initial = find_initial(Experiment(init_from=str(path), model=Model("test_coatnet")), tmp_path)
  assert initial.preprocessing.mean == initial.preprocessing.std == (0.5,)


@pytest.mark.parametrize(
  "name, file, message",
  [
    ("coatnet_mini_8", None, "timm has no CoAtNet 'coatnet_mini_8'"),
    ("coatnet_nano_rw_224", None, "coatnet_nano_rw_224: tensor"),
    ("test_coatnet", "gone.safetensors", "gone.safetensors"),
  ],
)
def test_a_file_that_does_not_serve_is_one_line(timm_file, tmp_path, name, file, message):
  path = tmp_path / file if file else timm_file[0]
  with pytest.raises(ValueError, match=message) as raised:
    find_initial(Experiment(init_from=str(path), model=Model(name)), tmp_path)
  assert "\n" not in str(raised.value)
