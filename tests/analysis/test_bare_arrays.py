"""Attention of anybody's model: named, placed on a grid that is stated, or refused in one line."""

import jax.numpy as jnp
import numpy as np
import pytest

from convattn.analysis import Grid, maps_of_arrays

RNG = np.random.default_rng(0)


def weights(queries, keys=None, b=2, heads=3):
  drawn = RNG.random((b, heads, queries, queries if keys is None else keys))
  return drawn / drawn.sum(-1, keepdims=True)


def test_layers_lie_on_a_grid_behind_their_prefix():
  first, second = arrays = (weights(13), jnp.asarray(weights(13), jnp.bfloat16))
  maps = maps_of_arrays(arrays, (3, 4), 1, image=(48, 63))
  assert [each.layer for each in maps] == ["layer_1", "layer_2"]
  for each in maps:
    assert each.query_grid == each.key_grid == Grid(3, 4, (16, 16), (0, 0), (48, 63))
    assert (each.prefix_tokens, each.modes, each.probabilities.dtype) == (1, ("probabilities",), np.float32)
  np.testing.assert_allclose(maps[0].dense(), first[:, :, 1:, 1:], rtol=1e-6)
  np.testing.assert_array_equal(maps[1].probabilities, np.asarray(second, np.float32))


def test_without_an_image_a_cell_is_a_pixel():
  (found,) = maps_of_arrays(weights(12)[None], (3, 4))
  assert found.query_grid == Grid(3, 4, image=(3, 4))
  np.testing.assert_array_equal(found.query_grid.centres()[5], [1.5, 1.5])


def test_what_is_not_on_the_grid_is_tokens():
  maps = maps_of_arrays({"text": weights(7), "cross": weights(7, 12), "image": weights(12)}, (3, 4))
  assert [each.layer for each in maps] == ["text", "cross", "image"]
  on_grid = Grid(3, 4, image=(3, 4))
  assert [each.query_grid for each in maps] == [Grid(1, 7), Grid(1, 7), on_grid]
  assert [each.key_grid for each in maps] == [Grid(1, 7), on_grid, on_grid]
  before, after = maps_of_arrays([weights(12), weights(13)], (3, 4), 1)  # the class token joins late
  assert before.query_grid == after.query_grid == on_grid
  assert (before.prefix_tokens, after.prefix_tokens) == (0, 1)
  (alone,) = maps_of_arrays([weights(7)])
  assert alone.query_grid == alone.key_grid == Grid(1, 7)


class Tensor:
  """What PyTorch would hand over, in the three ways that NumPy does not take."""

  def __init__(self, array, ways=()):
    self.array, self.ways = array, ways

  def __getattr__(self, name):
    if name in ("detach", "float", "cpu"):
      return lambda: Tensor(self.array, (*self.ways, name))
    raise AttributeError(name)

  def __array__(self, dtype=None, copy=None):
    assert set(self.ways) == {"detach", "float", "cpu"}
    return np.asarray(self.array, dtype)


def test_rows_that_are_masked_and_the_rounding_of_16_bits_are_taken():
  given = weights(300, b=1)
  given[:, 1, 7] = 0
  for kind in (np.float16, jnp.bfloat16):
    (found,) = maps_of_arrays([jnp.asarray(given, kind)])
    assert not found.probabilities[0, 1, 7].any()


def test_tensors_of_pytorch_are_taken():
  array = weights(4)
  np.testing.assert_allclose(maps_of_arrays([Tensor(array)])[0].probabilities, array, rtol=1e-6)


@pytest.mark.parametrize(
  "arrays, options, message",
  [
    ([], {}, "there are no arrays"),
    ([weights(4)[0]], {}, r"layer_1 gives attention of shape \(3, 4, 4\)"),
    ([weights(4), weights(4, b=1)], {}, "layer_2 has 1 images, but layer_1 has 2"),
    ([np.where(np.eye(4) > 0, -np.inf, weights(4))], {}, "layer_1 gives attention that is not finite"),
    ([weights(4)], {"grid": (3, 3)}, "grid is 3x3 after prefix_tokens = 0, 9 tokens in all, but layers have 4 keys"),
    ([weights(4)], {"grid": (1, 2), "prefix_tokens": 1}, "prefix_tokens = 1, 3 tokens in all"),
    (
      [weights(49)],
      {"grid": (7, 7), "prefix_tokens": 1},
      r"grid is 7x7, 49 cells, and prefix_tokens is 1, 50 tokens in all, but .* \(49 x 49\)",
    ),
    (
      [weights(4), RNG.normal(size=(2, 3, 4, 4))],
      {},
      "layer_2 gives negative numbers, down to -.*softmax over the keys",
    ),
    (
      [RNG.uniform(1, 2, (2, 3, 4, 4))],
      {},
      "layer_1 gives a row that sums to .*, but must give weights, rows that sum to",
    ),
    ([weights(40)[..., :30]], {}, "layer_1 gives a row that sums to 0"),
    ([weights(4)], {"grid": (2.0, 2)}, r"grid is \(2.0, 2\), but must be \(height, width\)"),
    ([weights(4)], {"grid": 2}, r"grid is 2, but must be \(height, width\)"),
    ([weights(4)], {"grid": (2, 2), "prefix_tokens": -1}, "prefix_tokens is -1"),
  ],
)
def test_what_is_no_attention_is_refused(arrays, options, message):
  with pytest.raises(ValueError, match=message):
    maps_of_arrays(arrays, **options)
