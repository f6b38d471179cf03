"""timm's tensors into our variables and back: every one, exactly, or an error that names it."""

import pathlib
import sys

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import convattn
from convattn.errors import UserError
from convattn.models.timm_variants import TIMM_VARIANTS
from convattn.pretrained import timm_tensors

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from reference_cases import draw, load_case
from shrunken import shrunken


def state_dict_of(name, size=64):
  """Drawn tensors of the shapes that timm's model of that name has, from our shapes."""
  model = convattn.create_model(name, num_classes=7)
  images = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
  shapes = jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)
  zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
  tensors = convattn.pretrained.to_timm(name, zeros)
  return {key: draw(key, array.shape) for key, array in tensors.items() if not key.endswith("tracked")}


@pytest.mark.parametrize(
  "name",
  [
    *("test_coatnet", "coatnet_bn_0_rw_224", "coatnext_nano_rw_224"),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("coatnet_0_224", "coatnet_rmlp_1_rw_224")),
  ],
)
def test_the_round_trip_is_exact(name):
  case = load_case(name)
  back = convattn.pretrained.to_timm(name, convattn.pretrained.from_timm(name, case.state_dict))
  counters = {key for key in back if key.endswith("num_batches_tracked")}
  assert set(back) - counters == set(case.state_dict)
  assert {key.replace("num_batches_tracked", "running_var") for key in counters} == {
    key for key in case.state_dict if key.endswith("running_var")
  }
  assert all(back[key].dtype == np.int64 and back[key].shape == () and back[key] == 0 for key in counters)
  for key, array in case.state_dict.items():
    np.testing.assert_array_equal(back[key], array)
    assert back[key].dtype == array.dtype


def test_float64_stays_float64():
  state_dict = {key: array.astype(np.float64) for key, array in state_dict_of("test_coatnet").items()}
  back = convattn.pretrained.to_timm("test_coatnet", convattn.pretrained.from_timm("test_coatnet", state_dict))
  assert {back[key].dtype for key in state_dict} == {np.dtype(np.float64)}


def assert_covered(rows, ours):
  """Rows and parameter tree cover each other, and no two rows share a name or an array."""
  paths = [path for row in rows for path in row.paths]
  assert len(paths) == len(set(paths)) and len(rows) == len({row.name for row in rows})
  assert set(paths) == set(ours)


@pytest.mark.parametrize("name", TIMM_VARIANTS)
def test_every_tensor_has_one_place(name):
  """In a model of two stages with all other settings of timm's."""
  assert_covered(shrunken(name).rows, shrunken(name).shapes)


@pytest.mark.parametrize(
  "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "test_coatnet")) for name in TIMM_VARIANTS]
)
def test_every_tensor_of_the_whole_model_has_one_place(name):
  model = convattn.create_model(name)
  images = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
  shapes = jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)
  assert_covered(list(timm_tensors.tensors(TIMM_VARIANTS[name])), flatten_dict(shapes))


def test_what_is_written_to_a_file_comes_back(tmp_path):
  """safetensors writes an array's memory and not its order, without a word."""
  from safetensors.numpy import save_file

  state_dict = state_dict_of("test_coatnet")
  variables = convattn.pretrained.from_timm("test_coatnet", state_dict)
  save_file(convattn.pretrained.to_timm("test_coatnet", variables), tmp_path / "weights.safetensors")
  again = convattn.pretrained.from_timm("test_coatnet", tmp_path / "weights.safetensors")
  assert jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), again, variables))


def test_a_suffix_of_the_name_changes_nothing():
  state_dict = state_dict_of("test_coatnet")
  a, b = (convattn.pretrained.from_timm(name, state_dict) for name in ("test_coatnet", "test_coatnet.some_weights"))
  assert jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), a, b))


