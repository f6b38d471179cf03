import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import convattn
from convattn.pretrained import load, tags, to_timm
from convattn.pretrained.tags import TAGS, Tag

TRAINED = Tag("test_coatnet.of_the_tests", tags.preprocessing("test_coatnet"), 12.5, num_classes=7)


@pytest.fixture
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
  monkeypatch.setitem(sys.modules, "huggingface_hub", None)

  def path(tag):
    folder = tmp_path / f"models--timm--{tag}" / "snapshots" / "main"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "model.safetensors"

  return path


@pytest.fixture(scope="module")
def small():
  model = convattn.create_model("test_coatnet", num_classes=7)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False))
  rng = np.random.default_rng(0)
  return model, jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype), shapes)


def test_a_trained_tag_gives_model_variables_and_preprocessing(cache, small, monkeypatch):
  monkeypatch.setattr(tags, "TAGS", (TRAINED,))
  save_file({k: np.ascontiguousarray(v) for k, v in to_timm("test_coatnet", small[1]).items()}, cache(TRAINED.name))
  for tag in (TRAINED.name, "test_coatnet"):  # the architecture alone, where it has one set of weights
    model, variables, preprocessing = load(tag)
    assert model == small[0] and preprocessing == TRAINED.preprocessing
    jax.tree.map(np.testing.assert_array_equal, variables, small[1])


def test_the_number_of_classes_is_the_files(cache, small, monkeypatch):
  monkeypatch.setattr(tags, "TAGS", (Tag(TRAINED.name, TRAINED.preprocessing, num_classes=1000),))
  save_file({k: np.ascontiguousarray(v) for k, v in to_timm("test_coatnet", small[1]).items()}, cache(TRAINED.name))
  model, variables, _ = load(TRAINED.name)
  assert model.num_classes == 7 == variables["params"]["classifier"]["logits"]["bias"].shape[0]


def test_a_damaged_file_is_one_line(cache, monkeypatch):
  monkeypatch.setattr(tags, "TAGS", (TRAINED,))
  path = cache(TRAINED.name)
  path.write_bytes(b"half of it")
  with pytest.raises(ValueError, match="cut short") as refused:
    load(TRAINED.name)
  assert str(path) in str(refused.value)


@pytest.mark.parametrize("row", [row for row in TAGS if not row.trained], ids=lambda row: row.name)
def test_nobody_has_trained_some(cache, row):
  for tag in (row.name, row.architecture):
    with pytest.raises(ValueError, match="nobody has published trained weights") as refused:
      load(tag)
    assert all(name in str(refused.value) for name in tags.nearest_trained(row.architecture))
    assert f"convattn.pretrained.from_timm({row.architecture!r}, 'PATH')" in str(refused.value)


@pytest.mark.parametrize("tag", ["coatnet_0_224.untrained", "coatnet_0_224"])
def test_weights_of_ones_own_are_pointed_at(cache, tag):
  path = cache(tag)
  path.touch()
  with pytest.raises(ValueError) as refused:
    load("coatnet_0_224")
  assert f"convattn.pretrained.from_timm('coatnet_0_224', {str(path)!r})" in str(refused.value)


def test_a_trained_tag_that_is_not_here_says_what_to_fetch(cache):
  with pytest.raises(ValueError, match="fetch https://huggingface.co/timm/coatnet_0_rw_224.sw_in1k/resolve/main/"):
    load("coatnet_0_rw_224.sw_in1k")
  with pytest.raises(ValueError, match=r"fetch https://huggingface.co/timm/coatnet_1_rw_224.sw_in1k/resolve"):
    load("coatnet_1_rw_224")


def test_several_weights_and_unknown_tags_are_told_apart(cache):
  with pytest.raises(ValueError, match="several weights; name one of coatnet_2_rw_224.sw_in12k_ft_in1k, coatnet_2_rw_"):
    load("coatnet_2_rw_224")
  with pytest.raises(ValueError, match="no CoAtNet 'coatnet_0_rw'; did you mean coatnet_0_rw_224"):
    load("coatnet_0_rw")
