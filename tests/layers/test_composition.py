"""Blocks are handed their parts: a norm, an activation, an attention, an attention's position."""

import functools
import pathlib
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import create_model, layers
from convattn.errors import UserError
from convattn.layers.grid_positions import PredictedCentre, QuadraticPositions, RowColumnPositions

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from by_hand import apply, image, initialise


class Doubled(nn.Module):
  """A norm of one's own, without a parameter."""

  dtype: type = jnp.float32
  param_dtype: type = jnp.float32

  def __call__(self, x, *, train):
    return 2 * x


class Reach(nn.Module):
  """A position of one's own: -distance^2 / reach^2, with one number per head."""

  reach: float = 2.0
  dtype: type = jnp.float32
  param_dtype: type = jnp.float32

  @nn.compact
  def __call__(self, tokens, query, grid, *, train=False):
    slope = self.param("slope", nn.initializers.constant(1 / self.reach**2), (query.shape[-2],), self.param_dtype)
    place = np.stack(np.divmod(np.arange(grid[0] * grid[1]), grid[1]), -1)
    return -slope[:, None, None] * np.square(place[None] - place[:, None]).sum(-1)[None]


class Mean(nn.Module):
  """An attention of one's own: every pixel sees the mean of all; it says whether it was told to train."""

  num_heads: int
  width: int
  out_width: int
  dtype: type = jnp.float32
  param_dtype: type = jnp.float32

  @nn.compact
  def __call__(self, x, *, train):
    self.sow("intermediates", "told", (self.num_heads, self.width, train))
    mean = jnp.broadcast_to(x.mean((1, 2), keepdims=True), x.shape)
    return nn.Dense(self.out_width, name="out")(mean)


def same(ours, wanted, x, **keywords):
  variables = initialise(wanted, x, **keywords)
  assert jax.tree.structure(variables) == jax.tree.structure(initialise(ours, x, **keywords))
  np.testing.assert_array_equal(apply(ours, variables, x, **keywords), apply(wanted, variables, x, **keywords))


@pytest.mark.parametrize(
  "ours, wanted",
  [
    (layers.RelativeAttention(2, position=layers.BiasTable), layers.RelativeAttention(2)),
    (layers.RelativeAttention(2, position=None), layers.RelativeAttention(2, relative="none")),
    (
      layers.RelativeAttention(2, position=functools.partial(layers.BiasMLP, hidden=5), relative="post"),
      layers.RelativeAttention(2, position="mlp", position_hidden=5, relative="post"),
    ),
    (
      layers.TransformerBlock(8, head_size=4, attention=functools.partial(layers.RelativeAttention, relative="post")),
      layers.TransformerBlock(8, head_size=4, relative="post"),
    ),
    (
      layers.TransformerBlock(8, head_size=4, norm=functools.partial(layers.LayerNorm, 1e-2), activation=nn.relu),
      layers.TransformerBlock(8, head_size=4, norm_epsilon=1e-2, activation="relu"),
    ),
    (
      layers.MBConv(8, norm=functools.partial(layers.LayerNorm, 1e-2), activation=nn.silu, squeeze_activation=nn.relu),
      layers.MBConv(8, norm="layer", norm_epsilon=1e-2, activation="silu", squeeze_activation="relu"),
    ),
    (layers.ConvNeXtBlock(12, activation=nn.relu), layers.ConvNeXtBlock(12, activation="relu")),
    (layers.Stem((3, 8), norm=layers.LayerNorm), layers.Stem((3, 8), norm="layer", norm_epsilon=1e-6)),
    (layers.Classifier(3, norm=layers.LayerNorm), layers.Classifier(3)),
  ],
)
def test_a_part_handed_in_is_the_same_as_by_its_name(ours, wanted):
  attention = isinstance(ours, layers.RelativeAttention)
  same(ours, wanted, image(2, 3, 4, 6), **({} if attention else {"train": False}))