@pytest.mark.parametrize("size", [96, 200])
def test_grids_of_square_images_come_from_the_tables(size):
  """At 200 px the grids are 13 and 7: not those of an image that the last one alone would suggest."""
  variables = convattn.pretrained.from_timm("test_coatnet", state_dict_of("test_coatnet", size))
  grids = [variables["params"][f"stage_{i}"]["block_0"]["attention"]["bias_table"].shape[1:] for i in (3, 4)]
  assert grids == [(2 * -(-size // stride) - 1,) * 2 for stride in (16, 32)]


def test_reads_a_safetensors_file_and_its_classes(tmp_path):
  from safetensors.numpy import save_file

  save_file(state_dict_of("test_coatnet"), tmp_path / "weights.safetensors")  # of 7 classes
  variables = convattn.pretrained.from_timm("test_coatnet", tmp_path / "weights.safetensors")
  assert variables["params"]["classifier"]["logits"]["kernel"].shape == (128, 7)


def test_grids_come_from_the_tensors_or_from_the_image_size():
  wide = {
    name: np.zeros((27 * 11 if "stages.2" in name else 13 * 5, a.shape[1]), np.float32) if name.endswith("table") else a
    for name, a in load_case("test_coatnet").state_dict.items()
  }
  variables = convattn.pretrained.from_timm("test_coatnet", wide, image_size=(224, 96))
  shapes = [variables["params"][f"stage_{i}"]["block_0"]["attention"]["bias_table"].shape for i in (3, 4)]
  assert shapes == [(2, 27, 11), (3, 13, 5)]


@pytest.mark.parametrize(
  "change, message",
  [
    (lambda s: s.pop("stem.norm1.bias"), "'stem.norm1.bias' is missing"),
    (lambda s: s.update({"norms.weight": np.zeros(3)}), "'norms.weight' is not part of it"),
    (
      lambda s: s.update({"stem.conv1.weight": np.zeros((16, 3, 5, 5))}),
      r"'stem.conv1.weight' has shape \(16, 3, 5, 5\), but must be \(16, 3, 3, 3\)",
    ),
  ],
)
def test_a_wrong_tensor_is_named(change, message):
  state_dict = dict(load_case("test_coatnet").state_dict)
  change(state_dict)
  with pytest.raises(ValueError, match=message):
    convattn.pretrained.from_timm("test_coatnet", state_dict)


@pytest.mark.parametrize(
  "prefix, wrappers",
  [
    ("module.", "DataParallel"),
    ("_orig_mod.", "torch.compile"),
    ("module._orig_mod.", "DataParallel and torch.compile"),
    ("_orig_mod.module.", "DataParallel and torch.compile"),
  ],
)
def test_the_prefix_of_a_wrapped_model_is_left_out_and_said(prefix, wrappers, tmp_path, capsys):
  from safetensors.numpy import save_file

  bare = load_case("test_coatnet").state_dict
  expected = convattn.pretrained.from_timm("test_coatnet", bare)
  assert capsys.readouterr().err == ""
  wrapped = {f"{prefix}{name}": array for name, array in bare.items()}
  save_file(wrapped, tmp_path / "weights.safetensors")
  for given in (wrapped, tmp_path / "weights.safetensors"):
    jax.tree.map(np.testing.assert_array_equal, convattn.pretrained.from_timm("test_coatnet", given), expected)
    note = f"note: the prefix {prefix!r} of {wrappers} is left out of the names of the tensors.\n"
    assert capsys.readouterr().err == note


@pytest.mark.parametrize("outer", ["", "module."])
def test_a_prefix_on_some_names_alone_is_refused(outer, capsys):
  names = sorted(load_case("test_coatnet").state_dict)
  state_dict = {f"{outer}{'_orig_mod.' * (name != names[3])}{name}": np.zeros(3) for name in names}
  with pytest.raises(UserError) as refused:
    convattn.pretrained.from_timm("test_coatnet", state_dict)
  assert str(refused.value) == (
    f"test_coatnet: tensor '{outer}_orig_mod.{names[0]}' has the prefix '_orig_mod.' of torch.compile, but "
    f"'{outer}{names[3]}' has not; save all tensors of one model."
  )
  assert capsys.readouterr().err == ""


def test_an_architecture_that_timm_lacks_is_refused():
  with pytest.raises(ValueError, match="timm has no CoAtNet 'coatnet_9_224'; did you mean coatnet_"):
    convattn.pretrained.from_timm("coatnet_9_224", {})
