"""Occlusion of a linear model, where the drop is the sum of what was hidden."""

import sys

import flax.linen as nn
import jax
import numpy as np
import pytest

from convattn.analysis import Grid, calling, occlusion

IMAGES = np.random.default_rng(1).normal(size=(2, 7, 5, 2)).astype(np.float32)


class Linear(nn.Module):
  @nn.compact
  def __call__(self, images, *, train):
    return nn.Dense(3, name="logits")(images.reshape(len(images), -1))


@pytest.fixture(scope="module")
def variables():
  return Linear().init(jax.random.key(0), IMAGES, train=False)


def contributions(variables, classes, fill):
  """[b, h, w]: what each pixel's logit loses when it becomes `fill`."""
  kernel = np.asarray(variables["params"]["logits"]["kernel"]).reshape(7, 5, 2, 3)
  return np.einsum("bhwc,hwcb->bhw", IMAGES - fill, kernel[..., classes])


@pytest.mark.parametrize("window, stride, before", [(2, 2, 0), (3, 3, 0), (3, 1, 1), (4, 2, 1), (3, 2, 0), (7, 7, 0)])
def test_a_linear_model_loses_what_is_hidden(variables, window, stride, before):
  fill = np.random.default_rng(2).normal(size=IMAGES.shape).astype(np.float32)
  found = occlusion(Linear(), variables, IMAGES, window=window, stride=stride, fill=fill, classes=[2, 0])
  rows, columns = -(-7 // stride), -(-5 // stride)
  assert found.grid == Grid(rows, columns, (stride, stride), image=(7, 5))
  each = contributions(variables, [2, 0], fill)
  for i in range(rows):
    for j in range(columns):
      top, left = i * stride - before, j * stride - before
      hidden = each[:, max(top, 0) : top + window, max(left, 0) : left + window].sum((1, 2))
      np.testing.assert_allclose(found.values[:, i, j], hidden, rtol=1e-4, atol=1e-5)


def test_windows_side_by_side_are_the_default_and_zero_the_fill(variables):
  found = occlusion(Linear(), variables, IMAGES, window=2)
  predicted = np.asarray(Linear().apply(variables, IMAGES, train=False)).argmax(-1)
  np.testing.assert_array_equal(found.classes, predicted)
  whole = contributions(variables, predicted, 0).sum((1, 2))
  np.testing.assert_allclose(found.values.sum((1, 2)), whole, rtol=1e-4, atol=1e-5)
  other = occlusion(Linear(), variables, IMAGES, window=2, fill=np.float32([1, -2]))
  expected = contributions(variables, predicted, np.float32([1, -2])).sum((1, 2))
  np.testing.assert_allclose(other.values.sum((1, 2)), expected, rtol=1e-4, atol=1e-5)


def test_the_model_sees_a_few_images_at_a_time(variables, monkeypatch):
  together = occlusion(Linear(), variables, IMAGES, window=2, stride=1)
  sizes, infer = [], calling.infer
  monkeypatch.setattr(calling, "PIXELS_AT_A_TIME", 35 * 4)
  # The package has a function of the module's name.
  file = sys.modules["convattn.analysis.occlusion"]
  monkeypatch.setattr(file, "infer", lambda *each: sizes.append(len(each[2])) or infer(*each))
  apart = occlusion(Linear(), variables, IMAGES, window=2, stride=1)
  assert sizes == [4]  # traced once
  np.testing.assert_allclose(apart.values, together.values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window, stride", [(0, None), (8, None), (2, 3), (2, 0)])
def test_windows_that_hide_not_every_pixel_are_refused(variables, window, stride):
  with pytest.raises(ValueError, match="1 <= stride <= window <= 7 is wanted"):
    occlusion(Linear(), variables, IMAGES, window=window, stride=stride)
