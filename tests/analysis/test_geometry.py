"""Where queries and keys lie in the image: through strides, pools and borders, and for tokens that have a grid."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import layers
from convattn.analysis import Grid, attention_maps
from convattn.analysis.geometry import strided
from convattn.equivalence import PositionAttention, QuadraticAttention, conv_to_attention
from convattn.layers.shortcut import pool

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((2, 13, 20, 3)).astype(np.float32)


def initialised(model, *inputs, **options):
  return jax.jit(functools.partial(model.init, **options))(jax.random.key(0), *inputs)


@pytest.mark.parametrize(
  "sizes, size, stated, expected",
  [
    ((28, 28), (14, 14), None, ((2, 2), (0, 0))),
    ((7, 5), (4, 3), None, ((2, 2), (0, 0))),
    ((224, 160), (14, 10), None, ((16, 16), (0, 0))),
    ((5, 32), (2, 8), None, ((4, 4), (0, 0))),  # 5 rows alone might have a stride of 3
    ((5, 5), (2, 2), None, ((3, 3), (0, 0))),
    ((5, 5), (2, 2), 4, ((4, 4), (0, 0))),
    ((8, 9), (8, 3), (1, 3), ((1, 3), (0, 0))),
    ((8, 9), (8, 3), None, ((1, 3), (0, 0))),
    ((9, 9), (3, 3), 2, ((3, 3), (0, 0))),  # what is stated does not fit
    ((28, 10), (26, 6), None, ((1, 1), (1, 2))),  # borders that are left out
    ((11, 11), (5, 5), None, ((2.2, 2.2), (0, 0))),
    ((1, 40), (1, 20), None, ((2, 2), (0, 0))),
    ((4, 4), (8, 8), None, ((0.5, 0.5), (0, 0))),
  ],
)
def test_a_stride_from_two_sizes(sizes, size, stated, expected):
  base = Grid(*sizes, (3.0, 2.0), (-1.0, 0.0), (999, 999))
  (down, right), (top, left) = expected
  assert strided(base, size, stated) == Grid(*size, (3 * down, 2 * right), (3 * top - 1, 2 * left), (999, 999))


class Strides(nn.Module):
  """A stem, a squeezed image beside it, a strided convolution and a pool, then attention: 13x20 becomes 2x2."""

  @nn.compact
  def __call__(self, x):
    x = layers.Conv(4, 3, 3, name="stem")(x)
    x = layers.SqueezeExcite(2)(x)
    x = layers.RelativeAttention(2, position=None, name="first")(x)
    x = layers.DepthwiseConv(3, 2)(x)
    features = self.perturb("features", pool(x, "avg", 2))
    return layers.RelativeAttention(2, position=None, name="second")(features)


def test_strides_multiply_and_what_is_squeezed_or_split_into_heads_does_not_count():
  first, second = attention_maps(Strides(), initialised(Strides(), IMAGES), IMAGES)
  assert first.query_grid == first.key_grid == Grid(5, 7, (3, 3), (0, 0), (13, 20))
  assert second.query_grid == second.key_grid == Grid(2, 2, (12, 12), (0, 0), (13, 20))
  np.testing.assert_array_equal(second.key_grid.boxes()[-1], [12, 12, 13, 20])


class Halves(nn.Module):
  """33x34 pixels become 17x17, 9x9 and 5x5 inside one module that states no stride."""

  @nn.compact
  def __call__(self, x):
    x = nn.Sequential([layers.DepthwiseConv(3, 2) for _ in range(3)])(x)
    x = layers.RelativeAttention(2, position=None, name="first")(x)
    return layers.RelativeAttention(2, position=None, name="second")(x)


def test_what_happens_inside_a_module_counts_where_it_leads_out():
  """From 33x34 to 5x5 alone it might be a stride of 7; and 25 tokens of two heads, like an image, are forgotten."""
  images = np.ones((1, 33, 34, 4), np.float32)
  for found in attention_maps(Halves(), initialised(Halves(), images), images):
    assert found.query_grid == Grid(5, 5, (8, 8), (0, 0), (33, 34))


class Strided(nn.Module):
  stem: nn.Module

  @nn.compact
  def __call__(self, x):
    return layers.RelativeAttention(1, position=None, name="attention")(self.stem(x))


class Pool(nn.Module):
  kind: str
  stride: int

  def __call__(self, x):
    return pool(x, self.kind, self.stride)


STEMS = {  # and how many pixels beyond its cell an output reads: at most the window's half
  "conv": (layers.Conv(2, 3, 2), 1),
  "depthwise of 7": (layers.DepthwiseConv(7, 4), 3),
  "patches": (layers.Conv(2, 4, 4), 0),
  "two": (nn.Sequential([layers.Conv(2, 3, 2), layers.Conv(2, 3, 2)]), 3),
  "max": (Pool("max", 3), 1),  # odd windows are padded on both sides
  "max3x3": (Pool("max3x3", 2), 1),
  "avg": (Pool("avg", 2), 0),
  "valid": (nn.Conv(2, (3, 3), padding="VALID"), 1),
}


@pytest.mark.parametrize("name", STEMS)
def test_a_cell_reads_its_pixels_and_those_around_them(name):
  """The gradient of each cell of what attention sees, with respect to the image."""
  stem, reach = STEMS[name]
  variables = initialised(Strided(stem), IMAGES)
  (found,) = attention_maps(Strided(stem), variables, IMAGES[:1])
  run = lambda x: Strided(stem).apply(variables, x, method=lambda module, x: module.stem(x)).sum(-1).ravel()  # noqa: E731
  read = np.abs(np.asarray(jax.jit(jax.jacobian(run))(IMAGES[:1]))).sum((1, -1)) > 0  # [cells, 13, 20]
  assert found.query_grid.cells == len(read)
  for cell, (top, left, bottom, right) in zip(read, found.query_grid.boxes().astype(int), strict=True):
    near = np.zeros((13, 20), bool)
    near[max(top - reach, 0) : bottom + reach, max(left - reach, 0) : right + reach] = True
    assert cell[top, left] or "max" in name  # a maximum has one winner
    assert cell.any() and not (cell & ~near).any()


CONVOLUTIONS = [
  {"padding": "SAME"},
  {"padding": "SAME", "strides": 2},
  {"padding": "SAME", "strides": (1, 3), "dilation": (2, 1)},
  {"padding": "VALID", "strides": 2},
  {"padding": "EDGE"},
  {"padding": "CIRCULAR", "dilation": 2},
  {"padding": ((2, 0), (1, 3)), "strides": (2, 1)},
]


class Doubled(nn.Module):
  """What attends sees every second pixel."""

  attention: nn.Module

  @nn.compact
  def __call__(self, x):
    return self.attention(Pool("avg", 2)(x))


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_a_head_that_is_one_tap_looks_at_the_pixel_of_this_tap(options):
  """Of a 3x2 convolution as attention each head sees one pixel; a picture with that pixel alone is bright there."""
  kernel = np.arange(1.0, 7.0, dtype=np.float32).reshape(3, 2, 1, 1)
  layer, variables = conv_to_attention(kernel, mode="table", **options)
  (found,) = attention_maps(layer, variables, np.zeros((1, 9, 8, 1), np.float32))
  assert found.num_heads == 6
  np.testing.assert_allclose(found.probabilities.max(-1), 1)
  keys = found.probabilities[0].argmax(-1)  # [heads, queries]
  strides, dilation = (np.broadcast_to(options.get(name, 1), 2) for name in ("strides", "dilation"))
  apart = found.key_grid.centres()[keys] - found.query_grid.centres()[None]
  taps = np.stack(np.divmod(np.arange(6), 2), -1)
  expected = taps * dilation - (np.array([2, 1]) * dilation) // 2
  away = apart - expected[:, None]
  if options["padding"] == "EDGE":
    assert (np.abs(away).reshape(-1, 2).sum(-1) == 0).mean() > 0.5  # at the border it is the nearest pixel
  else:
    np.testing.assert_array_equal(away % (np.array([9, 8]) if options["padding"] == "CIRCULAR" else 99), 0)
  np.testing.assert_allclose(np.diff(found.query_grid.centres(), axis=0)[0, 1], strides[1])

  run = jax.jit(layer.apply)
  boxes = found.key_grid.boxes()
  for head, query in [(0, 5), (3, 7), (5, 0)]:
    top, left, bottom, right = boxes[keys[head, query]].astype(int)
    picture = np.zeros((1, 9, 8, 1), np.float32)
    picture[:, top:bottom, left:right] = 1  # nothing where it is beyond the border
    bright = np.asarray(run(variables, picture)).ravel()[query]
    inside = (bottom - top) * (right - left)
    assert inside in (0, 1) and (inside == 0) == (bright == 0)
    assert bright == 0 or bright >= kernel.ravel()[head] - 1e-4


def test_zero_tokens_lie_around_the_image():
  layer, variables = conv_to_attention(np.ones((3, 2, 1, 1), np.float32), mode="quadratic", alpha=20.0, padding="SAME")
  image = np.ones((1, 4, 5, 1), np.float32)
  (alone,) = attention_maps(layer, variables, image)
  assert alone.key_grid == Grid(6, 6, (1, 1), (-1, 0), (4, 5))
  assert alone.query_grid == Grid(4, 5, (1, 1), (0, 0), (4, 5))
  inside = Doubled(layer)
  (below,) = attention_maps(inside, {"params": {"attention": variables["params"]}}, np.ones((1, 8, 10, 1), np.float32))
  assert below.key_grid == Grid(6, 6, (2, 2), (-2, 0), (8, 10))
  np.testing.assert_allclose(below.probabilities, alone.probabilities)
  np.testing.assert_allclose(jax.nn.softmax(alone.logits), alone.probabilities, atol=1e-6)
  assert np.isfinite(alone.logits).all() and (alone.probabilities == 0).any()  # logits of weights that are nothing
  outside = (alone.key_grid.centres() < 0).any(1) | (alone.key_grid.centres() > (4, 5)).any(1)
  assert outside.sum() == 16
  assert (alone.norm_weighted[..., outside] == 0).all()
  out = jax.jit(layer.apply)(variables, image)  # all is positive
  np.testing.assert_allclose(alone.norm_weighted.sum((1, 3))[0], out.ravel(), rtol=1e-5)


def test_a_strided_head_looks_from_the_middle_of_its_window():
  layer = QuadraticAttention(2, 4, (3, 3), strides=2, groups=1)
  variables = initialised(layer, IMAGES)
  variables["params"]["shifts"] = jnp.array([[1.0, -2.0], [0.0, 0.0]])
  variables["params"]["alpha"] = jnp.array([30.0, 30.0])
  (found,) = attention_maps(layer, variables, IMAGES)
  apart = found.key_grid.centres()[found.probabilities[0].argmax(-1)] - found.query_grid.centres()
  inner = [22, 23, 24, 25]
  np.testing.assert_array_equal(apart[0, inner], np.tile([1, -2], (4, 1)))
  np.testing.assert_array_equal(apart[1, inner], 0)
  weights = found.probabilities.astype(np.float64)
  padded = np.pad(IMAGES, [(0, 0), (1, 1), (0, 1), (0, 0)]).reshape(2, -1, 3)
  seen = np.einsum("bnqk,bkc,nco->bqo", weights, padded, variables["params"]["value"])
  np.testing.assert_allclose(jax.jit(layer.apply)(variables, IMAGES).reshape(seen.shape), seen, rtol=1e-4, atol=1e-5)


def test_a_sequence_is_a_row_of_tokens():
  layer, variables = conv_to_attention(np.ones((3, 2, 2), np.float32), mode="table", padding="SAME", strides=2)
  (found,) = attention_maps(layer, variables, np.ones((1, 7, 2), np.float32))
  assert found.key_grid == Grid(1, 9, (1, 1), (0, -1))
  assert found.query_grid == Grid(1, 4, (1, 2), (0, -0.5))
  np.testing.assert_array_equal(found.query_grid.centres()[:, 1], [0.5, 2.5, 4.5, 6.5])


class Patches(nn.Module):
  """A Vision Transformer's beginning: patches of 4x4, a class token before them if there is one."""

  class_token: bool
  attention: nn.Module

  @nn.compact
  def __call__(self, x):
    x = layers.Conv(8, 4, 4, name="patches")(x)
    x = x.reshape(len(x), -1, 8)
    if self.class_token:
      x = jnp.concatenate([jnp.ones((len(x), 1, 8)), x], axis=1)
    return self.attention(x)


