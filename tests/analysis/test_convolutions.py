"""Of each convolution which pixels its taps read, as the gradients of the layer say, through the strides before it."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from convattn import layers
from convattn.analysis import Grid, convolution_kernels
from convattn.models.coatnet import CoAtNet
from convattn.models.spec import Run, Spec, Stage

IMAGES = np.random.default_rng(0).standard_normal((2, 5, 8, 2)).astype(np.float32)


def initialised(model, x=IMAGES, **options):
  return jax.jit(functools.partial(model.init, **options))(jax.random.key(0), x)


class Told(nn.Module):
  """A layer that must be told whether to train."""

  layer: nn.Module

  def __call__(self, x):
    return self.layer(x, train=False)


LAYERS = {
  "dense": layers.Conv(3, 3),
  "strided": layers.Conv(3, 3, 2),
  "even, strided": layers.Conv(3, 2, 2),
  "larger than its stride": layers.Conv(3, 4, 3),
  "depthwise": layers.DepthwiseConv(3),
  "depthwise, strided, wider": layers.DepthwiseConv(5, 2, width=4),
  "causal": Told(layers.CausalConv(3, taps=3, dilation=2)),
  "causal, strided": Told(layers.CausalConv(3, taps=2, dilation=3, stride=2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_tap_reads_the_pixel_that_its_weight_meets(name):
  """out[q] = sum over taps of x[pixel of tap] kernel[tap]: put together by hand from the cells."""
  layer = LAYERS[name]
  variables = initialised(layer)
  (found,) = convolution_kernels(layer, variables, IMAGES)
  out = np.asarray(jax.jit(layer.apply)(variables, IMAGES))
  assert found.query_grid.cells == out.shape[1] * out.shape[2]
  assert found.depthwise == name.startswith("depthwise")
  rows, columns, seen, width = found.kernel.shape
  kernel = found.kernel.reshape(rows * columns, seen, width)
  pixels = np.concatenate([IMAGES.reshape(2, 40, 2), np.zeros((2, 1, 2), np.float32)], 1)[:, found.key_cells]
  if found.depthwise:
    pixels, kernel = np.repeat(pixels, width // 2, -1), kernel[:, 0]
    expected = np.einsum("bqtc,tc->bqc", pixels, kernel)
  else:
    expected = np.einsum("bqtc,tco->bqo", pixels, kernel)
  np.testing.assert_allclose(out.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(
    found.tap_norms.ravel(), [np.linalg.norm(kernel[t]) for t in range(rows * columns)], rtol=1e-5
  )


@pytest.fixture(scope="module")
def kernels():
  stages = (Stage((Run("C", 2, 6),)), Stage((Run("X", 1, 12),)), Stage((Run("T", 1, 12),)))
  spec = Spec(stages, (4, 5), head_size=4, conv_stride="depthwise")
  model, images = CoAtNet(spec, 3), jax.ShapeDtypeStruct((7, 28, 20, 1), np.float32)
  variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images)
  variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), variables)
  return convolution_kernels(model, variables, images)


def test_convolutions_come_in_order_with_their_strides(kernels):
  assert [(each.layer, each.depthwise, each.kernel.shape) for each in kernels] == [
    ("stem/conv_1", False, (3, 3, 1, 4)),
    ("stem/conv_2", False, (3, 3, 4, 5)),
    ("stage_1/block_0/depthwise", True, (3, 3, 1, 24)),
    ("stage_1/block_1/depthwise", True, (3, 3, 1, 24)),
    ("stage_2/block_0/depthwise", True, (7, 7, 1, 12)),
  ]
  strides = [(each.key_grid.stride[0], each.query_grid.stride[0]) for each in kernels]
  assert strides == [(1, 2), (2, 2), (2, 4), (4, 4), (4, 8)]
  assert kernels[4].query_grid == Grid(4, 3, (8, 8), (0, 0), (28, 20))
  assert all(each.kernel.dtype == np.float32 for each in kernels)


def test_what_an_output_of_an_mbconv_reads_in_pixels(kernels):
  inner = kernels[3]  # 7x5 cells of 4 pixels
  boxes = inner.boxes(1 * 5 + 2)  # row 1, column 2
  np.testing.assert_array_equal(boxes[[0, 4, 8]], [[0, 4, 4, 8], [4, 8, 8, 12], [8, 12, 12, 16]])
  corner = inner.boxes(0)
  assert np.isnan(corner[[0, 1, 2, 3, 6]]).all() and np.isfinite(corner[[4, 5, 7, 8]]).all()
  np.testing.assert_array_equal(inner.shifts, 4 * np.stack(np.divmod(np.arange(9), 3), -1) - 4)
  strided = kernels[2]  # from cells of 2 pixels to cells of 4: its middle tap reads the first of each four
  np.testing.assert_array_equal(strided.shifts[4], [-1, -1])
  np.testing.assert_array_equal(strided.boxes(0)[4], [0, 0, 2, 2])


def test_a_tap_beyond_a_small_image_reads_nothing():
  layer = layers.DepthwiseConv(5)
  (found,) = convolution_kernels(layer, initialised(layer, IMAGES[:, :2]), IMAGES[:, :2])
  np.testing.assert_array_equal(np.isnan(found.shifts[:, 0]), np.repeat([1, 0, 0, 0, 1], 5))
  np.testing.assert_array_equal(found.shifts[5:20], np.stack(np.divmod(np.arange(5, 20), 5), -1) - 2)


def test_ones_have_the_norms_of_their_number(kernels):
  np.testing.assert_allclose(kernels[1].tap_norms, np.full((3, 3), 20**0.5), rtol=1e-6)
  np.testing.assert_allclose(kernels[2].tap_norms, np.full((3, 3), 24**0.5), rtol=1e-6)


def test_pointwise_convolutions_have_no_kernel_to_see():
  layer = layers.Conv(3, 1)
  assert convolution_kernels(layer, initialised(layer), IMAGES) == []
  with pytest.raises(ValueError, match=r"images have shape \(5, 8\), but must be \[b, h, w, c\]"):
    convolution_kernels(layer, {}, IMAGES[0, :, :, 0])
