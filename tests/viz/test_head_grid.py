"""The figure of heads over a picture draws the numbers of the maps, as the boxes that cells are."""

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex

from convattn.viz import head_grid_figure
from convattn.viz.cells import pale_picture, shown_picture
from convattn.viz.head_grid import Laid, Row, grid_of_looks, shared_scale
from convattn.viz.looks import Look, Place, look
from convattn.viz.style import MARK, file_bytes
from tests.viz import seen


def cells(axes):
  (found,) = [each for each in axes.collections if isinstance(each, PolyCollection)]
  return found


def outline(axes):
  """[top, left, bottom, right] of what is outlined."""
  (box,) = [each for each in axes.patches if to_hex(each.get_edgecolor()) == MARK]
  return [box.get_y(), box.get_x(), box.get_y() + box.get_height(), box.get_x() + box.get_width()]


def panels(figure):
  return [axes for axes in figure.axes if axes.get_label() != "<colorbar>" and axes.axison]


@pytest.fixture(scope="module")
def maps():
  return [seen.attention(), seen.attention("stage_4/block_1/attention", query=seen.COARSE, key=seen.FINE, heads=3)]


def test_every_head_of_every_layer_is_drawn_with_its_numbers(maps):
  figure = head_grid_figure(maps, seen.picture(), (3, 4))
  first, second = panels(figure)[:3], panels(figure)[3:]
  assert [axes.get_ylabel() for axes in (first[0], second[0])] == ["stage_3\nblock_0", "stage_4\nblock_1"]
  for axes, head in zip(first[1:], range(2), strict=True):
    np.testing.assert_array_equal(cells(axes).get_array(), maps[0].probabilities[0, head, 4])
    assert axes.get_xlabel() == f"head {head}: {maps[0].probabilities[0, head, 4].max():.2g}"
  for axes, head in zip(second[1:], range(3), strict=True):
    np.testing.assert_array_equal(cells(axes).get_array(), maps[1].probabilities[0, head, 2])
  assert [outline(axes) for axes in first] == [[2, 3, 4, 6]] * 3
  assert [outline(axes) for axes in second] == [[3, 0, 6, 5]] * 4


def test_cells_are_boxes_in_pixels_and_nothing_is_smoothed(maps):
  axes = panels(head_grid_figure(maps[:1], seen.picture(), (0, 0)))[1]
  corners = [path.vertices[:4].tolist() for path in cells(axes).get_paths()]
  assert corners[1] == [[5, 0], [9, 0], [9, 3], [5, 3]]  # cut off at the image's border
  assert (axes.get_xlim(), axes.get_ylim()) == ((0, 9), (6, 0))
  assert not axes.images  # whose grey would look like a weight


def test_the_picture_at_the_left_is_of_whole_pixels(maps):
  left = panels(head_grid_figure(maps[:1], seen.picture(), (0, 0)))[0]
  (picture,) = left.images
  assert picture.get_interpolation() == "none" and picture.get_extent() == [0, 9, 6, 0]
  shown, drawn = shown_picture(seen.picture()), np.asarray(picture.get_array())
  each = drawn.shape[0] // 6
  np.testing.assert_array_equal(drawn, shown.repeat(each, 0).repeat(each, 1))  # no pixel is mixed with another


def test_all_maps_have_one_scale_with_a_bar(maps):
  figure = head_grid_figure(maps, seen.picture(), (3, 4), mode="logits")
  ranges = {cells(axes).norm.vmax for axes in panels(figure) if axes.collections}
  values = [maps[0].logits[0, :, 4], maps[1].logits[0, :, 2]]
  assert list(ranges) == pytest.approx([max(np.abs(each).max() for each in values)])
  (bar,) = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
  assert bar.get_ylabel() == "logit"
  assert bar.get_ylim() == pytest.approx((-max(ranges), max(ranges)))


