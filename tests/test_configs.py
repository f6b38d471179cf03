"""Every experiment in configs/: both of its steps lower for every platform, and neither holds a scatter."""

import functools
import pathlib
import re
import runpy

import jax
import pytest

from convattn.data import load
from convattn.training.program import build, lowerings, make_model
from convattn.training.sharding import make_mesh
from convattn.training.task import ImageClassification
from convattn.training.validation import validate

CONFIGS = sorted((pathlib.Path(__file__).parent.parent / "configs").glob("*.py"))


@functools.cache
def texts(path):
  experiment = runpy.run_path(str(path))["get_config"]()
  validate(experiment)
  task = ImageClassification(load(experiment.data.name, experiment.data.dir), experiment)
  program = build(experiment, make_model(experiment, task.num_classes), task, make_mesh(jax.devices()[:1]))
  return lowerings(program, task, ("cpu", "cuda", "tpu"))


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
@pytest.mark.parametrize("step", ["train", "eval"])
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_lowers_without_scatter(path, step, platform):
  """A scatter may be summed in any order on a GPU, and XLA's deterministic mode refuses select_and_scatter."""
  text = texts(path)[step, platform]
  assert "module @jit" in text
  assert "scatter" not in text
  groups = {int(count) for count in re.findall(r"feature_group_count = (\d+)", text)} - {1}
  assert bool(groups) == (platform != "cpu")  # depthwise convolutions are shifted sums on a CPU
