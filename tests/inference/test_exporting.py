"""Exported classifiers: the same logits in a process without this package, and each platform's own lowerings."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import inference, pretrained
from convattn.errors import UserError
from convattn.inference.exporting import export_classifier
from convattn.models import CoAtNet, Run, Spec, Stage
from convattn.ops.convolutions import depthwise_conv_grouped
from convattn.training import Experiment, Restored
from convattn.training.config import Compute

STAGES = (Stage((Run("C", 2, 8),), 2), Stage((Run("X", 1, 8), Run("T", 1, 8)), 2))
DEPTHWISE = 3
MODEL = CoAtNet(Spec(STAGES, (4, 8), stem_stride=1, conv_stride="depthwise", head_size=4), 3)
TIMM_TABLES = dataclasses.replace(MODEL.spec, table_resize="timm")
PREPROCESSING = pretrained.Preprocessing((9, 14), (0.4, 0.5), (0.2, 0.3))


def restored_of(model, **fields):
  """A classifier whose variables are all drawn at random, so that none of them is without effect."""
  image = jax.ShapeDtypeStruct((1, *PREPROCESSING.image_size, 2), jnp.float32)
  shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
  draws = np.random.default_rng(3)

  def draw(path, leaf):
    # Products that keep the size of their input, so that every variable shows in the logits.
    deviation = 3.0 if path[-1].key == "bias_table" else np.prod(leaf.shape[:-1]) ** -0.5
    return draws.normal(float(path[-1].key == "scale"), deviation, leaf.shape).astype(leaf.dtype)

  variables = jax.tree_util.tree_map_with_path(draw, shapes)
  variables["batch_stats"] = jax.tree.map(lambda leaf: np.abs(leaf) + 0.5, variables["batch_stats"])
  return Restored(
    **{
      "model": model,
      "variables": variables,
      "preprocessing": PREPROCESSING,
      "class_names": ("a", "b", "c"),
      "experiment": None,
      "step": None,
      "source": "toy",
      **fields,
    }
  )


@pytest.fixture(scope="module")
def restored():
  return restored_of(MODEL)


@pytest.fixture(scope="module")
def artifact(restored):
  return export_classifier(restored)


def pixels(batch_size, size=PREPROCESSING.image_size):
  return np.random.default_rng(batch_size).integers(0, 256, (batch_size, *size, 2), np.uint8)


@jax.jit
def apply(variables, images):
  with jax.default_matmul_precision("highest"):
    return MODEL.apply(variables, images, train=False)


def expected(pictures, variables):
  return np.asarray(apply(variables, PREPROCESSING.normalize(pictures)))


ELSEWHERE = """
import pathlib, sys
import jax, jax.export, numpy as np
program = jax.export.deserialize(bytearray(pathlib.Path("model.stablehlo").read_bytes()))
for name in ("1", "3"):
  np.save(f"logits_{name}.npy", program.call(np.load(f"pixels_{name}.npy")))
assert not {"convattn", "flax"} & set(sys.modules)
"""


def test_another_process_gets_the_same_logits(restored, artifact, tmp_path):
  artifact.write(tmp_path / "model.stablehlo")
  for batch_size in (1, 3):
    np.save(tmp_path / f"pixels_{batch_size}.npy", pixels(batch_size))
  done = subprocess.run([sys.executable, "-c", ELSEWHERE], cwd=tmp_path, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  for batch_size in (1, 3):
    logits = np.load(tmp_path / f"logits_{batch_size}.npy")
    wanted = expected(pixels(batch_size), restored.variables)
    assert logits.shape == (batch_size, 3) and logits.dtype == np.float32
    assert np.ptp(wanted, axis=1).min() > 0.1
    np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


def lowerings(artifact):
  """(grouped convolutions, slices) in the program's text."""
  text = artifact.exported.mlir_module()
  groups = [count for count in re.findall(r"feature_group_count = (\d+)", text) if int(count) > 1]
  return len(groups), text.count("stablehlo.slice")