@pytest.mark.parametrize("position", [Reach, functools.partial(Reach, 1.0), QuadraticPositions])
def test_attention_takes_a_position_of_ones_own(position):
  """Its variables lie beside the attention's, and the weights are those of its bias alone where queries are 0."""
  x, layer = image(2, 3, 4, 6), layers.RelativeAttention(2, position=position)
  variables = initialise(layer, x)
  params = variables["params"]
  params["query"] = jax.tree.map(jnp.zeros_like, params["query"])
  own = {name: value for name, value in params.items() if name not in ("query", "key", "value", "out")}
  assert own
  _, seen = apply(layer, variables, x, mutable=["intermediates"])
  bias = position().apply({"params": own}, x.reshape(2, 12, 6), jnp.zeros((2, 12, 2, 3)), (3, 4))
  np.testing.assert_allclose(seen["intermediates"]["attention"][0], jax.nn.softmax(bias)[None].repeat(2, 0), atol=1e-6)


def test_a_block_takes_an_attention_and_a_norm_of_ones_own():
  x = image(2, 5, 3, 6)
  layer = layers.TransformerBlock(8, 2, head_size=4, attention=Mean, norm=Doubled)
  variables = initialise(layer, x, train=False)
  assert set(variables["params"]) == {"shortcut", "attention", "feed_forward"}
  for train in (False, True):
    _, seen = layer.apply(variables, x, train=train, mutable=["intermediates"])
    assert seen["intermediates"]["attention"]["told"] == ((2, 8, train),)
  zeroed = jax.tree.map(jnp.zeros_like, variables["params"]["feed_forward"])
  out = apply(layer, {"params": variables["params"] | {"feed_forward": zeroed}}, x, train=False)
  pooled = [layers.Shortcut(6, 2).apply({}, each) for each in (x, 2 * x)]
  dense = [variables["params"][name] for name in ("shortcut", "attention")]
  kernels = [dense[0]["project"], dense[1]["out"]]
  pooled[1] = pooled[1].mean((1, 2), keepdims=True)
  wanted = sum(np.asarray(each @ p["kernel"]) + p["bias"] for each, p in zip(pooled, kernels, strict=True))
  np.testing.assert_allclose(out, wanted, atol=1e-5)
  with pytest.raises(AssertionError, match=r"argument 'x' has shape \(2, 5, 3, 5\), but must be \[b, h, w, 6\]"):
    layer.apply(variables, x[..., 1:], train=False)


@pytest.mark.parametrize("position", [RowColumnPositions, functools.partial(RowColumnPositions), Reach])
def test_a_position_without_content_has_learned_queries_where_it_reads_them(position):
  layer = layers.GridAttention(2, position, content=False)
  x = image(2, 3, 4, 6)
  variables = initialise(layer, x)
  assert "head_query" in variables["params"]
  weights = apply(layer, variables, x, mutable=["intermediates"])[1]["intermediates"]["attention"][0]
  assert float(weights.std()) > 1e-3  # 0: all places alike
  for known in (layers.BiasTable, QuadraticPositions):
    assert "head_query" not in initialise(layer.clone(position=known), x)["params"]


class Wrong(Reach):
  """It forgets the heads."""

  def __call__(self, tokens, query, grid, *, train=None):
    return jnp.zeros((tokens.shape[1],) * 2)


MLP = functools.partial(layers.BiasMLP, hidden=5, dropout=0.5)
BLOCK = functools.partial(layers.TransformerBlock, 8, head_size=4)


