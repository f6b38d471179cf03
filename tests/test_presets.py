"""The experiments on data that is not here, at a reduced size: from encoded pictures on the disk to the result."""

import dataclasses
import importlib.util
import io
import json
import pathlib
import runpy

import numpy as np
import PIL.Image
import pytest

from convattn import training
from convattn.models import Run, Spec, Stage, variants
from convattn.training import workdir as files
from convattn.training.writer import read_metrics

pytestmark = pytest.mark.usefixtures("one_device")

ROOT = pathlib.Path(__file__).parent.parent
TINY = Spec((Stage((Run("C", 1, 8),), 2), Stage((Run("T", 1, 8),), 1)), (4, 4), stem_stride=2, head_size=4)


def record_sets():
  spec = importlib.util.spec_from_file_location("convattn_record_sets", ROOT / "tests" / "data" / "record_sets.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def jpeg(seed, size):
  pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
  stream = io.BytesIO()
  PIL.Image.fromarray(pixels).save(stream, "JPEG")
  return stream.getvalue()


def records(root, name, size, splits):
  import tensorflow_datasets as tfds

  image = tfds.features.Image() if size is None else tfds.features.Image(shape=(*size, 3), encoding_format="jpeg")
  features = {"image": image, "label": tfds.features.ClassLabel(names=["n02119789", "n02100735", "n02110185"])}
  made = {
    split: [{"image": jpeg(i, size or (30 + i % 3, 41 - i % 4)), "label": i % 3} for i in range(count)]
    for split, count in splits.items()
  }
  record_sets().write(root, name, made, features)


def folder(root):
  for split, count in (("train", 4), ("validation", 1)):
    for number, name in enumerate(("n02119789", "n02100735", "n02110185")):
      place = root / split / name
      place.mkdir(parents=True)
      for i in range(count):
        (place / f"{i}.JPEG").write_bytes(jpeg(10 * number + i, (30 + i, 41)))


@pytest.mark.parametrize(
  "preset, argument, data",
  [
    pytest.param(
      "cifar10",
      None,
      lambda root: records(root, "cifar10", (32, 32), {"train": 20, "test": 4}),
      marks=pytest.mark.slow,
    ),
    pytest.param(
      "imagenet",
      "coatnet_0",
      lambda root: records(root, "imagenet2012", None, {"train": 12, "validation": 5}),
      marks=pytest.mark.slow,
    ),
    *(pytest.param("imagenet", f"coatnet_{number}", folder, marks=pytest.mark.slow) for number in (1, 2, 3)),
    *(pytest.param("imagenet21k", f"coatnet_{number}", folder, marks=pytest.mark.slow) for number in (2, 3, 4)),
  ],
)
def test_an_experiment_runs_from_encoded_pictures_to_its_result(preset, argument, data, tmp_path, monkeypatch):
  monkeypatch.setitem(variants.VARIANTS, "tiny", TINY)
  data(tmp_path / "data")
  full = runpy.run_path(str(ROOT / "configs" / f"{preset}.py"))["get_config"](*filter(None, [argument]))
  size = {} if preset == "cifar10" else {"image_size": 32}
  name = "folder" if data is folder else full.data.name
  experiment = dataclasses.replace(
    full,
    num_steps=3,
    batch_size=8,
    eval_batch_size=4,
    log_every=1,
    eval_every=3,
    data=dataclasses.replace(full.data, name=name, dir=str(tmp_path / "data"), **size),
    model=dataclasses.replace(full.model, name="tiny"),
    optimizer=dataclasses.replace(full.optimizer, warmup_steps=1),
    checkpoint=dataclasses.replace(full.checkpoint, every=3),
  )
  state = training.run(experiment, tmp_path / "run")
  assert int(state.step) == 3
  result = json.loads((tmp_path / "run" / files.RESULT).read_text())
  lines = read_metrics(tmp_path / "run" / files.METRICS)
  assert result["test/count"] == {"cifar10": 4, "imagenet": 5, "imagenet21k": 3}[preset] - 2 * (data is folder) * (
    preset == "imagenet"
  )
  assert all(np.isfinite(line["train/loss"]) for line in lines)
  # The sigmoid loss is a sum over the classes: of three near 3 log 2; the softmax's near log 3.
  assert 0.3 < lines[0]["train/loss"] / (3 * np.log(2) if preset == "imagenet21k" else np.log(3)) < 3
