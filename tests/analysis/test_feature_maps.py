"""Maps inside a model: which is found, where its cells lie, and that an edit of it is an edit of the model."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.analysis import Grid, find_feature_map
from convattn.analysis.calling import checked_images, chosen_classes, in_pieces
from convattn.analysis.feature_maps import edited_at, output_at, parts_in_order
from convattn.layers import Conv
from convattn.models import CoAtNet, Run, Spec, Stage

STAGES = (Stage((Run("C", 1, 8),), 2), Stage((Run("T", 2, 12),), 2), Stage((Run("T", 1, 12),), 1))
MODEL = CoAtNet(Spec(STAGES, (4, 8), head_size=4, head="plain"), num_classes=3)
IMAGES = np.random.default_rng(1).normal(size=(2, 21, 13, 2)).astype(np.float32)
IMAGE = IMAGES.shape[1:3]


@pytest.fixture(scope="module")
def variables():
  return jax.jit(lambda images: MODEL.init(jax.random.key(0), images, train=False))(IMAGES)


class Tokens(nn.Module):
  """Patches of 4 pixels as tokens behind `prefix` others, and logits of their mean."""

  prefix: int = 0

  @nn.compact
  def __call__(self, images):
    patches = Conv(6, 4, 4, name="patches")(images)
    tokens = patches.reshape(len(images), -1, 6)
    first = jnp.ones((len(images), self.prefix, 6))
    tokens = nn.Dense(6, name="mix")(jnp.concatenate([first, tokens], 1))
    return nn.Dense(3, name="logits")(tokens.mean(1))


def test_the_last_stage_of_a_coatnet_is_found(variables):
  found = find_feature_map(MODEL, variables, IMAGES)
  assert found == find_feature_map(MODEL, variables, IMAGES, "stage_3")
  assert (found.part, found.channels, found.prefix_tokens) == ("stage_3", 12, None)
  assert found.grid == Grid(3, 2, (8.0, 8.0), image=IMAGE)
  features = MODEL.apply(variables, IMAGES, train=False, method=MODEL.features)
  np.testing.assert_allclose(output_at(MODEL, variables, IMAGES, found), features[-1], rtol=1e-6)


@pytest.mark.parametrize(
  "path, stride, channels",
  [
    ("stem", 2, 8),
    ("stem/conv_1", 2, 4),
    ("stage_1", 4, 8),
    ("stage_1/block_0/depthwise", 4, 32),
    ("stage_2/block_0", 8, 12),
    ("stage_2/block_0/attention_norm", 4, 8),  # pools behind it
    ("stage_2/block_0/attention", 8, 12),
    ("stage_2/block_1/attention", 8, 12),
  ],
)
def test_every_part_has_its_grid(variables, path, stride, channels):
  found = find_feature_map(MODEL, variables, IMAGES, path)
  cells = tuple(-(-size // stride) for size in IMAGE)
  assert found.grid == Grid(*cells, (float(stride), float(stride)), image=IMAGE)
  assert output_at(MODEL, variables, IMAGES, found).shape == (2, *cells, channels)


def test_an_edit_of_a_part_is_an_edit_of_the_model(variables):
  found = find_feature_map(MODEL, variables, IMAGES, "stage_2/block_1/attention")
  plain = MODEL.apply(variables, IMAGES, train=False)
  same, before = edited_at(MODEL, variables, IMAGES, found, lambda output: output)
  np.testing.assert_array_equal(same, plain)
  other, after = edited_at(MODEL, variables, IMAGES, found, lambda output: 2 * output)
  np.testing.assert_array_equal(before, after)
  assert np.abs(other - plain).max() > 1e-3


@pytest.mark.parametrize("remat", ["block", "dots"])
def test_what_is_recomputed_in_training_is_seen_too(variables, remat):
  found = find_feature_map(MODEL, variables, IMAGES, "stage_2/block_0")
  model = MODEL.clone(remat=remat)
  assert find_feature_map(model, variables, IMAGES, "stage_2/block_0") == found
  seen = [output_at(each, variables, IMAGES, found) for each in (MODEL, model)]
  np.testing.assert_array_equal(*seen)


@pytest.mark.parametrize("prefix", [0, 2])
def test_tokens_are_brought_to_the_cells_of_the_image_before_them(prefix):
  model = Tokens(prefix)
  variables = model.init(jax.random.key(0), IMAGES)
  found = find_feature_map(model, variables, IMAGES)
  assert (found.part, found.prefix_tokens) == ("mix", prefix)
  assert found.grid == Grid(6, 4, (4.0, 4.0), image=IMAGE)
  kernel, bias = (variables["params"]["mix"][name] for name in ("kernel", "bias"))
  patches = output_at(model, variables, IMAGES, find_feature_map(model, variables, IMAGES, "patches"))
  expected = patches @ kernel + bias[None, None, None]
  np.testing.assert_allclose(output_at(model, variables, IMAGES, found), expected, rtol=1e-5, atol=1e-6)


def test_a_layer_is_its_own_map():
  layer = Conv(3, 3, 7)
  found = find_feature_map(layer, layer.init(jax.random.key(0), IMAGES), IMAGES)
  assert found.part == "" and found.grid == Grid(3, 2, (7.0, 7.0), image=IMAGE)


def test_a_stride_is_the_same_on_both_axes_where_it_can_be():
  row = np.zeros((1, 1, 28, 2), np.float32)
  layer = Conv(3, 3, 4)
  assert find_feature_map(layer, layer.init(jax.random.key(0), row), row).grid == Grid(1, 7, (4.0, 4.0), image=(1, 28))


def test_what_is_no_map_is_refused(variables):
  with pytest.raises(ValueError, match=r"no part 'stage_4'; did you mean 'stage_[123]'"):
    find_feature_map(MODEL, variables, IMAGES, "stage_4")
  with pytest.raises(ValueError, match=r"'classifier' puts out \[b, 3\]"):
    find_feature_map(MODEL, variables, IMAGES, "classifier")
  with pytest.raises(ValueError, match=r"query' puts out \[b, 6, 3, 4\]"):
    find_feature_map(MODEL, variables, IMAGES, "stage_2/block_1/attention/query")


def test_parts_are_named_in_the_order_of_their_calls(variables):
  assert parts_in_order(MODEL, variables, IMAGES) == ["stem", "stage_1", "stage_2", "stage_3", "classifier"]


class Columns(nn.Module):
  """Fewer tokens than there are pixels, and no image before them."""

  widths: list  # has no hash

  @nn.compact
  def __call__(self, images):
    return nn.Dense(self.widths[0])(images.mean(1))


def test_tokens_without_an_image_before_them_have_no_cells():
  model = Columns([2])
  with pytest.raises(ValueError, match=r"Columns has no module that puts out an image \[b, h, w, c\] or tokens"):
    find_feature_map(model, model.init(jax.random.key(0), IMAGES), IMAGES)


@pytest.mark.parametrize("pixels, sizes", [(1, {7}), (2**14, {4}), (2**20, {1})])
def test_pieces_are_of_one_size(pixels, sizes):
  seen = set()

  def doubled(a, b):
    seen.add(len(a))
    return a + b

  values = np.arange(7.0)
  np.testing.assert_array_equal(in_pieces(doubled, values, values, pixels=pixels), 2 * values)
  assert seen == sizes


def test_images_and_classes_that_do_not_fit_are_refused(variables):
  with pytest.raises(ValueError, match=r"must be \[b, h, w, c\].*got \[8, 8\]"):
    checked_images(np.zeros((8, 8), np.float32))
  with pytest.raises(ValueError, match="images are uint8"):
    checked_images(np.zeros((1, 8, 8, 3), np.uint8))
  assert checked_images(jnp.zeros((1, 2, 2, 1), jnp.bfloat16)).dtype == np.float32
  for classes, message in ((3, "from 0 to 2, got 3"), ([0, 1, 2], "an integer or 2 of them"), (0.5, "an integer")):
    with pytest.raises(ValueError, match=message):
      chosen_classes(MODEL, variables, IMAGES, classes)
  layer = Conv(3, 3)
  with pytest.raises(ValueError, match=r"Conv puts out \[2, 21, 13, 3\], but logits"):
    chosen_classes(layer, layer.init(jax.random.key(0), IMAGES), IMAGES)
