"""Content dependence and divergence between heads: their anchors and their bounds."""

import numpy as np
import pytest

from convattn.analysis import content_dependence, head_divergence
from tests.analysis.maps_by_hand import (
  content,
  fixed_key,
  grid,
  hard,
  layer,
  quadratic,
  square,
  uniform,
  window_cells,
  windowed,
)


@pytest.mark.parametrize("images", [2, 3, 7])
def test_a_head_of_positions_alone_depends_on_no_image(images):
  queries = grid(5, 6)
  weights = [quadratic(0.37, (0.3, -1), queries), hard((0, 1), queries), uniform(queries)]
  assert content_dependence(layer(weights, queries, images=images)).tolist() == [0, 0, 0]  # to the last bit


def test_a_head_of_content_depends_on_the_image():
  queries = grid(4, 5)
  weights = content(queries, 4, heads=2)
  weights[:, 1] = weights[:1, 1]
  found = content_dependence(layer(weights, queries))
  assert found[0] > 0.05 and found[1] == 0


def test_a_divergence_by_hand():
  """Two images, two keys: (1, 0) and (1/2, 1/2), with the mean (3/4, 1/4)."""
  weights = np.array([[1, 0], [0.5, 0.5]])[:, None, None].repeat(2, 2)
  wanted = (np.log(4 / 3) + (np.log(2 / 3) + np.log(2)) / 2) / 2
  np.testing.assert_allclose(content_dependence(layer(weights, grid(1, 2))), wanted, rtol=1e-12)


def test_no_head_depends_more_than_the_number_of_images_allows():
  queries = square(4)
  weights = np.stack([fixed_key(key, queries) for key in range(5)])[:, None]
  np.testing.assert_allclose(content_dependence(layer(weights, queries)), np.log(5), rtol=1e-12)


def test_a_single_image_says_nothing_of_content():
  assert np.isnan(content_dependence(layer(content(square(3), 1, heads=2), square(3)))).all()


def test_content_in_windows_with_masked_keys():
  cells = window_cells(4, 6, (2, 3)).copy()
  cells[:, 5] = -1
  weights = np.random.default_rng(0).dirichlet(np.ones(5), (3, 2, 24))
  weights = np.concatenate([weights, np.full((3, 2, 24, 1), np.nan)], -1)
  masked = layer(weights, grid(4, 6), key_cells=cells)
  unmasked = layer(weights[..., :5], grid(4, 6), key_cells=cells[:, :5])
  np.testing.assert_array_equal(content_dependence(masked), content_dependence(unmasked))
  assert (content_dependence(masked) > 0.1).all()
  np.testing.assert_allclose(head_divergence(masked), head_divergence(unmasked), rtol=1e-12)


def test_equal_heads_do_not_diverge_and_heads_apart_do():
  queries = grid(5, 4)
  heads = [
    quadratic(0.6, (0, 1), queries),
    fixed_key(3, queries),
    quadratic(0.6, (0, 1), queries),
    fixed_key(4, queries),
  ]
  found = head_divergence(layer(heads, queries, images=2))
  assert np.diag(found).tolist() == [0] * 4
  assert found[0, 2] == 0  # exactly
  assert found[1, 3] == pytest.approx(1, rel=1e-12)
  assert 0.1 < found[0, 1] < 1
  np.testing.assert_array_equal(found, found.T)


def test_a_divergence_of_heads_by_hand():
  """(1, 0) and (1/2, 1/2): the entropy of (3/4, 1/4) less half a bit."""
  weights = np.array([[1, 0], [0.5, 0.5]])[:, None].repeat(2, 1)
  wanted = -0.75 * np.log2(0.75) - 0.25 * np.log2(0.25) - 0.5
  assert head_divergence(layer(weights, grid(1, 2)))[0, 1] == pytest.approx(wanted, rel=1e-12)


def test_the_order_of_heads_and_of_queries_in_blocks_changes_nothing(monkeypatch):
  weights = content(grid(4, 4), 3, heads=4)
  found = layer(weights, grid(4, 4))
  whole = content_dependence(found), head_divergence(found)
  order = [2, 0, 3, 1]
  np.testing.assert_allclose(head_divergence(layer(weights[:, order], grid(4, 4))), whole[1][np.ix_(order, order)])
  monkeypatch.setattr("convattn.analysis.weight_blocks.BLOCK", 1)
  np.testing.assert_allclose(content_dependence(found), whole[0], rtol=1e-12)
  np.testing.assert_allclose(head_divergence(found), whole[1], rtol=1e-12)


def test_windows_diverge_as_their_images_do():
  def tables(delta):
    return np.stack([-((delta - (0, 1)) ** 2).sum(-1), 0.0 * delta[..., 0], -((delta - (0, 1)) ** 2).sum(-1)])

  found = head_divergence(windowed(tables, 4, 6, (2, 3)))
  assert found[0, 2] == 0 and found[0, 1] > 0.01
