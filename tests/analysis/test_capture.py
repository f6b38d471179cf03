"""What attention maps are of a whole model: its own weights, where they lie, and nothing that changes the model."""

import functools
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import layers
from convattn.analysis import Grid, attention_maps, capture, parts
from convattn.layers.seen import PARTS
from convattn.models.coatnet import CoAtNet
from convattn.models.spec import Run, Spec, Stage

IMAGES = np.random.default_rng(0).standard_normal((3, 28, 20, 2)).astype(np.float32)


def drawn(model, x, seed=1, **options):
  """Variables away from zero; variances are positive. Nothing is compiled."""
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(functools.partial(model.init, **options), jax.random.key(0), x)
  positive = lambda path: path[-1].key in ("var", "scale")  # noqa: E731
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: np.asarray(0.5 * rng.standard_normal(leaf.shape) ** (1 + positive(path)) + positive(path))
    .astype(leaf.dtype),
    shapes,
  )  # fmt: skip


@pytest.fixture(scope="module")
def model():
  """28x20 pixels become 14x10, 7x5 and 4x3; the last are what attention sees."""
  stages = (Stage((Run("C", 1, 6),)), Stage((Run("T", 1, 8),), 1), Stage((Run("T", 1, 8),)))
  return CoAtNet(Spec(stages, (4,), head_size=4), num_classes=3)


@pytest.fixture(scope="module")
def variables(model):
  return drawn(model, IMAGES, train=False)


@pytest.fixture(scope="module")
def maps(model, variables):
  return attention_maps(model, variables, IMAGES)


def sown(model, variables, images, layer, **options):
  """What the layer sows for those who look into "intermediates"."""
  run = jax.jit(lambda v, x: model.apply(v, x, **options, mutable=["intermediates"])[1])
  seen = run(variables, images)
  for name in layer.split("/"):
    seen = seen.get("intermediates", seen)[name]
  (weights,) = seen["attention"]
  return weights


def test_the_maps_of_a_coatnet_are_its_own_weights(model, variables, maps):
  assert [each.layer for each in maps] == ["stage_2/block_0/attention", "stage_3/block_0/attention"]
  for each in maps:
    expected = sown(model, variables, IMAGES, each.layer, train=False)
    assert each.probabilities.shape == expected.shape == (3, 2, each.query_grid.cells, each.key_grid.cells)
    np.testing.assert_allclose(each.probabilities, expected, rtol=1e-4, atol=1e-6)
    assert {getattr(each, mode).dtype for mode in each.modes} == {np.dtype("float32")}