def test_each_platform_has_its_own_lowering_inside(restored, artifact):
  alone = {name: lowerings(export_classifier(restored, platforms=(name,))) for name in ("cpu", "cuda", "tpu")}
  assert [groups for groups, _ in alone.values()] == [0, DEPTHWISE, DEPTHWISE]
  # The shifted form has a slice for each place in the kernel: 7x7 is the largest.
  assert alone["cpu"][1] >= alone["cuda"][1] + 49
  assert alone["cuda"] == alone["tpu"]
  # In the default branch each platform's own convolution.
  groups, slices = lowerings(artifact)
  assert groups == 3 * DEPTHWISE
  assert slices == alone["cpu"][1]
  assert artifact.exported.platforms == ("cpu", "cuda", "tpu")


def test_what_runs_on_a_cpu_has_no_grouped_convolution(artifact):
  def compiled(call):
    return jax.jit(call).lower(pixels(3)).compile().as_text()

  text = compiled(artifact.exported.call)
  assert "convolution(" in text and "feature_group_count" not in text
  kernel = np.random.default_rng(0).normal(size=(3, 3, 1, 2)).astype(np.float32)
  grouped = compiled(lambda x: depthwise_conv_grouped(x.astype("float32"), kernel))
  assert "feature_group_count" in grouped  # the negative control


def test_another_image_size_comes_with_resized_tables(restored):
  size = (16, 11)
  artifact = export_classifier(restored, image_size=size, platforms=("cpu",))
  assert str(artifact.exported.in_avals[0].shape) == "(b, 16, 11, 2)"
  assert artifact.description["preprocessing"]["image_size"] == [16, 11]
  own = dataclasses.replace(restored, model=dataclasses.replace(MODEL, spec=TIMM_TABLES))
  other = export_classifier(own, image_size=size, platforms=("cpu",))
  logits = [each.exported.call(pixels(2, size)) for each in (artifact, other)]
  wanted = [
    expected(pixels(2, size), pretrained.resize(MODEL, restored.variables, size, method))
    for method in ("bilinear", "timm")
  ]
  np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-6)
  assert np.abs(wanted[0] - wanted[1]).max() > 1e-4


def test_one_program_takes_every_size_that_the_stride_divides():
  model = dataclasses.replace(MODEL, spec=dataclasses.replace(MODEL.spec, relative_attention="none"))
  own = restored_of(model)
  artifact = export_classifier(own, image_size="any", platforms=("cpu",))
  assert artifact.description["input"]["shape"] == ["b", "4*h", "4*w", 2]
  for size in ((8, 12), (20, 4)):
    wanted = model.apply(own.variables, PREPROCESSING.normalize(pixels(2, size)), train=False)
    np.testing.assert_allclose(artifact.exported.call(pixels(2, size)), wanted, rtol=1e-5, atol=1e-5)
  with pytest.raises(ValueError, match="divisible|4\\*h"):
    artifact.exported.call(pixels(2, (9, 12)))


@pytest.mark.parametrize("model", [MODEL, dataclasses.replace(MODEL, spec=TIMM_TABLES)], ids=["tables", "resized"])
def test_a_model_that_belongs_to_one_size_says_so(model):
  with pytest.raises(UserError, match="^no program of this model takes images of any size, since bias tables belong"):
    export_classifier(restored_of(model), image_size="any", platforms=("cpu",))


