"""What a place looks at is a row of the map, what looks at it a column, and all of them a sum or a mean."""

import numpy as np
import pytest

from convattn.analysis import AttentionMap, Grid
from convattn.viz.looks import Place, cells_in, is_signed, look
from tests.viz import seen


def test_a_pixel_is_its_query_and_sees_the_grid_of_keys():
  attention = seen.attention()
  found = look(attention, "probabilities", Place(image=1, at=(3, 4)))  # row 1, column 1 of 3 x 3
  assert found.grid == seen.COARSE
  np.testing.assert_array_equal(found.values, attention.probabilities[1, :, 4])
  np.testing.assert_array_equal(found.marked, [[2, 3, 4, 6]])
  np.testing.assert_allclose(found.values.sum(-1), 1, rtol=1e-6)


def test_who_looks_at_a_pixel_is_its_key_and_lies_on_the_grid_of_queries():
  attention = seen.attention()
  found = look(attention, "content", Place(at=(5, 8), direction="in"))
  assert found.grid == seen.FINE
  np.testing.assert_array_equal(found.values, attention.content[0, :, :, 3])
  np.testing.assert_array_equal(found.marked, [[3, 5, 6, 9]])  # cut off


def test_a_pixel_is_where_its_middle_lies():
  halves = Grid(3, 2, (2.5, 4.5), image=(7, 9))
  assert cells_in(halves, (2, 4)) == [3]  # middle at 2.5, 4.5: the first of the next cells down and across
  assert cells_in(halves, (1, 3)) == [0]
  assert cells_in(halves, (0, 3, 3, 4)) == [0, 1, 2, 3]


def test_a_rectangle_is_the_mean_of_its_queries_and_the_sum_of_its_keys():
  attention = seen.attention()
  found = look(attention, "probabilities", Place(at=(0, 0, 3, 2)))
  np.testing.assert_allclose(found.values, attention.probabilities[0][:, [0, 3]].mean(1), rtol=1e-6)
  assert len(found.marked) == 2
  found = look(attention, "probabilities", Place(at=(0, 0, 5, 4), direction="in"))
  np.testing.assert_allclose(found.values, attention.probabilities[0][..., [0, 2]].sum(-1), rtol=1e-6)
  found = look(attention, "logits", Place(at=(0, 0, 5, 4), direction="in"))
  np.testing.assert_allclose(found.values, attention.logits[0][..., [0, 2]].mean(-1), rtol=1e-6)


def test_all_of_the_picture_is_what_each_key_receives_and_there_are_means_over_images():
  attention = seen.attention(images=3)
  for direction in ("out", "in"):
    found = look(attention, "probabilities", Place(image=1, direction=direction))
    np.testing.assert_allclose(found.values, attention.probabilities[1].sum(1), rtol=1e-6)
    assert len(found.marked) == 0
  array = attention.logits.astype(np.float64)
  found = look(attention, "logits", Place(image=None))
  np.testing.assert_allclose(found.values, array.mean((0, 2)), rtol=1e-6)
  found = look(attention, "logits", Place(image=2, less_mean=True, at=(0, 0)))
  np.testing.assert_allclose(found.values, array[2, :, 0] - array.mean(0)[:, 0], rtol=1e-6)


def test_keys_that_a_query_never_sees_have_weight_zero_but_no_logit():
  attention = seen.windows()
  (row,) = look(attention, "probabilities", Place(at=(0, 2))).values
  np.testing.assert_array_equal(row, [np.nan, np.nan, 0.25, 0.75, np.nan, np.nan, np.nan, np.nan])
  (received,) = look(attention, "probabilities", Place()).values
  np.testing.assert_allclose(received, [0.5, 1.5, 0.5, 1.5, 0.5, 1.5, 2, np.nan])
  (mean,) = look(attention, "logits", Place()).values
  np.testing.assert_allclose(mean[:2], np.log([0.25, 0.75]), rtol=1e-6)  # over those that see it
  assert np.isnan(mean[7])


def test_a_token_without_a_place_has_a_row_and_a_column_too():
  weights = np.random.default_rng(0).dirichlet(np.ones(5), (1, 2, 5)).astype(np.float32)
  attention = AttentionMap("tokens", Grid(2, 2), Grid(2, 2), weights, prefix_tokens=1)
  np.testing.assert_array_equal(look(attention, "probabilities", Place(at=(1, 0))).values, weights[0, :, 3, 1:])
  np.testing.assert_array_equal(look(attention, "probabilities", Place(token=0)).values, weights[0, :, 0, 1:])
  found = look(attention, "probabilities", Place(token=0, direction="in"))
  np.testing.assert_array_equal(found.values, weights[0, :, 1:, 0])
  received = look(attention, "probabilities", Place()).values
  np.testing.assert_allclose(received, weights[0, :, :, 1:].sum(1), rtol=1e-6)
  with pytest.raises(ValueError, match="there is no token 1 without a place in tokens; it has 1 such"):
    look(attention, "probabilities", Place(token=1))


def test_differences_and_logits_lie_about_zero():
  signed = [is_signed(mode, Place()) for mode in ("probabilities", "norm_weighted", "logits", "content", "position")]
  assert signed == [False, False, True, True, True]
  assert is_signed("probabilities", Place(less_mean=True))


@pytest.mark.parametrize(
  ("place", "mode", "message"),
  [
    (Place(image=2), "logits", "there is no image 2 in stage_3/block_0/attention; there are 0 to 1"),
    (Place(image=-1), "logits", "there is no image -1"),
    (Place(at=(6, 0)), "logits", "pixel 6,0 is in no cell of stage_3/block_0/attention; its image has 6 x 9 pixels"),
    (Place(), "sum", "has no 'sum'; it has probabilities, logits"),
  ],
)
def test_what_is_not_there_is_one_line(place, mode, message):
  with pytest.raises(ValueError, match=message) as raised:
    look(seen.attention(), mode, place)
  assert "\n" not in str(raised.value)