@pytest.mark.parametrize(
  "layer, message",
  [
    (layers.MBConv(8, norm="group"), "norm is 'group', but must be one of 'batch', 'layer'"),
    (layers.MBConv(8, squeeze_at="befor"), "squeeze_at is 'befor', but must be one of 'after', 'before'"),
    (layers.MBConv(8, stride_at="depthwse"), "stride_at is 'depthwse', but must be one of 'expand'"),
    (layers.MBConv(8, expand_from="x"), "expand_from is 'x', but must be one of"),
    (layers.MBConv(8, squeeze_from="x"), "squeeze_from is 'x', but must be one of"),
    (layers.MBConv(8, pool="mx"), "pool is 'mx', but must be one of 'max'"),
    (layers.MBConv(8, norm=layers.LayerNorm, norm_epsilon=1e-3), "norm_epsilon is 0.001, but norm is handed in"),
    (layers.Stem((4, 8), norm=layers.LayerNorm, norm_epsilon=1e-3), "norm_epsilon is 0.001, but norm is handed in"),
    (layers.Classifier(3, norm=layers.LayerNorm, norm_epsilon=1e-3), "norm_epsilon is 0.001, but norm is handed in"),
    (layers.Classifier(3, kind="foo"), "kind is 'foo', but must be one of 'tanh'"),
    (layers.Shortcut(8, pool="mx"), "pool is 'mx', but must be one of 'max'"),
    (layers.FeedForward(activation="swish"), "activation is 'swish', but must be one of 'gelu'"),
    (layers.GridAttention(2, "sine"), "position is 'sine', but must be one of 'row_column'"),
    (layers.GridAttention(2, Wrong), r"position Wrong gives a bias \(9, 9\), but must give .n, q, k. = \(2, 9, 9\)"),
    (layers.RelativeAttention(2, position=Wrong), r"position Wrong gives a bias \(9, 9\)"),
    (layers.RelativeAttention(2, position=MLP, position_hidden=7), "position_hidden is 7, but position is handed in"),
    (layers.RelativeAttention(2, relative="post", position=PredictedCentre), "relative is 'post', but PredictedCentre"),
    (BLOCK(attention=Mean, position="mlp"), "position is 'mlp', but attention is handed in"),
    (BLOCK(width_from="inpt"), "width_from is 'inpt', but must be one of 'output', 'input'"),
  ],
)
def test_a_wrong_word_or_part_is_named(layer, message):
  blocks = (layers.MBConv, layers.Stem, layers.Classifier, layers.TransformerBlock)
  keywords = {"train": False} if isinstance(layer, blocks) else {}
  with pytest.raises(ValueError, match=message):
    layer.init(jax.random.key(0), image(1, 3, 3, 6), **keywords)


def test_a_position_with_dropout_must_be_told_whether_to_train():
  layer, x = layers.RelativeAttention(2, position=MLP), image(1, 3, 3, 6)
  variables = layer.init(jax.random.key(0), x)
  with pytest.raises(ValueError, match=r"dropout is 0.5: call the attention with train=True or train=False"):
    layer.apply(variables, x)
  evaluated = layer.apply(variables, x, train=False)
  trained = layer.apply(variables, x, train=True, rngs={"dropout": jax.random.key(1)})
  assert float(jnp.abs(trained - evaluated).max()) > 1e-4


def test_an_input_is_never_checked_against_a_parameter_that_is_not_there():
  """A check that a renamed parameter would switch off is an error as soon as there are parameters."""
  x = image(1, 3, 3, 6)
  variables = initialise(layers.SqueezeExcite(3), x)
  renamed = {"params": {"shrink" if name == "reduce" else name: tree for name, tree in variables["params"].items()}}
  with pytest.raises(ValueError, match="SqueezeExcite has the parameters expand, shrink, but no reduce/kernel"):
    layers.SqueezeExcite(3).apply(renamed, x)


@pytest.mark.parametrize("name", ["dtype", "param_dtype"])
def test_no_dtype_is_refused(name):
  """NumPy takes None for float64: under x64 a float32 model would compute in it, unasked."""
  for layer in (layers.MBConv(8, **{name: None}), create_model("coatnet_mini_8", 3, **{name: None})):
    with pytest.raises(ValueError, match=f"^{name} of {type(layer).__name__} is None, but must be a dtype"):
      layer.init(jax.random.key(0), image(1, 8, 8, 6), train=False)
  for wrong in ("fp16", "int32", 7):
    with pytest.raises(UserError, match=f"^{name} is {wrong!r}, but must be a floating-point dtype such as float32"):
      create_model("coatnet_mini_8", 3, **{name: wrong})
