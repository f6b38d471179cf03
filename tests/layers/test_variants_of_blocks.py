"""What each field of a block changes, against the equation in NumPy; its defaults are in test_blocks."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import layers, ops

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import by_hand
from by_hand import apply, image, initialise


def check(layer, equation, x):
  """The layer equals its equation; returns its variables."""
  variables = initialise(layer, x, train=False)
  ours = apply(layer, variables, x, train=False)
  expected = equation(layer, variables, np.asarray(x))
  np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
  return variables


MBCONV = {
  "expand_from": "input",
  "squeeze_from": "expanded",
  "squeeze_at": "before",
  "squeeze_activation": "relu",
  "pre_norm_activation": True,
  "activation": "silu",
  "stride_at": "pool",
  "use_bias": False,
  "pool": "max3x3",
}
# Alone, where another field must not hide it, and together as timm's models have them.
MBCONVS = [{field: MBCONV[field]} for field in ("squeeze_at", "pre_norm_activation", "stride_at", "pool")] + [
  MBCONV,
  MBCONV | {"pool": "avg", "stride_at": "depthwise", "squeeze_at": "after"},
]


@pytest.mark.parametrize("fields", MBCONVS, ids=lambda fields: "-".join(fields))
def test_mbconv_with_fields_equals_its_equation(fields):
  x = image(2, 5, 6, 8)
  layer = layers.MBConv(12, stride=2, **fields)
  variables = check(layer, by_hand.mbconv, x)
  params = variables["params"]
  expanded = 4 * {"input": 8, "output": 12}[layer.expand_from]
  assert params["expand"]["kernel"].shape == (8, expanded)
  hidden = {"expanded": expanded, "output": 12}[layer.squeeze_from] // 4
  assert params["squeeze_excite"]["reduce"]["kernel"].shape == (expanded, hidden)
  for name in ("project", "shortcut"):
    leaves = params[name] if name == "project" else params[name]["project"]
    assert ("bias" in leaves) == layer.use_bias


@pytest.mark.parametrize("field", sorted(set(MBCONV) - {"expand_from", "squeeze_from", "use_bias"}))
def test_each_field_of_mbconv_changes_the_output(field):
  """With the same parameters: the equation would see a field that does nothing."""
  x = image(2, 5, 6, 8)
  layer = layers.MBConv(12, stride=2)
  variables = initialise(layer, x, train=False)
  plain, changed = (
    by_hand.mbconv(each, variables, np.asarray(x)) for each in (layer, layer.clone(**{field: MBCONV[field]}))
  )
  assert np.abs(plain - changed).max() > 1e-2


TRANSFORMERS = [
  {"width_from": "input"},
  {"layer_scale": 0.3},
  {"norm": "batch", "norm_epsilon": 1e-6},
  {"position": "mlp", "position_hidden": 5, "position_dropout": 0.5, "pool": "max3x3", "shortcut_bias": False},
  {"pool": "avg", "width_from": "input", "layer_scale": 1e-6},
]


@pytest.mark.parametrize("fields", TRANSFORMERS, ids=lambda fields: "-".join(fields))
def test_transformer_block_with_fields_equals_its_equation(fields):
  layer = layers.TransformerBlock(12, stride=2, head_size=4, **fields)
  params = check(layer, by_hand.transformer_block, image(2, 5, 7, 8))["params"]
  heads = {"input": 2, "output": 3}[layer.width_from]
  assert params["attention"]["query"]["kernel"].shape == (8, heads, 4)
  assert params["attention"]["out"]["kernel"].shape == (heads, 4, 12)  # the last product widens
  assert ("bias" in params["shortcut"]["project"]) == layer.shortcut_bias
  assert {name for name in params if name.endswith("_scale")} == (
    {"attention_scale", "feed_forward_scale"} if layer.layer_scale else set()
  )


def test_width_from_the_input_needs_a_head_size_that_divides_it():
  with pytest.raises(ValueError, match="width is 6, but must be a multiple of head_size = 4"):
    initialise(layers.TransformerBlock(12, head_size=4, width_from="input"), image(1, 3, 3, 6), train=False)


CONVNEXTS = [
  ({}, (2, 5, 9, 8)),
  ({"stride": 2}, (2, 9, 5, 4)),  # two filters for each channel
  ({"stride": 2, "stride_at": "pool", "use_bias": False, "layer_scale": 0.0, "pool": "max"}, (2, 5, 6, 4)),
]


@pytest.mark.parametrize("fields, shape", CONVNEXTS)
def test_convnext_block_equals_its_equation(fields, shape):
  layer = layers.ConvNeXtBlock(8, **fields)
  params = check(layer, by_hand.convnext_block, image(*shape))["params"]
  assert ("scale" in params) == bool(layer.layer_scale)
  assert ("bias" in params["depthwise"]) == layer.use_bias


def test_a_scale_of_zero_leaves_the_way_around_the_block():
  x = image(2, 5, 6, 8)
  for layer in (layers.ConvNeXtBlock(8), layers.TransformerBlock(8, head_size=4, layer_scale=1e-6)):
    variables = initialise(layer, x, train=False)
    silent = jax.tree_util.tree_map_with_path(
      lambda path, a: a * 0 if any(str(part.key).endswith("scale") for part in path[1:-1]) else a, variables
    )
    np.testing.assert_array_equal(apply(layer, silent, x, train=False), x)


@pytest.mark.parametrize("initial", [1e-6, 0.25])
def test_layer_scale_starts_as_told_and_multiplies_channels(initial):
  x = image(2, 3, 5)
  layer = layers.LayerScale(initial)
  variables = layer.init(jax.random.key(0), x)
  np.testing.assert_array_equal(variables["params"]["scale"], np.full(5, initial, np.float32))
  scale = jnp.arange(5.0)
  np.testing.assert_array_equal(layer.apply({"params": {"scale": scale}}, x), x * scale[None, None])


@pytest.mark.parametrize("stride, width, size, bias", [(1, 12, 3, True), (2, 6, 7, False), (2, None, 2, True)])
def test_a_depthwise_convolution_widens_and_shifts(stride, width, size, bias):
  x = image(2, 5, 7, 6)
  layer = layers.DepthwiseConv(size, stride, width, bias)
  variables = initialise(layer, x)
  assert set(variables["params"]) == ({"kernel", "bias"} if bias else {"kernel"})
  if size % 2:
    expected = by_hand.depthwise(x, variables["params"], stride)
  else:  # padded at the end
    expected = ops.depthwise_conv_grouped(x, variables["params"]["kernel"], stride=stride)
    expected = expected + variables["params"]["bias"][None, None, None]
  np.testing.assert_allclose(apply(layer, variables, x), expected, atol=1e-5)


def test_an_output_channel_sees_the_input_channel_of_its_group():
  x = image(1, 3, 3, 4)
  layer = layers.DepthwiseConv(width=12)
  variables = initialise(layer, x)
  seen = jax.jit(jax.jacobian(lambda x: layer.apply(variables, x)[0, 1, 1]))(x)[:, 0].any((1, 2))  # [out, in]
  np.testing.assert_array_equal(seen, np.repeat(np.eye(4, dtype=bool), 3, axis=0))
  with pytest.raises(ValueError, match="width is 6, but must be a multiple of the input's 4 channels"):
    initialise(layers.DepthwiseConv(width=6), x)


@pytest.mark.parametrize("activation", ["relu", "silu", "gelu"])
def test_squeeze_excite_equals_its_equation(activation):
  x = image(3, 5, 4, 6)
  layer = layers.SqueezeExcite(4, activation)
  variables = initialise(layer, x)
  expected = by_hand.squeeze_excite(np.asarray(x), variables["params"], activation)
  np.testing.assert_allclose(apply(layer, variables, x), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["tanh", "plain", "norm_first"])
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_classifier_equals_its_equation(kind, norm):
  x = image(2, 3, 5, 6)
  layer = layers.Classifier(4, kind, norm, 1e-3)
  variables = initialise(layer, x, train=False)
  p, statistics = variables["params"], variables.get("batch_stats", {}).get("norm")
  assert (statistics is not None) == (norm == "batch")
  assert ("hidden" in p) == (kind == "tanh")
  if kind == "norm_first":
    y = by_hand.norm(x, p["norm"], statistics, 1e-3).mean((1, 2))
  else:
    y = by_hand.norm(np.asarray(x).mean((1, 2)), p["norm"], statistics, 1e-3)
  y = np.tanh(by_hand.dense(y, p["hidden"])) if kind == "tanh" else y
  np.testing.assert_allclose(apply(layer, variables, x, train=False), by_hand.dense(y, p["logits"]), atol=1e-5)


def test_a_shortcut_without_bias():
  x = image(2, 3, 5, 4)
  layer = layers.Shortcut(6, stride=2, pool="max3x3", use_bias=False)
  variables = initialise(layer, x)
  assert set(variables["params"]["project"]) == {"kernel"}
  expected = by_hand.shortcut(x, {"shortcut": variables["params"]}, "max3x3", 2)
  np.testing.assert_allclose(apply(layer, variables, x), expected, atol=1e-5)


@pytest.mark.parametrize(
  "layer, message",
  [
    (layers.ConvNeXtBlock(6, stride_at="expand"), "stride_at is 'expand', but must be one of 'depthwise', 'pool'"),
    (layers.ConvNeXtBlock(9), "width is 9, but must be a multiple of the input's 6 channels"),
  ],
)
def test_a_wrong_variant_is_named(layer, message):
  with pytest.raises(ValueError, match=message):
    initialise(layer, image(1, 3, 3, 6), train=False)
