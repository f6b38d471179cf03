"""Class maps sum to the logit, and each part is what its cell alone says."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.analysis import Grid, class_map
from convattn.layers import Classifier, Conv
from convattn.models import CoAtNet, Run, Spec, Stage

IMAGES = np.random.default_rng(1).normal(size=(3, 13, 9, 2)).astype(np.float32)
STAGES = (Stage((Run("C", 1, 8),), 2), Stage((Run("T", 1, 12),), 1))


@functools.cache
def coatnet(head, norm="layer", **fields):
  model = CoAtNet(Spec(STAGES, (4, 8), head_size=4, head=head, attention_norm=norm), num_classes=5, **fields)
  return model, jax.jit(lambda images: model.init(jax.random.key(0), images, train=False))(IMAGES)


class Head(nn.Module):
  """A classifier alone, over a linear map, so that what it is given is known."""

  kind: str
  norm: str = "layer"

  @nn.compact
  def __call__(self, images, *, train):
    return Classifier(4, self.kind, self.norm, name="head")(Conv(6, 1, 2, name="map")(images), train=train)


@functools.cache
def drawn(kind, norm="layer", size=1.0):
  """A head with no variable at its initial value, and its features."""
  model = Head(kind, norm)
  variables = model.init(jax.random.key(0), IMAGES, train=False)
  draws = np.random.default_rng(3)

  def value(path, leaf):
    normal = draws.normal(size=leaf.shape).astype(np.float32)
    return np.exp(normal) if "var" in str(path) else normal

  variables = jax.tree_util.tree_map_with_path(value, variables)
  if kind == "tanh":
    for name in ("kernel", "bias"):
      variables["params"]["head"]["hidden"][name] *= np.float32(size)
  features = np.asarray(Conv(6, 1, 2).apply({"params": variables["params"]["map"]}, IMAGES))
  return model, variables, features


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("kind", ["plain", "norm_first", "tanh"])
def test_the_parts_and_the_rest_are_the_logit(kind, norm):
  for model, variables in (coatnet(kind, norm), drawn(kind, norm)[:2]):
    logits = np.asarray(model.apply(variables, IMAGES, train=False))
    for classes in (None, 1, [3, 0, 2]):
      found = class_map(model, variables, IMAGES, classes)
      number = logits.argmax(-1) if classes is None else np.broadcast_to(classes, 3)
      wanted = logits[np.arange(3), number]
      np.testing.assert_array_equal(found.classes, number)
      np.testing.assert_allclose(found.logits, wanted, atol=1e-5)
      np.testing.assert_allclose(found.values.sum((1, 2), dtype=np.float64) + found.rest, wanted, atol=1e-5, rtol=1e-6)
      assert found.exact == (kind != "tanh")


def test_cells_are_those_of_the_last_map():
  assert class_map(*coatnet("plain"), IMAGES).grid == Grid(4, 3, (4.0, 4.0), image=(13, 9))
  assert class_map(*drawn("plain")[:2], IMAGES).grid == Grid(7, 5, (2.0, 2.0), image=(13, 9))


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_behind_a_norm_of_each_cell_a_part_is_what_the_cell_alone_would_say(norm):
  model, variables, features = drawn("norm_first", norm)
  found = class_map(model, variables, IMAGES, 2)
  head = Classifier(4, "norm_first", norm)
  of_head = {name: tree["head"] for name, tree in variables.items()}
  alone = head.apply(of_head, features.reshape(-1, 1, 1, 6), train=False)[:, 2].reshape(3, 7, 5)
  np.testing.assert_allclose(found.values, (alone - found.rest[:, None, None]) / 35, rtol=1e-3, atol=1e-5)


def test_behind_a_norm_of_the_mean_a_part_is_the_slope_at_a_fixed_deviation():
  model, variables, features = drawn("plain")
  found = class_map(model, variables, IMAGES, 2)
  params = variables["params"]["head"]
  deviation = features.mean((1, 2)).std(-1)

  def logit(features):
    mean = features.mean((1, 2))
    centred = (mean - mean.mean(-1, keepdims=True)) / deviation[:, None]
    return ((centred * params["norm"]["scale"][None]) @ params["logits"]["kernel"][:, 2]).sum()

  slopes = jax.grad(logit)(jnp.asarray(features))
  np.testing.assert_allclose(found.values, (slopes * features).sum(-1), rtol=1e-3, atol=1e-5)


def test_a_batch_norm_of_the_mean_is_linear():
  model, variables, features = drawn("plain", "batch")
  found = class_map(model, variables, IMAGES, 2)
  mean = variables["batch_stats"]["head"]["norm"]["mean"]
  alone = np.broadcast_to(mean, features.shape).copy()
  alone[:, 4, 1] = features[:, 4, 1]  # all other cells say nothing
  of_head = {name: tree["head"] for name, tree in variables.items()}
  logits = Classifier(4, "plain", "batch").apply(of_head, alone, train=False)[:, 2]
  np.testing.assert_allclose(found.values[:, 4, 1], logits - found.rest, rtol=1e-3, atol=1e-5)


def test_where_tanh_is_a_line_its_parts_are_those_of_a_plain_head():
  model, variables, _ = drawn("tanh", size=1e-3)
  found = class_map(model, variables, IMAGES, 2)
  params = dict(variables["params"]["head"])
  hidden = params.pop("hidden")
  last = {"kernel": hidden["kernel"] @ params["logits"]["kernel"], "bias": np.zeros(4, np.float32)}
  plain = {"params": {"map": variables["params"]["map"], "head": {"norm": params["norm"], "logits": last}}}
  expected = class_map(Head("plain"), plain, IMAGES, 2)
  np.testing.assert_allclose(found.values, expected.values, rtol=1e-3, atol=1e-6)


def test_sixteen_bits_sum_to_their_logit_too():
  model, variables = coatnet("plain")
  model = model.clone(dtype=jnp.bfloat16)
  found = class_map(model, variables, IMAGES, 1)
  np.testing.assert_allclose(found.values.sum((1, 2)) + found.rest, found.logits, atol=1e-5)
  logits = np.asarray(model.apply(variables, IMAGES, train=False))[:, 1]
  np.testing.assert_allclose(found.logits, logits, atol=0.03)  # compiled together, other numbers are rounded


def test_other_heads_and_norms_are_refused():
  layer = Conv(3, 3)
  with pytest.raises(ValueError, match=r"ends in a layers.Classifier with classes; Conv does not"):
    class_map(layer, layer.init(jax.random.key(0), IMAGES), IMAGES)
  model, _ = coatnet("plain")
  model = model.clone(num_classes=0)
  with pytest.raises(ValueError, match="with classes; CoAtNet does not"):
    class_map(model, model.init(jax.random.key(0), IMAGES, train=False), IMAGES)

  class Own(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
      norm = lambda name, **_: Identity(name=name)  # noqa: E731
      return Classifier(4, "plain", norm, name="head")(images, train=train)

  with pytest.raises(ValueError, match="the classifier has Identity"):
    class_map(Own(), Own().init(jax.random.key(0), IMAGES, train=False), IMAGES)


class Identity(nn.Module):
  def __call__(self, x, *, train):
    return x
