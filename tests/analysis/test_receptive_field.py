"""Receptive fields whose support is known to the pixel, and one whose every value is."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.analysis import calling, receptive_field
from convattn.analysis.capture import evaluation
from convattn.layers import CausalBlock, Conv, RelativeAttention, WindowAttention
from convattn.models import CoAtNet, Run, Spec, Stage

IMAGES = np.random.default_rng(1).normal(size=(3, 15, 11, 2)).astype(np.float32)


@functools.cache
def field(module, part=None, cell=None):
  variables = module.init(jax.random.key(0), IMAGES, **evaluation(module))
  return receptive_field(module, variables, IMAGES, part=part, cell=cell)


def box(rows, columns):
  """Pixels from the first to the last row and column, as far as they lie in the image."""
  inside = np.zeros(IMAGES.shape[1:3], bool)
  inside[max(rows[0], 0) : rows[1] + 1, max(columns[0], 0) : columns[1] + 1] = True
  return inside


def around(pixel, reach):
  return box(*((at - reach, at + reach) for at in pixel))


class Stacked(nn.Module):
  layers: Sequence

  def __call__(self, x):
    for layer in self.layers:
      x = layer(x)
    return x


def stacked(*layers):
  return Stacked(layers)


@pytest.mark.parametrize(
  "module, cell, expected",
  [
    (Conv(4, 1), None, around((7, 5), 0)),
    (Conv(4, 3), None, around((7, 5), 1)),
    (Conv(4, 5), None, around((7, 5), 2)),
    (Conv(4, 5), (0, 9), around((0, 9), 2)),
    (stacked(Conv(4, 3), Conv(3, 3)), None, around((7, 5), 2)),
    (stacked(Conv(4, 5), Conv(3, 5)), None, around((7, 5), 4)),
    (Conv(4, 5, stride=2), None, around((8, 6), 2)),
    (Conv(4, 5, stride=2), (7, 0), around((14, 0), 2)),
    (stacked(Conv(4, 5, stride=2), Conv(3, 3)), None, around((8, 6), 4)),
    (stacked(Conv(4, 3), Conv(3, 3, stride=3)), None, around((6, 6), 2)),
    (CausalBlock(4, depth=2, taps=2), None, box((7, 7), (2, 5))),
    (RelativeAttention(2, width=4), None, box((0, 14), (0, 10))),
    (WindowAttention(2, window=4), None, box((4, 7), (4, 7))),
  ],
)
def test_the_support_is_that_of_the_layer(module, cell, expected):
  if isinstance(module, WindowAttention | RelativeAttention):
    module = stacked(nn.Dense(4), module)
  found = field(module, cell=cell)
  assert found.values.shape == IMAGES.shape[:3]
  np.testing.assert_array_equal(found.mean() > 0, expected)
  np.testing.assert_array_equal((found.values > 0).any(0), expected)
  assert found.support() == expected.sum() >= found.area() >= 1


def test_each_value_is_that_of_the_kernel():
  layer = Conv(4, 3)
  variables = layer.init(jax.random.key(0), IMAGES)
  found = receptive_field(layer, variables, IMAGES, seed=5)
  drawn = np.random.default_rng(5).standard_normal((3, 4)).astype(np.float32)
  kernel = np.asarray(variables["params"]["kernel"])
  expected = np.abs(np.einsum("ijco,bo->bijc", kernel, drawn)).sum(-1)
  np.testing.assert_allclose(found.values[:, 6:9, 4:7], expected, rtol=1e-5)
  np.testing.assert_allclose(found.mean()[6:9, 4:7], expected.mean(0), rtol=1e-5)
  other = receptive_field(layer, variables, IMAGES, seed=6)
  assert np.abs(other.values - found.values).max() > 0.1


def test_the_area_leaves_out_what_is_below_the_threshold():
  layer = Conv(1, 3)
  kernel = np.full((3, 3, 2, 1), 0.5, np.float32)
  for place, share in (((0, 0), 0.045), ((0, 1), 0.046), ((2, 2), 0.0)):
    kernel[place] = 0.5 * share
  found = receptive_field(layer, {"params": {"kernel": kernel}}, IMAGES)
  assert (found.area(), found.support()) == (7, 8)


@functools.cache
def coatnet(dtype=jnp.float32):
  stages = (Stage((Run("X", 1, 8),), 1), Stage((Run("T", 1, 8),), 2))
  return CoAtNet(Spec(stages, (4, 8), head_size=4, conv_stride="depthwise"), num_classes=3, dtype=dtype)


def test_the_stages_of_a_coatnet_see_more_and_more():
  stem, conv, attention = (field(coatnet(), part) for part in ("stem", "stage_1", "stage_2"))
  # Two kernels of 3, the first strided by 2; a kernel of 7 at stride 2 more; all there is.
  np.testing.assert_array_equal(stem.mean() > 0, around((8, 6), 3))
  np.testing.assert_array_equal(conv.mean() > 0, around((8, 6), 9))
  assert attention.support() == 15 * 11
  assert field(coatnet()).part == "stage_2" and field(coatnet()).cell == (2, 1)


def test_sixteen_bits_change_no_support():
  found = field(coatnet(jnp.bfloat16), "stem")
  assert found.values.dtype == np.float32
  np.testing.assert_array_equal(found.mean() > 0, field(coatnet(), "stem").mean() > 0)
  np.testing.assert_allclose(found.mean(), field(coatnet(), "stem").mean(), atol=0.03 * found.mean().max())


def test_images_are_taken_a_few_at_a_time(monkeypatch):
  whole = field(Conv(4, 3))
  monkeypatch.setattr(calling, "PIXELS_AT_A_TIME", 2 * 15 * 11)
  layer = Conv(4, 3)
  pieces = receptive_field(layer, layer.init(jax.random.key(0), IMAGES), IMAGES)
  np.testing.assert_allclose(pieces.values, whole.values, rtol=1e-5)


def test_a_model_whose_fields_have_no_hash_is_compiled_all_the_same():
  listed = Stacked([Conv(4, 3), Conv(3, 3)])
  with pytest.raises(TypeError):
    hash(listed)
  variables = listed.init(jax.random.key(0), IMAGES)
  for _ in range(2):
    found = receptive_field(listed, variables, IMAGES)
    np.testing.assert_array_equal(found.mean() > 0, around((7, 5), 2))


def test_a_cell_that_is_not_there_is_refused():
  with pytest.raises(ValueError, match=r"cell is \(0, 6\), but '' has 8 rows and 6 columns"):
    field(Conv(4, 5, stride=2), cell=(0, 6))
