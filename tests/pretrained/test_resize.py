import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convattn


@pytest.fixture(scope="module")
def trained():
  model = convattn.create_model("coatnet_mini_8", num_classes=3)
  variables = jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(jnp.zeros((1, 8, 10, 1)))
  return model, variables


def table(variables):
  return variables["params"]["stage_3"]["block_0"]["attention"]["bias_table"]


def test_to_its_own_grid_is_the_identity(trained):
  model, variables = trained
  again = convattn.pretrained.resize(model, variables, (8, 10))
  assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), again, variables))


def test_another_grid_works_and_keeps_the_rest(trained):
  model, variables = trained
  resized = convattn.pretrained.resize(model, variables, (np.int64(12), 8))
  assert (table(variables).shape, table(resized).shape) == ((3, 7, 9), (3, 11, 7))
  assert model.apply(resized, jnp.zeros((2, 12, 8, 1)), train=False).shape == (2, 3)
  with pytest.raises(ValueError, match="grid of 6x4.*belongs to 4x5.*resize"):
    model.apply(variables, jnp.zeros((2, 12, 8, 1)), train=False)
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
  with pytest.raises(ValueError, match="method is 'nearest', but must be one of 'bilinear'"):
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
