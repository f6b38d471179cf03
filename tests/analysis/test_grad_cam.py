"""Grad-CAM against its closed form."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.analysis import Grid, calling, grad_cam
from convattn.layers import Conv
from convattn.models import CoAtNet, Run, Spec, Stage

IMAGES = np.random.default_rng(1).normal(size=(3, 13, 9, 2)).astype(np.float32)
STAGES = (Stage((Run("C", 1, 8),), 2), Stage((Run("T", 1, 12),), 1))
MODEL = CoAtNet(Spec(STAGES, (4, 8), head_size=4, head="plain"), num_classes=3)


@pytest.fixture(scope="module")
def variables():
  return jax.jit(lambda images: MODEL.init(jax.random.key(0), images, train=False))(IMAGES)


def closed_form(variables, features, classes):
  """relu(F . J W / n); the norm's Jacobian is (I - 1/c - y y' / c) / deviation, y its output before scale and bias."""
  head = jax.tree.map(np.asarray, variables["params"]["classifier"])
  cams = []
  for image, number in zip(np.asarray(features, np.float64), classes, strict=True):
    mean = image.mean((0, 1))
    deviation = np.sqrt(mean.var() + 1e-6)
    y = (mean - mean.mean()) / deviation
    jacobian = (np.eye(12) - 1 / 12 - np.outer(y, y) / 12) / deviation
    slope = jacobian @ (head["norm"]["scale"] * head["logits"]["kernel"][:, number])
    cams.append(np.maximum(image @ slope / image[..., 0].size, 0))
  return np.stack(cams)


def test_behind_a_plain_head_it_is_the_closed_form(variables):
  features = MODEL.apply(variables, IMAGES, train=False, method=MODEL.features)[-1]
  predicted = np.asarray(MODEL.apply(variables, IMAGES, train=False)).argmax(-1)
  for classes, meant in ((None, predicted), (1, [1, 1, 1]), ([2, 0, 1], [2, 0, 1])):
    found = grad_cam(MODEL, variables, IMAGES, classes)
    np.testing.assert_allclose(found.values, closed_form(variables, features, meant), rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(found.classes, meant)
  assert found.grid == Grid(4, 3, (4.0, 4.0), image=(13, 9))
  assert found.values.min() == 0 < found.values.max()


def test_any_stage_is_the_gradient_of_what_follows_it(variables):
  found = grad_cam(MODEL, variables, IMAGES, 2, part="stage_1")
  assert found.grid == Grid(4, 3, (4.0, 4.0), image=(13, 9)) and "stage_1" in found.note

  def rest(model, features):
    return model.classifier(model.stage_2(features, train=False), train=False)[:, 2].sum()

  features = MODEL.apply(variables, IMAGES, train=False, method=MODEL.features)[1]
  slopes = jax.grad(lambda features: MODEL.apply(variables, features, method=rest))(features)
  expected = np.maximum((slopes.mean((1, 2), keepdims=True) * features).sum(-1), 0)
  np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-6)


def test_sixteen_bits_are_near(variables):
  wide = grad_cam(MODEL, variables, IMAGES, 1)
  near = grad_cam(MODEL.clone(dtype=jnp.bfloat16), variables, IMAGES, 1)
  assert near.values.dtype == np.float32
  np.testing.assert_allclose(near.values, wide.values, atol=0.1 * wide.values.max())
  assert np.abs(near.values - wide.values).max() > 0


def test_images_are_taken_one_at_a_time_where_they_are_large(variables, monkeypatch):
  together = grad_cam(MODEL, variables, IMAGES, [2, 0, 1])
  monkeypatch.setattr(calling, "PIXELS_AT_A_TIME", 1)
  apart = grad_cam(MODEL, variables, IMAGES, [2, 0, 1])
  np.testing.assert_allclose(apart.values, together.values, rtol=1e-3, atol=1e-6)


class Tokens(nn.Module):
  """Patches as tokens behind a class token, read from all of them or from the class token alone."""

  reads: slice

  @nn.compact
  def __call__(self, images):
    tokens = Conv(6, 4, 4, name="patches")(images).reshape(len(images), -1, 6)
    first = self.param("class_token", nn.initializers.normal(1.0), (1, 1, 6))
    tokens = jnp.concatenate([jnp.repeat(first, len(images), 0), tokens], 1)
    tokens = nn.Dense(6, name="mix")(tokens)
    return nn.Dense(3, name="logits")(tokens[:, self.reads].mean(1))


def test_tokens_are_reshaped_by_themselves():
  model = Tokens(slice(None))
  variables = model.init(jax.random.key(0), IMAGES)
  found = grad_cam(model, variables, IMAGES, 1)
  params = variables["params"]
  patches = Conv(6, 4, 4).apply({"params": params["patches"]}, IMAGES)
  mixed = patches @ params["mix"]["kernel"] + params["mix"]["bias"][None, None, None]
  expected = np.maximum(mixed @ params["logits"]["kernel"][:, 1] / 13, 0)
  np.testing.assert_allclose(found.values, expected, rtol=1e-5, atol=1e-6)
  assert found.grid == Grid(4, 3, (4.0, 4.0), image=(13, 9))


def test_cells_that_no_logit_depends_on_are_told():
  model = Tokens(slice(0, 1))
  with pytest.raises(ValueError, match="no logit depends on the cells of 'mix'; name an earlier part"):
    grad_cam(model, model.init(jax.random.key(0), IMAGES), IMAGES)


def test_the_closed_form_is_of_the_epsilon_that_the_model_has():
  assert dataclasses.asdict(MODEL.spec)["attention_norm_epsilon"] == 1e-6