PLACED = Grid(4, 5, (4, 4), (0, 0), (13, 20))


@pytest.mark.parametrize("foreign", [False, True])
def test_tokens_that_are_as_many_as_pixels_lie_there(foreign):
  attention = nn.MultiHeadDotProductAttention(2) if foreign else layers.MultiHeadAttention(2)
  plain, prefixed = (Patches(token, Sowing(attention) if foreign else attention) for token in (False, True))
  (found,) = attention_maps(plain, initialised(plain, IMAGES), IMAGES)
  assert found.query_grid == found.key_grid == PLACED and found.prefix_tokens == 0
  variables = initialised(prefixed, IMAGES)
  (found,) = attention_maps(prefixed, variables, IMAGES, prefix_tokens=1)
  assert found.query_grid == found.key_grid == PLACED and found.prefix_tokens == 1
  assert found.dense().shape == (2, 2, 20, 20) and found.probabilities.shape == (2, 2, 21, 21)
  (found,) = attention_maps(prefixed, variables, IMAGES)  # nobody said so
  assert found.query_grid == Grid(1, 21) and found.prefix_tokens == 0
  (found,) = attention_maps(prefixed, variables, IMAGES, grid=(4, 5), prefix_tokens=1)
  assert found.query_grid == PLACED
  (found,) = attention_maps(prefixed, variables, IMAGES, grid=(3, 7))
  assert found.query_grid == Grid(3, 7, (5, 3), (0, 0), (13, 20))
  with pytest.raises(ValueError, match="grid is 4x5 after prefix_tokens = 0, 20 tokens in all, but layers have 21"):
    attention_maps(prefixed, variables, IMAGES, grid=(4, 5))
  with pytest.raises(ValueError, match=r"grid is \(4, 0\)"):
    attention_maps(prefixed, variables, IMAGES, grid=(4, 0))


