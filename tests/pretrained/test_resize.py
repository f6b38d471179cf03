import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convattn
from convattn.errors import UserError
from convattn.ops import resize_table


@pytest.fixture(scope="module")
def trained():
  model = convattn.create_model("coatnet_mini_8", num_classes=3)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 10, 1)), train=False))
  rng = np.random.default_rng(0)
  return model, jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype), shapes)


def table(variables):
  return variables["params"]["stage_3"]["block_0"]["attention"]["bias_table"]


def test_to_its_own_grid_is_the_identity(trained):
  model, variables = trained
  again = convattn.pretrained.resize(model, variables, (8, 10))
  assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), again, variables))


def test_what_fits_is_returned_as_it_is(trained):
  model, variables = trained
  arrays = jax.tree.map(np.asarray, variables)
  for given in (variables, arrays):
    resized = convattn.pretrained.resize(model, given, (8, 10), method="timm")
    assert all(a is b for a, b in zip(jax.tree.leaves(resized), jax.tree.leaves(given), strict=True))


def test_another_grid_works_and_keeps_the_rest(trained):
  model, variables = trained
  resized = convattn.pretrained.resize(model, variables, (np.int64(12), 8))
  assert (table(variables).shape, table(resized).shape) == ((3, 7, 9), (3, 11, 7))
  images = jnp.zeros((2, 12, 8, 1))
  assert jax.eval_shape(lambda: model.apply(resized, images, train=False)).shape == (2, 3)
  with pytest.raises(ValueError, match="grid of 6x4.*belongs to 4x5.*resize"):
    jax.eval_shape(lambda: model.apply(variables, images, train=False))
  np.testing.assert_array_equal(
    resized["batch_stats"]["stem"]["norm_1"]["var"], variables["batch_stats"]["stem"]["norm_1"]["var"]
  )


def test_bilinear_is_exact_on_planes(trained):
  """Half-pixel centres: sample i of m reads (i + 1/2) n / m - 1/2 of n; a plane is reproduced inside the border."""
  model, variables = trained
  plane = np.broadcast_to(np.arange(7)[:, None] * 3.0 + np.arange(9)[None] * 5.0, (3, 7, 9)).astype(np.float32)
  variables = jax.tree.map(lambda a: a, variables)
  variables["params"]["stage_3"]["block_0"]["attention"]["bias_table"] = jnp.asarray(plane)
  out = table(convattn.pretrained.resize(model, variables, (12, 12)))
  row, column = ((np.arange(11) + 0.5) * n / 11 - 0.5 for n in (7, 9))
  expected = np.clip(row, 0, 6)[:, None] * 3 + np.clip(column, 0, 8)[None] * 5
  np.testing.assert_allclose(out, np.broadcast_to(expected, (3, 11, 11)), atol=1e-4)


def test_an_unknown_method_is_refused(trained):
  with pytest.raises(ValueError, match="method is 'nearest', but must be one of 'bilinear', 'timm'"):
    convattn.pretrained.resize(*trained, 8, method="nearest")


def test_a_smaller_grid_samples_and_does_not_average(trained):
  """No antialiasing: each sample interpolates its two neighbours along each axis, however far apart the samples are."""
  model, variables = trained
  random = np.random.default_rng(0).standard_normal((3, 7, 9)).astype(np.float32)
  variables = jax.tree.map(lambda a: a, variables)
  variables["params"]["stage_3"]["block_0"]["attention"]["bias_table"] = jnp.asarray(random)
  out = table(convattn.pretrained.resize(model, variables, 6))
  row, column = ((np.arange(5) + 0.5) * n / 5 - 0.5 for n in (7, 9))
  along_rows = np.stack([[np.interp(row, np.arange(7), head[:, j]) for j in range(9)] for head in random])  # [n, 9, 5]
  expected = np.stack([[np.interp(column, np.arange(9), head[:, i]) for i in range(5)] for head in along_rows])
  np.testing.assert_allclose(out, expected, atol=1e-5)


def with_table(variables, array):
  variables = jax.tree.map(lambda leaf: leaf, variables)
  variables["params"]["stage_3"]["block_0"]["attention"]["bias_table"] = array
  return variables


@pytest.mark.parametrize("method", ["bilinear", "timm"])
def test_each_table_goes_through_the_same_arithmetic(trained, method):
  model, variables = trained
  resized = convattn.pretrained.resize(model, variables, (12, 8), method=method)
  np.testing.assert_array_equal(table(resized), resize_table(table(variables), (6, 4), method))
  other = {"bilinear": "timm", "timm": "bilinear"}[method]
  assert np.abs(table(resized) - resize_table(table(variables), (6, 4), other)).max() > 1e-3