def test_maps_of_their_own_scale_have_no_bar_and_many_heads_further_rows(maps):
  found = look(seen.attention(heads=5), "probabilities", Place())
  figure = grid_of_looks([Row("x", found, [4, 1, 2, 0])], None, "probabilities", None, width=44)
  assert not [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
  assert [axes.get_xlabel().splitlines()[0] for axes in panels(figure)] == ["head 4", "head 1", "head 2", "head 0"]
  assert [cells(axes).norm.vmax for axes in panels(figure)] == [found.values[head].max() for head in (4, 1, 2, 0)]
  assert len({axes.get_subplotspec().rowspan.start for axes in panels(figure)}) == 2


def test_what_is_laid_over_the_picture_has_its_name_and_its_own_numbers(maps):
  laid = Laid("roll $x$", np.array([0.0, 1, 2, 3]), seen.COARSE)
  found = look(maps[0], "probabilities", Place(at=(0, 0)))
  rows = [Row("x", found, [0]), Row("y", found, [1])]
  figure = grid_of_looks(rows, seen.picture(), "probabilities", None, laid=laid)
  left, _, below, _ = panels(figure)
  np.testing.assert_array_equal(cells(left).get_array(), laid.values)
  assert left.get_xlabel() == "roll $x$: 3"
  np.testing.assert_array_equal(np.unique(left.images[0].get_array()), np.unique(pale_picture(seen.picture())))
  assert not below.collections and below.get_xlabel() == ""  # once
  (bar,) = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
  assert bar.get_xlabel() == r"roll \$x\$" and bar.get_xlim() == (0, 3)


def test_below_a_map_stands_its_largest_number_or_the_end_of_its_own_scale():
  values = np.array([[-3.0, -1.5, np.nan, 0.25], [-3.0, -1.5, -7, -123456]])
  found = Look(values, seen.COARSE, np.empty((0, 4)))
  for shared, signed, expected in (
    (shared_scale([found], True), True, ["0.25", "−1.5"]),
    (None, True, ["±3", "±123,456"]),
  ):
    figure = grid_of_looks([Row("x", found, [0, 1])], None, "logits", shared, signed=signed)
    assert [axes.get_xlabel().split()[-1] for axes in panels(figure)] == expected


def test_cells_that_are_never_seen_are_told_from_zero():
  figure = head_grid_figure([seen.windows()], None, (0, 2))
  shown = cells(panels(figure)[0])
  assert np.ma.getmaskarray(shown.get_array()).tolist() == [True, True, False, False, True, True, True, True]


def test_pictures_fill_their_range_and_a_dark_one_is_pale_as_a_negative():
  dark = np.zeros((2, 3, 1))
  dark[0, 0] = -1
  dark[1, 2] = 4
  assert (shown_picture(dark).min(), shown_picture(dark).max()) == (0, 1)
  pale = pale_picture(dark)
  assert pale[1, 2, 0] < pale[0, 0, 0] == 1
  assert pale.min() > 0.7
  colours = np.random.default_rng(0).uniform(size=(2, 3, 3))
  np.testing.assert_allclose(shown_picture(colours) * np.ptp(colours) + colours.min(), colours)
  assert np.ptp(pale_picture(colours), -1).max() == 0
  for bad in (np.zeros((2, 3)), np.full((2, 3, 1), np.nan)):
    with pytest.raises(ValueError, match="a picture must be finite numbers"):
      shown_picture(bad)


def test_the_same_maps_give_the_same_file(maps):
  one, other = (file_bytes(head_grid_figure(maps, seen.picture(), (3, 4))) for _ in range(2))
  assert one == other
  assert b"/FontFile2" in one and b"/Type3" not in one
  assert file_bytes(head_grid_figure(maps, seen.picture(), (3, 8))) != one


def test_what_does_not_fit_is_one_line(maps):
  with pytest.raises(ValueError, match="there are no maps"):
    head_grid_figure([], None, (0, 0))
  with pytest.raises(ValueError, match="the image has 9 x 6 pixels, but the maps are of one with 6 x 9"):
    head_grid_figure(maps, seen.picture().swapaxes(0, 1), (0, 0))
  with pytest.raises(ValueError, match="pixel 7,0 is in no cell"):
    head_grid_figure(maps, seen.picture(), (7, 0))