class Sowing(nn.Module):
  """flax's own attention, called so that it sows its weights."""

  attention: nn.Module

  def __call__(self, x):
    return self.attention(x, sow_weights=True)


def test_other_peoples_attention_has_probabilities():
  model = Patches(False, Sowing(nn.MultiHeadDotProductAttention(2)))
  variables = initialised(model, IMAGES)
  (found,) = attention_maps(model, variables, IMAGES)
  _, seen = model.apply(variables, IMAGES, mutable=["intermediates"])
  (expected,) = seen["intermediates"]["attention"]["attention"]["attention_weights"]
  assert found.layer == "attention/attention" and found.modes == ("probabilities",)
  np.testing.assert_allclose(found.probabilities, expected, rtol=1e-5, atol=1e-6)
  alone = nn.MultiHeadDotProductAttention(2)
  x = np.ones((2, 6, 4), np.float32)
  (found,) = attention_maps(alone, initialised(alone, x), x, sow_weights=True)
  assert found.layer == "MultiHeadDotProductAttention" and found.query_grid == Grid(1, 6)


class Wrong(nn.Module):
  @nn.compact
  def __call__(self, x):
    self.sow("intermediates", "attention", x)
    return x


def test_attention_of_another_shape_is_refused():
  with pytest.raises(ValueError, match=r"Wrong gives attention of shape \(1, 6, 4\), but must give \[b, heads"):
    attention_maps(Wrong(), {}, np.ones((2, 6, 4), np.float32))


class Twice(nn.Module):
  """One layer at two resolutions, and a choice of list, which cannot be hashed."""

  sizes: list

  @nn.compact
  def __call__(self, x):
    attention = layers.RelativeAttention(1, position=None, name="attention")
    return attention(pool(attention(x), "avg", 2))


def test_a_layer_that_is_called_twice_has_two_maps():
  model = Twice([1])
  first, second = attention_maps(model, initialised(model, IMAGES), IMAGES)
  assert (first.layer, second.layer) == ("attention", "attention#2")
  assert (first.query_grid.cells, second.query_grid.cells) == (13 * 20, 7 * 10)
  assert second.query_grid.stride == (2, 2)


def test_an_abstract_layer_stays_abstract():
  with pytest.raises(NotImplementedError):
    initialised(PositionAttention(1, 1, (1, 1)), IMAGES)
