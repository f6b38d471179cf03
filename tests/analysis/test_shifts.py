"""Geometry of attention maps: shifts in pixels and in key cells, and which queries are interior."""

import numpy as np
import pytest

from convattn.analysis.attention_map import Grid
from convattn.analysis.shifts import shifts
from convattn.analysis.weight_blocks import blocks
from tests.analysis.maps_by_hand import grid, layer, square, uniform, window_cells, windowed


def everything(place):
  return np.arange(len(place.query_cells))


def test_on_one_grid_steps_and_pixels_agree():
  place = shifts(layer([uniform(grid(4, 5, (2, 3)))], grid(4, 5, (2, 3))))
  steps, pixels = place.steps(everything(place)), place.pixels(everything(place))
  np.testing.assert_array_equal(steps * (2, 3), pixels)
  assert steps[0, 6].tolist() == [1, 1] and steps[19, 0].tolist() == [-3, -4]  # key - query
  assert place.radius == (3, 4)


def test_pooled_keys():
  """Queries of stride 2, keys of 4: the cell that a query lies in is 0, half a key cell to either side in pixels."""
  queries, keys = grid(4, 6, 2.0), grid(2, 3, 4.0)
  place = shifts(layer([uniform(queries, keys)], queries, keys))
  assert place.query_cells[:, 1].tolist() == [0, 0, 1, 1, 2, 2] * 4
  assert place.query_cells[:, 0].tolist() == [0] * 12 + [1] * 12
  assert place.steps(np.array([7]))[0].tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
  # The query of cell (1, 1) has its middle at (3, 3), the first key at (2, 2).
  assert place.pixels(np.array([7]))[0, 0].tolist() == [-1, -1]


def test_strided_queries():
  """The middle of a query's cell lies between two key cells, and belongs to the later one."""
  queries, keys = grid(3, 4, 2.0), grid(6, 8)
  place = shifts(layer([uniform(queries, keys)], queries, keys))
  assert place.query_cells[:4].tolist() == [[1, 1], [1, 3], [1, 5], [1, 7]]
  assert place.steps(np.array([0]))[0, 0].tolist() == [-1, -1]
  assert place.pixels(np.array([0]))[0, 0].tolist() == [-0.5, -0.5]


def test_strides_that_are_no_binary_fraction():
  queries, keys = Grid(1, 29, (1, 448 / 58)), Grid(1, 58, (1, 224 / 58))
  place = shifts(layer([uniform(queries, keys)], queries, keys))
  assert place.query_cells[:, 1].tolist() == list(range(1, 58, 2))


@pytest.mark.parametrize(
  "side, first, last", [(1, 0, 0), (2, 0, 1), (3, 1, 1), (4, 1, 2), (7, 1, 5), (8, 2, 5), (14, 3, 10)]
)
def test_interior_queries_of_a_grid(side, first, last):
  place = shifts(layer([uniform(square(side))], square(side)))
  wanted = range(first, last + 1)
  assert place.interior.tolist() == [i * side + j for i in wanted for j in wanted]


def test_a_sequence_has_an_interior():
  place = shifts(layer([uniform(Grid(1, 9))], Grid(1, 9)))
  assert place.interior.tolist() == [2, 3, 4, 5, 6]


def test_interior_queries_of_windows():
  """Of windows of 4x3 cells: rows 1 and 2 and column 1 of each."""
  place = shifts(windowed(lambda delta: 0 * delta[None, ..., 0], 8, 6, (4, 3)))
  assert place.interior.tolist() == [i * 6 + j for i in (1, 2, 5, 6) for j in (1, 4)]
  assert place.radius == (3, 2)
  assert place.steps(np.array([0]))[0].max(0).tolist() == [3, 2]


def test_keys_that_are_none_are_neither_seen_nor_counted():
  cells = window_cells(4, 4, (4, 4)).copy()
  cells[:, 12:] = -1  # the last row is masked
  weights = np.full((1, 16, 16), 1 / 12)
  weights[..., 12:] = np.nan
  place = shifts(found := layer(weights, square(4), key_cells=cells))
  assert place.radius == (3, 3)  # the queries of the last row look up
  assert place.visible(np.array([5])).sum() == 12
  assert place.interior.tolist() == [5, 6]  # rows 0 to 2 are seen
  (block,) = blocks(found)
  assert block.weights.sum() == pytest.approx(16) and not block.weights[..., 12:].any()
  assert block.by_step(block.visible[None]).sum() == 16 * 12


def test_blocks_add_up_to_all_queries(monkeypatch):
  found = layer(np.random.default_rng(0).random((2, 3, 30, 30)), grid(5, 6))
  (whole,) = blocks(found)
  monkeypatch.setattr("convattn.analysis.weight_blocks.BLOCK", 2 * 3 * 30 * 7)
  parts = list(blocks(found))
  assert [len(part.queries) for part in parts] == [7, 7, 7, 7, 2]
  np.testing.assert_array_equal(np.concatenate([part.shares for part in parts], 2), whole.shares)
  assert whole.shares.dtype == np.float64
  by_step = sum(part.by_step(part.shares.sum(0)) for part in parts)
  np.testing.assert_allclose(by_step, whole.by_step(whole.shares.sum(0)), rtol=1e-13)


def test_arrays_that_do_not_fit_are_named():
  with pytest.raises(ValueError, match=r"block/attention: weights are \[9, 9\] without prefix tokens, .* \[12, 12\]"):
    shifts(layer([uniform(square(3))], grid(3, 4)))
  with pytest.raises(ValueError, match=r"\[16, 16\] and key_cells \[4, 16\]"):
    shifts(layer([uniform(square(4))], square(4), key_cells=np.zeros((4, 16), int)))


def test_weights_that_are_no_numbers_are_refused():
  weights = uniform(square(3))
  weights[4] = np.nan
  with pytest.raises(ValueError, match="block/attention has weights that are not finite"):
    list(blocks(layer([weights], square(3))))
