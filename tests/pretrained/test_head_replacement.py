import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convattn
from convattn.errors import UserError
from convattn.pretrained import replace_head

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from shrunken import shrunken


def drawn(model, size=8):
  """Variables for a model, without running it: every array from its own random numbers."""
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, size, size, 1)), train=False))
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype), shapes)


@pytest.fixture(scope="module")
def trained():
  model = convattn.create_model("coatnet_mini_8", num_classes=3)
  return model, drawn(model)


def output_shape(model, variables):
  images = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
  return jax.eval_shape(lambda images: model.apply(variables, images, train=False), images).shape


def without_head(variables):
  """Every array but the head's by path."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
  named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
  return {name: leaf for name, leaf in named.items() if "classifier/logits" not in name}


def assert_the_rest_is_the_same(one, other):
  one, other = without_head(one), without_head(other)
  assert one.keys() == other.keys() and len(one) > 30
  for name, array in one.items():
    assert array.dtype == other[name].dtype
    np.testing.assert_array_equal(array, other[name], err_msg=name)


def test_another_number_of_classes(trained):
  _, variables = trained
  model = convattn.create_model("coatnet_mini_8", num_classes=5)
  replaced = replace_head(variables, model, jax.random.key(7))
  assert_the_rest_is_the_same(replaced, variables)
  fresh = jax.jit(lambda key: model.init(key, jnp.zeros((1, 8, 8, 1)), train=False)["params"]["classifier"]["logits"])
  head = replaced["params"]["classifier"]["logits"]
  jax.tree.map(np.testing.assert_array_equal, head, fresh(jax.random.key(7)))  # what the model's own init draws
  assert np.std(head["kernel"]) > 0.05
  assert output_shape(model, replaced) == (2, 5)
  assert variables["params"]["classifier"]["logits"]["bias"].shape == (3,)  # what was given is as it was


def test_the_same_number_of_classes_is_drawn_anew_and_from_the_key(trained):
  model, variables = trained
  kernels = [variables] + [replace_head(variables, model, jax.random.key(seed)) for seed in (1, 2)]
  kernels = [np.asarray(each["params"]["classifier"]["logits"]["kernel"]) for each in kernels]
  assert all((a != b).mean() > 0.9 for a, b in ((kernels[0], kernels[1]), (kernels[1], kernels[2])))


def test_no_head_and_back(trained):
  model, variables = trained
  bare_model = model.clone(num_classes=0)
  bare = replace_head(variables, bare_model, jax.random.key(1))
  assert "logits" not in bare["params"]["classifier"]
  assert_the_rest_is_the_same(bare, variables)
  again = replace_head(bare, model, jax.random.key(1))
  assert_the_rest_is_the_same(again, variables)
  assert (output_shape(bare_model, bare), output_shape(model, again)) == ((2, 96), (2, 3))


def test_dtypes_other_collections_and_another_image_size_pass(trained):
  half = jax.tree.map(lambda array: array.astype(jnp.bfloat16), drawn(trained[0], size=12))
  given = {**half, "notes": {"count": np.int64(3)}}
  replaced = replace_head(given, trained[0].clone(num_classes=2), jax.random.key(0))
  assert_the_rest_is_the_same(replaced, given)
  assert replaced["params"]["classifier"]["logits"]["kernel"].dtype == jnp.float32  # the model's


@pytest.mark.parametrize("classes", [5, 0])
def test_averaged_copies_get_the_same_head_wherever_they_lie(trained, classes):
  model, variables = trained
  copy = jax.tree.map(lambda leaf: 2 * leaf, variables["params"])
  statistics = {"batch_stats": variables["batch_stats"]}
  given = {
    **variables,
    "ema": {"params": copy, "model_state": statistics},
    "bare": copy,
    "notes": {"count": np.int64(3)},
  }
  other = model.clone(num_classes=classes, param_dtype=jnp.bfloat16)
  replaced = replace_head(given, other, jax.random.key(7))
  assert_the_rest_is_the_same(replaced, given)
  copies = replaced["ema"]["params"], replaced["bare"]
  if not classes:
    assert not any("logits" in each["classifier"] for each in (replaced["params"], *copies))
    return
  head = replaced["params"]["classifier"]["logits"]
  assert head["kernel"].dtype == jnp.bfloat16 and head["kernel"].shape[1] == classes
  for each in copies:
    average = each["classifier"]["logits"]
    assert average["kernel"].dtype == jnp.float32
    assert average["kernel"] is not copies[0]["classifier"]["logits"]["kernel"] or each is copies[0]  # donated once
    jax.tree.map(np.testing.assert_array_equal, average, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), head))


def test_an_average_of_another_architecture_is_refused(trained):
  model, variables = trained
  copy = {**variables["params"], "stage_3": {"scale": np.zeros(4)}}
  with pytest.raises(UserError, match=r"at 'ema/params/stage_3/scale' they have \(4,\), but the model has no such"):
    replace_head({**variables, "ema": {"params": copy}}, model, jax.random.key(0))


def test_another_architecture_names_the_first_difference(trained):
  _, variables = trained
  wide = convattn.create_model("coatnet_mini_8", num_classes=3, squeeze_ratio=0.5)
  with pytest.raises(ValueError) as refused:
    replace_head(variables, wide, jax.random.key(0))
  text = str(refused.value)
  assert "another architecture's than CoAtNet's: at 'params/stage_1/block_0/squeeze_excite/expand/" in text
  assert "\n" not in text
  given = variables["params"]["stage_1"]["block_0"]["squeeze_excite"]["expand"]["kernel"].shape
  assert f"they have {given}, but the model has {(2 * given[0], given[1])}" in text


def test_a_missing_and_a_surplus_array_are_named(trained):
  model, variables = trained
  less = {**variables, "params": {**variables["params"]}}
  scale = less["params"].pop("stage_3")["block_0"]["attention_norm"]["scale"].shape
  with pytest.raises(
    ValueError, match=r"than coatnet_mini_8's: at 'params/stage_3/block_0/attention/bias_table' they have no such array"
  ):
    replace_head(less, model, jax.random.key(0))
  more = {**variables, "params": {**variables["params"], "stage_9": {"scale": jnp.zeros(scale)}}}
  with pytest.raises(ValueError, match=r"at 'params/stage_9/scale' they have \(64,\), but the model has no such array"):
    replace_head(more, model, jax.random.key(0))
  without_statistics = {"params": variables["params"]}
  with pytest.raises(ValueError, match="at 'batch_stats/.*they have no such array"):
    replace_head(without_statistics, model, jax.random.key(0))


@pytest.mark.parametrize("variables", [{"params": {}}, {"params": {"dense": {"kernel": np.zeros((3, 4))}}}, {}])
def test_variables_of_no_coatnet_are_told_in_a_line(trained, variables):
  with pytest.raises(ValueError, match="not those of a model of convattn.list_models"):
    replace_head(variables, trained[0], jax.random.key(0))


@pytest.mark.parametrize("name", ["test_coatnet", "coatnet_bn_0_rw_224", "coatnext_nano_rw_224"])
def test_works_for_every_kind_of_head(name):
  model = shrunken(name).model("float32")
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))
  other = model.clone(num_classes=6)
  replaced = jax.eval_shape(lambda variables: replace_head(variables, other, jax.random.key(0)), shapes)
  assert replaced["params"]["classifier"]["logits"]["bias"].shape == (6,)
  assert without_head(replaced) == without_head(shapes)