def test_tables_are_found_wherever_they_lie(trained):
  """Averages beside the parameters, bare or whole, and a state made of tuples."""
  model, variables = trained
  params = variables["params"]
  twice = jax.tree.map(lambda array: 2 * array, params)
  given = {
    **variables,
    "ema": twice,
    "average": {"params": twice, "debias": np.float32(0.5)},
    "state": (params, [twice]),
  }
  resized = convattn.pretrained.resize(model, given, 12, method="timm")
  expected = table(resized)
  assert expected.shape == (3, 11, 11) and jax.tree.structure(resized) == jax.tree.structure(given)
  found = [{"params": tree} for tree in (resized["ema"], resized["average"]["params"], resized["state"][1][0])]
  for tree in found:
    np.testing.assert_allclose(table(tree), 2 * expected, rtol=1e-6)
  np.testing.assert_array_equal(table({"params": resized["state"][0]}), expected)
  assert resized["average"]["debias"] == np.float32(0.5)
  assert jax.tree.leaves(resized["batch_stats"])[0] is jax.tree.leaves(given["batch_stats"])[0]


def test_models_without_tables_come_back_as_they_are():
  model = convattn.create_model("coatnet_mini_8", num_classes=3, relative_position="mlp", relative_hidden=8)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False))
  variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
  resized = convattn.pretrained.resize(model, variables, (20, 12), method="timm")
  assert all(a is b for a, b in zip(jax.tree.leaves(resized), jax.tree.leaves(variables), strict=True))
  images = jnp.zeros((1, 20, 12, 1))
  assert jax.eval_shape(lambda: model.apply(resized, images, train=False)).shape == (1, 3)


def test_float64_arrays_of_numpy_are_not_narrowed(trained):
  model, variables = trained
  exact = np.random.default_rng(0).standard_normal((3, 7, 9))
  out = table(convattn.pretrained.resize(model, with_table(variables, exact), 12))
  assert isinstance(out, np.ndarray) and out.dtype == np.float64
  with jax.enable_x64(True):
    np.testing.assert_array_equal(out, resize_table(jnp.asarray(exact), (6, 6)))


def test_works_inside_jit(trained):
  model, variables = trained
  inside = jax.jit(lambda variables: convattn.pretrained.resize(model, variables, 12, "timm"))(variables)
  np.testing.assert_allclose(table(inside), table(convattn.pretrained.resize(model, variables, 12, "timm")), atol=1e-6)


@pytest.mark.parametrize("size", [0, -8, (8,), (8, 8, 8), 8.5, "8"])
def test_an_image_size_of_another_form_is_refused(trained, size):
  with pytest.raises(ValueError, match="image_size is .*, but must be a number of pixels or"):
    convattn.pretrained.resize(*trained, size)


@pytest.mark.parametrize("above", ["", "ema"])
def test_variables_of_another_architecture_are_refused_by_name(trained, above):
  model, variables = trained
  other = convattn.create_model("coatnet_mini_8", num_classes=3, stem_kernel=5)
  path = "/".join(filter(None, (above, "params/stem/conv_1/kernel")))
  if above:  # the parameters are the model's, their average is another's
    shapes = jax.eval_shape(lambda: other.init(jax.random.key(0), jnp.zeros((1, 8, 10, 1)), train=False))
    given = {**variables, above: {"params": jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes["params"])}}
    expected = f"than coatnet_mini_8's: at '{path}' they have (5, 5, 1, 32), but the model has (3, 3, 1, 32); resize"
  else:
    model, given = other, variables
    expected = f"than CoAtNet's: at '{path}' they have (3, 3, 1, 32), but the model has (5, 5, 1, 32); resize changes"
  with pytest.raises(UserError) as refused:
    convattn.pretrained.resize(model, given, 12)
  assert expected in str(refused.value) and "\n" not in str(refused.value)


def test_another_number_of_classes_and_no_statistics_are_no_other_architecture(trained):
  model, variables = trained
  given = {"params": variables["params"]}
  resized = convattn.pretrained.resize(model.clone(num_classes=7), given, 12)
  np.testing.assert_array_equal(table(resized), table(convattn.pretrained.resize(model, variables, 12)))


def test_tables_of_another_architecture_are_refused(trained):
  model, variables = trained
  strange = {**variables, "ema": {"stage_7": {"bias_table": jnp.zeros((1, 3, 3))}}}
  with pytest.raises(ValueError, match="the model has no table 'ema/stage_7/bias_table'"):
    convattn.pretrained.resize(model, strange, 12)