def test_both_parts_of_the_logits_make_the_weights(maps):
  for each in maps:
    assert each.modes == ("probabilities", "logits", "content", "position", "norm_weighted")
    np.testing.assert_allclose(each.content + each.position, each.logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(jax.nn.softmax(each.content + each.position), each.probabilities, atol=1e-6)
    assert np.ptp(each.content, axis=0).max() > 0.1  # of each image
    assert each.position.strides[0] == 0  # of all images, kept once


def test_the_bias_is_the_table_of_the_shift_from_query_to_key(variables, maps):
  table = variables["params"]["stage_3"]["block_0"]["attention"]["bias_table"]
  each = maps[1]
  h, w = each.query_grid.height, each.query_grid.width
  row, column = np.divmod(np.arange(h * w), w)
  down, right = row[None] - row[:, None], column[None] - column[:, None]
  np.testing.assert_allclose(each.position[0], table[:, down + h - 1, right + w - 1], rtol=1e-6)


def test_grids_follow_the_strides_of_the_model(maps):
  """28 rows become 14, 7 and 4: a stride of 8, not of 28 / 4."""
  for each, cells, stride in zip(maps, [(7, 5), (4, 3)], [4, 8], strict=True):
    assert each.query_grid == each.key_grid == Grid(*cells, (stride, stride), (0, 0), (28, 20))
  np.testing.assert_array_equal(
    maps[1].query_grid.boxes()[[0, 4, -1]], [[0, 0, 8, 8], [8, 8, 16, 16], [24, 16, 28, 20]]
  )


def test_each_image_is_seen_as_if_alone(model, variables, maps):
  for i in (0, 2):
    (alone,) = attention_maps(model, variables, IMAGES[i : i + 1], layers="stage_3/*")
    for mode in alone.modes:
      np.testing.assert_array_equal(getattr(alone, mode)[0], getattr(maps[1], mode)[i])


def test_of_the_pieces_of_a_layer_none_is_left_when_the_next_is_joined(model, variables, monkeypatch):
  """They are as large as its map."""
  before = []

  def join(pieces):
    assert len(pieces) == 3 and not any(piece() for piece in before)
    before.extend(map(weakref.ref, pieces))
    return parts.join_maps(pieces)

  monkeypatch.setattr(capture, "join_maps", join)
  assert len(attention_maps(model, variables, IMAGES)) == len(before) / 3 == 2


def test_layers_are_chosen_by_name(model, variables):
  chosen = attention_maps(model, variables, IMAGES[:1], layers=["*/attention", "stage_3*"])
  assert [each.layer for each in chosen] == ["stage_2/block_0/attention", "stage_3/block_0/attention"]
  with pytest.raises(ValueError, match=r"called 'stage_4/\*'; there are stage_2/block_0/attention, stage_3"):
    attention_maps(model, variables, IMAGES, layers="stage_4/*")


@pytest.mark.parametrize("shape", [(0, 28, 20, 2), (28, 20)])
def test_without_images_there_is_a_reason(model, variables, shape):
  with pytest.raises(ValueError, match=rf"images have shape \({shape[0]}, .*\[b, h, w, c\]"):
    attention_maps(model, variables, np.zeros(shape, np.float32))


def test_nobody_else_notices(model, variables, monkeypatch):
  """Neither the variables nor any program that does not ask has a trace of it."""
  assert set(jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), IMAGES)) == {
    "params", "batch_stats",
  }  # fmt: skip

  def program(mutable):
    return jax.jit(lambda v, x: model.apply(v, x, train=False, mutable=mutable)).lower(variables, IMAGES).as_text()

  usual, asked = [program(mutable) for mutable in (False, ["intermediates"], ["batch_stats"])], program([PARTS])
  monkeypatch.setattr(layers.attention, "parts_wanted", lambda module: False)
  assert [program(mutable) for mutable in (False, ["intermediates"], ["batch_stats"])] == usual
  assert program([PARTS]) != asked  # the negative control


def test_recomputed_blocks_show_the_same(model, variables, maps):
  again = attention_maps(model.clone(remat="block"), variables, IMAGES[:1])
  for one, other in zip(again, maps, strict=True):
    assert (one.layer, one.query_grid) == (other.layer, other.query_grid)
    np.testing.assert_allclose(one.norm_weighted[0], other.norm_weighted[0], rtol=1e-5, atol=1e-6)


def test_a_model_without_attention_has_no_maps():
  assert attention_maps(layers.Conv(3), drawn(layers.Conv(3), IMAGES), IMAGES) == []


def test_half_precision_gives_float32(model, variables, maps):
  half_model = model.clone(dtype=jnp.bfloat16)
  (half,) = attention_maps(half_model, variables, IMAGES[:1], layers="stage_2/*")
  assert {getattr(half, mode).dtype for mode in half.modes} == {np.dtype("float32")}
  expected = sown(half_model, variables, IMAGES[:1], half.layer, train=False)
  np.testing.assert_allclose(half.probabilities, expected, atol=0.02)
  np.testing.assert_allclose(jax.nn.softmax(half.logits), half.probabilities, atol=1e-6)
  far = np.abs(half.norm_weighted[0] - maps[0].norm_weighted[0])
  assert 1e-5 < far.mean() < 0.01  # rounded, and no more than that
