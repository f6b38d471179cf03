"""The README's Python runs as written."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import convattn

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_there_is_python_in_it():
  assert len(BLOCKS) >= 5


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  """A Hugging Face cache with drawn weights in the place of the released ones that the README loads."""
  from safetensors.numpy import save_file

  (tag,) = set(re.findall(r"pretrained\.load\(\"(.*?)\"\)", README))
  folder = tmp_path_factory.mktemp("hub")
  path = folder / f"models--timm--{tag}" / "snapshots" / "main" / "model.safetensors"
  path.parent.mkdir(parents=True)
  name = tag.partition(".")[0]
  model = convattn.create_model(name)
  variables = jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(jnp.zeros((1, 224, 224, 3)))
  save_file(convattn.pretrained.to_timm(name, variables), path)
  return folder


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_runs_as_written(number, cache, tmp_path):
  import sklearn.datasets

  photos = pathlib.Path(sklearn.datasets.__file__).parent / "images"
  shutil.copy(photos / "china.jpg", tmp_path / "photo.jpg")
  code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{BLOCKS[number]}"
  environment = {**os.environ, "HF_HUB_CACHE": str(cache)}
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr


def test_what_it_installs_can_be_installed():
  """convattn is not on PyPI."""
  installed = re.findall(r"pip install (\S+)", README)
  assert set(installed) == {".", "'.[peer]'", "'.[prepare]'", "huggingface_hub"}


def test_the_error_of_another_grid_is_quoted_as_it_is():
  model = convattn.create_model("coatnet_mini_8")
  images = [jax.ShapeDtypeStruct((1, *size, 3), jnp.float32) for size in ((8, 8), (12, 8))]
  variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images[0])
  with pytest.raises(ValueError) as raised:
    jax.eval_shape(lambda v, x: model.apply(v, x, train=False), variables, images[1])
  assert f"ValueError: {raised.value}" in " ".join(README.split())


def test_the_files_it_names_exist():
  named = re.findall(r"`((?:convattn|configs|tests|docs|benchmarks)/[\w/.]*)`", README)
  assert len(named) > 8
  assert [path for path in named if not (ROOT / path).exists()] == []
  for image in re.findall(r"!\[.*\]\((.*)\)", README):
    assert (ROOT / image).exists()


def test_every_link_inside_it_has_a_heading():
  headings = {
    re.sub(r"[^\w -]", "", line.lower()).strip().replace(" ", "-") for line in re.findall(r"^#+ (.*)", README, re.M)
  }
  assert set(re.findall(r"\]\(#(.*?)\)", README)) <= headings


def test_its_architectures_are_those_there_are():
  """Names and parameters of the table; multiply-adds and accuracies have their own tests."""
  from convattn.models.timm_variants import TIMM_VARIANTS
  from convattn.pretrained.tags import TAGS

  rows = dict(re.findall(r"^\| `(coatne\w+|test_coatnet)` \| [\d,]+ \| [\d.]+ \| (.*) \|$", README, re.M))
  assert set(rows) == set(TIMM_VARIANTS)
  for name, cells in rows.items():
    tags = [tag for tag in TAGS if tag.architecture == name and tag.trained]
    assert set(re.findall(r"`\.(.*?)`", cells)) == {tag.name.partition(".")[2] for tag in tags}
    accuracies = {f"{tag.accuracy:.2f}" for tag in tags if tag.accuracy is not None}
    assert set(re.findall(r"\d\d\.\d\d", cells)) == accuracies
