"""Figures of what heads are in numbers: centres and ellipses, distances, likeness to a convolution; and kernels."""

import dataclasses

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.patches import Ellipse

from convattn.analysis import ConvolutionKernel, Grid, head_report
from convattn.viz import (
  convolution_likeness_figure,
  head_centres_figure,
  head_distance_figure,
  kernel_sheet_figure,
)
from convattn.viz.head_depth import LIKENESS, uniform_distance
from tests.viz import seen

GRID = Grid(4, 3, (2.0, 3.0), image=(8, 9))


def reports(seed=0, heads=2):
  names = ("stage_3/block_0/attention", "stage_4/block_0/attention")
  return head_report([seen.attention(name, GRID, GRID, heads, images=2, seed=seed + i) for i, name in enumerate(names)])


@pytest.fixture(scope="module")
def found():
  return reports()


def test_a_head_is_a_dot_at_its_mean_shift_and_an_ellipse_of_its_covariance(found):
  covariance = np.array([[[4.0, 0.0], [0.0, 1.0]], [[1.0, 0.5], [0.5, 1.0]]])
  centre = np.array([[1.0, -2.0], [0.0, 0.5]])
  report = dataclasses.replace(found[0], centre=centre, covariance=covariance)
  (axes,) = head_centres_figure([report]).axes
  tall, slanted = [each for each in axes.patches if isinstance(each, Ellipse)]
  assert (tall.get_center(), tall.width, tall.height) == ((-2, 1), pytest.approx(4), pytest.approx(2))
  assert abs(tall.angle) == pytest.approx(90)  # its longer axis, over rows, stands upright
  assert slanted.width == pytest.approx(2 * np.sqrt(1.5))
  assert slanted.angle % 180 == pytest.approx(45)  # down and to the right, as rows go down
  assert axes.get_ylim()[0] > axes.get_ylim()[1]
  assert [text.get_text() for text in axes.texts] == ["4 × 3 cells", "0", "1"]
  assert axes.get_title(loc="left") == "stage_3/block_0"


def test_lines_lead_through_earlier_steps(found):
  then = reports(seed=5)
  axes = head_centres_figure(found, [(0, then), (7, found)]).axes[1]
  ways = [np.array(line.get_xydata()) for line in axes.lines if len(line.get_xydata()) == 3]
  np.testing.assert_allclose(ways[1][:, ::-1], [each[1].centre[1] for each in (then, found, found)])
  with pytest.raises(ValueError, match="the reports of step 3 are of"):
    head_centres_figure(found, [(3, found[:1])])
  with pytest.raises(ValueError, match="no reports"):
    head_centres_figure([])


def marks(axes):
  """{x of a mark rounded: its ys} of the heads."""
  drawn = {}
  for line in axes.lines:
    if line.get_linestyle() == "None" and len(line.get_xdata()):
      drawn.setdefault(round(float(line.get_xdata()[0]), 3), []).extend(np.asarray(line.get_ydata()).tolist())
  return drawn


def test_every_head_of_every_run_has_its_distance_at_its_depth(found):
  other = reports(seed=9)
  (axes,) = head_distance_figure({"trained": [found, other], "untrained": [other]}).axes
  drawn = marks(axes)
  assert drawn[-0.125] == pytest.approx([*found[0].distance, *other[0].distance])
  assert drawn[1.125] == pytest.approx(other[1].distance)
  assert [label.get_text() for label in axes.get_xticklabels()] == ["stage_3\nblock_0", "stage_4\nblock_0"]
  (means,) = [line for line in axes.lines if line.get_marker() == "_" and len(line.get_xdata()) == 2][:1]
  assert means.get_ydata()[1] == pytest.approx(np.mean([found[1].distance, other[1].distance]))
  (legend,) = axes.figure.legends
  assert [text.get_text() for text in legend.get_texts()] == [
    "trained (2 seeds)",
    "untrained (1 seed)",
    "all keys alike",
  ]