def test_a_model_that_wants_numbers_for_sizes_says_so():
  class Numbers(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
      return nn.Dense(3)(images[:, : int(images.shape[1])].mean((1, 2)))

  toy = dataclasses.replace(restored_of(MODEL), model=Numbers())
  variables = toy.model.init(jax.random.key(0), jnp.zeros((1, 4, 4, 2)), train=False)
  with pytest.raises(UserError, match=r"^no program of this model takes images of any size; export each \(.+\)\.$"):
    export_classifier(dataclasses.replace(toy, variables=variables), image_size="any", platforms=("cpu",))


@pytest.mark.parametrize(("precision", "found"), [(None, {"HIGHEST"}), ("default", set())])
def test_products_are_as_precise_as_in_training(precision, found):
  experiment = None if precision is None else Experiment(compute=Compute(matmul_precision=precision))
  model = dataclasses.replace(MODEL, spec=dataclasses.replace(MODEL.spec, stages=(Stage((Run("T", 1, 8),), 1),)))
  own = restored_of(model, experiment=experiment)
  text = export_classifier(own, platforms=("cuda",)).exported.mlir_module()
  kinds = {kind for line in text.splitlines() if "dot_general" in line for kind in re.findall("HIGHEST?|DEFAULT", line)}
  assert kinds == found


def test_the_description_says_how_to_use_it(restored, artifact, tmp_path):
  path, beside = artifact.write(tmp_path / "model.stablehlo")
  assert (path, beside) == (tmp_path / "model.stablehlo", tmp_path / "model.json")
  description = json.loads(beside.read_text())
  assert description == {
    "artifact": "model.stablehlo",
    "source": "toy",
    "step": None,
    "averaged": False,
    "input": {"name": "pixels", "dtype": "uint8", "shape": ["b", 9, 14, 2]},
    "output": {"name": "logits", "dtype": "float32", "shape": ["b", 3]},
    "platforms": ["cpu", "cuda", "tpu"],
    "class_names": ["a", "b", "c"],
    "preprocessing": PREPROCESSING.as_json(),
    "jax_version": jax.__version__,
    "calling_convention_version": artifact.exported.calling_convention_version,
  }
  assert pretrained.Preprocessing.from_json(description["preprocessing"]) == PREPROCESSING


def test_a_file_is_whole_or_not_there(artifact, tmp_path, monkeypatch):
  path = tmp_path / "model.stablehlo"
  path.write_bytes(b"older")
  calls = []

  def full(number):
    calls.append(number)
    if len(calls) == 2:
      raise OSError("No space left on device")

  monkeypatch.setattr(os, "fsync", full)
  with pytest.raises(OSError, match="No space left"):
    artifact.write(path)
  assert [each.name for each in tmp_path.iterdir()] == ["model.stablehlo"]
  assert path.read_bytes() == b"older"
  monkeypatch.undo()
  artifact.write(path)
  assert sorted(each.name for each in tmp_path.iterdir()) == ["model.json", "model.stablehlo"]
  assert path.read_bytes() == artifact.exported.serialize()


def test_a_description_does_not_overwrite_its_program(artifact, tmp_path):
  with pytest.raises(UserError, match="where its description goes; choose another suffix"):
    artifact.write(tmp_path / "model.json")
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  ("platforms", "found"), [((), "none"), (("cpu", "cuda", "cpu"), "cpu, cuda, cpu"), (("cpu", "gpu"), "cpu, gpu")]
)
def test_platforms_are_named(restored, platforms, found):
  with pytest.raises(UserError, match=f"platforms are {found}, but must be some of cpu, cuda, tpu"):
    export_classifier(restored, platforms=platforms)


def test_variables_that_do_not_fit_are_told_at_once(restored):
  large = dataclasses.replace(restored, variables={"params": np.broadcast_to(np.float32(0), (2**20, 2**9))})
  with pytest.raises(UserError, match="take 2.0 GiB, but the artifact's format holds less than 2 GiB"):
    export_classifier(large)


def test_a_module_of_ones_own_is_exported_at_another_size(toy, finished):
  restored = inference.restore_classifier(finished[0], model=toy.Toy())
  artifact = inference.export_classifier(restored, image_size=(6, 9), platforms=("cpu",))
  assert artifact.description["input"]["shape"] == ["b", 6, 9, 2]
  pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 9, 2), np.uint8)
  images = restored.preprocessing.normalize(pixels)
  wanted = restored.model.apply(restored.variables, images, train=False)
  np.testing.assert_allclose(artifact.exported.call(pixels), wanted, rtol=1e-4, atol=1e-5)