def test_the_stroke_is_the_distance_of_a_head_that_attends_to_all_alike(found):
  even = np.full((1, 1, 12, 12), 1 / 12, np.float32)
  attention = dataclasses.replace(seen.attention(query=GRID, key=GRID, heads=1, images=1), probabilities=even)
  (report,) = head_report([attention])
  assert uniform_distance(GRID, GRID) == pytest.approx(float(report.distance[0]), rel=1e-6)
  (axes,) = head_distance_figure({"x": [found]}).axes
  strokes = {tuple(np.round(line.get_ydata(), 6)) for line in axes.lines if len(line.get_xdata()) == 2}
  assert (round(uniform_distance(GRID, GRID), 6),) * 2 in strokes


def test_likeness_has_a_panel_for_each_number(found):
  figure = convolution_likeness_figure({"trained": [found]})
  assert [axes.get_title(loc="left") for axes in figure.axes] == [title for title, _ in LIKENESS.values()]
  for axes, number in zip(figure.axes, ("peak", "local_mass", "consistency", "content_dependence"), strict=True):
    assert marks(axes)[1] == pytest.approx(getattr(found[1], number))
  for draw in (convolution_likeness_figure, head_distance_figure):
    with pytest.raises(ValueError, match="reports must be of the same layers"):
      draw({"a": [found], "b": [found[:1]]})
    with pytest.raises(ValueError, match="there are no reports"):
      draw({})


def convolution(kernel, depthwise=True):
  grid = Grid(4, 3)
  return ConvolutionKernel("stage_1/depthwise", kernel, depthwise, grid, grid, np.zeros((12, 15), int))


def sheets(figure):
  """(panel of the norms, {name: panel} of the kernels) of the first row."""
  norms, *others = [axes for axes in figure.subfigs[0].axes if axes.get_label() != "<colorbar>" and axes.axison]
  return norms, {axes.get_xlabel(): axes for axes in others if axes.get_xlabel()}


def cells(axes):
  (found,) = [each for each in axes.collections if isinstance(each, PolyCollection)]
  return found


def test_kernels_are_drawn_tap_by_tap_the_largest_first():
  kernel = np.random.default_rng(3).normal(size=(3, 5, 1, 30)).astype(np.float32)
  figure = kernel_sheet_figure([convolution(kernel)])
  norms, drawn = sheets(figure)
  assert figure.subfigs[0].get_suptitle() == "stage_1/depthwise: 24 of 30 kernels of 3 × 5"
  np.testing.assert_allclose(cells(norms).get_array(), np.linalg.norm(kernel[:, :, 0], axis=-1).ravel(), rtol=1e-6)
  assert [text.get_text() for text in norms.texts][1] == f"{np.linalg.norm(kernel[0, 1]):.2g}"
  order = np.argsort(-np.linalg.norm(kernel.reshape(15, 30), axis=0))
  assert [int(name) for name in drawn] == order[:24].tolist()
  for axes, channel in zip(drawn.values(), order, strict=False):
    np.testing.assert_allclose(cells(axes).get_array(), kernel[:, :, 0, channel].ravel())
    assert cells(axes).norm.vmin == -cells(axes).norm.vmax == -np.abs(kernel[..., order[:24]]).max()
  with pytest.raises(ValueError, match="no kernels"):
    kernel_sheet_figure([])


def test_a_kernel_of_many_input_channels_is_called_by_both():
  kernel = np.zeros((1, 3, 2, 3), np.float32)
  kernel[0, :, 1, 2] = [1, 2, 3]
  kernel[0, :, 0, 1] = [1, 0, 0]
  _, drawn = sheets(kernel_sheet_figure([convolution(kernel, depthwise=False)]))
  assert list(drawn)[:2] == ["1→2", "0→1"]
  np.testing.assert_array_equal(cells(drawn["1→2"]).get_array(), [1, 2, 3])
