"""The convolutions in one calling convention, each against NumPy."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import layers

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import by_hand
from by_hand import apply, image, initialise, sigmoid

B, H, W, C = 2, 3, 5, 4
X = image(B, H, W, C)


def relu(x, limit=np.inf):
  return np.clip(x, 0, limit)


def norm(x, variables, *path):
  p, statistics = variables["params"], variables["batch_stats"]
  for part in path:
    p, statistics = p[part], statistics[part]
  return by_hand.norm(x, p, statistics, 1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", layers.CONVOLUTIONS)
def test_every_convolution_has_one_calling_convention(name, stride):
  """A block swaps one for another by data."""
  layer = layers.CONVOLUTIONS[name](width=8, stride=stride, dtype=jnp.bfloat16, param_dtype=jnp.float32)

  def outputs(x):
    variables = layer.init(jax.random.key(0), x, train=False)
    return apply(layer, variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(1)})[0]

  out = jax.eval_shape(outputs, X)
  assert (out.shape, out.dtype) == ((B, -(-H // stride), -(-W // stride), 8), jnp.bfloat16)


@pytest.mark.parametrize("stride", [1, 2])
def test_separable_is_depthwise_then_pointwise(stride):
  layer = layers.SeparableConv(6, stride=stride)
  variables = initialise(layer, X, train=False)
  p = variables["params"]
  hidden = relu(norm(by_hand.depthwise(X, p["depthwise"]["depthwise"], stride), variables, "depthwise", "norm"))
  wanted = relu(norm(hidden @ p["pointwise"]["conv"]["kernel"][0, 0], variables, "pointwise", "norm"))
  out = apply(layer, variables, X, train=False)
  np.testing.assert_allclose(out, wanted, atol=2e-5)
  parts = {k: {c: v[k] for c, v in variables.items()} for k in ("depthwise", "pointwise")}
  hidden = apply(layers.DepthwiseBlock(stride=stride), parts["depthwise"], X, train=False)
  np.testing.assert_array_equal(apply(layers.ConvBlock(6, 1), parts["pointwise"], hidden, train=False), out)


def test_separable_without_norm_between_is_a_dense_convolution_of_rank_one():
  """kernel[i, j, c, o] = depthwise[i, j, c] pointwise[c, o]; it has k^2 c + c o weights."""
  depthwise, pointwise = image(3, 3, 1, C, seed=1), image(1, 1, C, 6, seed=2)
  hidden = apply(layers.DepthwiseConv(), {"params": {"kernel": depthwise}}, X)
  apart = apply(layers.Conv(6, 1), {"params": {"kernel": pointwise}}, hidden)
  joined = apply(layers.Conv(6), {"params": {"kernel": depthwise[:, :, 0, :, None] * pointwise}}, X)
  np.testing.assert_allclose(apart, joined, atol=2e-5)


def test_the_width_multiplier_thins_the_output():
  for multiplier, width in ((0.5, 6), (0.3, 3), (0.01, 1)):
    layer = layers.SeparableConv(12, width_multiplier=multiplier)
    assert (
      jax.eval_shape(lambda layer=layer: layer.init_with_output(jax.random.key(0), X, train=False))[0].shape[-1]
      == width
    )


@pytest.mark.parametrize(("width", "stride", "expansion"), [(4, 1, 3), (4, 2, 3), (5, 1, 3), (4, 1, 1)])
def test_inverted_residual_equals_its_equation(width, stride, expansion):
  layer = layers.InvertedResidual(width, stride=stride, expansion=expansion)
  x = 3 * X  # some beyond 6
  variables = initialise(layer, x, train=False)
  p = variables["params"]
  y = np.asarray(x)
  if expansion > 1:
    y = relu(norm(y @ p["expand"]["kernel"], variables, "expand_norm"), 6)
  y = relu(norm(by_hand.depthwise(y, p["depthwise"], stride), variables, "depthwise_norm"), 6)
  y = norm(y @ p["project"]["kernel"], variables, "project_norm")
  shortcut = np.asarray(x) if (width, stride) == (C, 1) else 0
  assert y.min() < 0  # linear at the end
  np.testing.assert_allclose(apply(layer, variables, x, train=False), y + shortcut, atol=5e-5)


def test_dense_and_depthwise_blocks_equal_their_equations():
  layer = layers.DepthwiseBlock(8, stride=2)
  variables = initialise(layer, X, train=False)
  wanted = relu(norm(by_hand.depthwise(X, variables["params"]["depthwise"], 2), variables, "norm"))
  np.testing.assert_allclose(apply(layer, variables, X, train=False), wanted, atol=2e-5)
  layer = layers.ConvBlock(6)
  variables = initialise(layer, X, train=False)
  padded = np.pad(X, [(0, 0), (1, 1), (1, 1), (0, 0)])
  kernel = np.asarray(variables["params"]["conv"]["kernel"])
  taps = sum(padded[:, i : i + H, j : j + W] @ kernel[i, j] for i, j in np.ndindex(3, 3))
  np.testing.assert_allclose(apply(layer, variables, X, train=False), relu(norm(taps, variables, "norm")), atol=2e-5)


def test_the_fully_connected_layer_is_one_matrix_and_holds_every_convolution():
  layer = layers.FullyConnected(3, stride=2)
  variables = initialise(layer, X, train=False)
  p = variables["params"]
  matrix = np.asarray(p["kernel"]).reshape(H * W * C, -1)
  wanted = np.asarray(X).reshape(B, -1) @ matrix + np.asarray(p["bias"]).reshape(-1)
  np.testing.assert_allclose(apply(layer, variables, X, train=False).reshape(B, -1), wanted, atol=5e-5)
  with pytest.raises(ValueError, match="the image is 3x4, but the parameters belong to 3x5"):
    apply(layer, variables, X[:, :, 1:], train=False)
  conv = layers.Conv(3, stride=2)
  taps = initialise(conv, X)
  pixels = jnp.eye(H * W * C).reshape(-1, H, W, C)
  kernel = conv.apply(taps, pixels).reshape(H, W, C, 2, 3, 3)
  same = apply(layer, {"params": {"kernel": kernel, "bias": jnp.zeros((2, 3, 3))}}, X, train=False)
  np.testing.assert_allclose(same, conv.apply(taps, X), atol=2e-5)


def causal_by_hand(x, p, dilation):
  x, kernel = np.asarray(x, np.float64), np.asarray(p["kernel"], np.float64)
  out = np.zeros((*x.shape[:3], kernel.shape[-1])) + np.asarray(p["bias"])
  for t, j in np.ndindex(x.shape[2], len(kernel)):
    place = t - (len(kernel) - 1 - j) * dilation
    if place >= 0:
      out[:, :, t] += x[:, :, place] @ kernel[j]
  return out


@pytest.mark.parametrize("stride", [1, 2])
def test_causal_convolution_of_rows(stride):
  layer = layers.CausalConv(3, taps=3, dilation=2, stride=stride)
  variables = initialise(layer, X, train=False)
  wanted = causal_by_hand(X, variables["params"], 2)[:, ::stride, ::stride]
  np.testing.assert_allclose(apply(layer, variables, X, train=False), wanted, atol=2e-5)


def test_dilated_stack_equals_its_equation():
  layer = layers.DilatedStack(3, dilations=(1, 2))
  variables = initialise(layer, X, train=False)
  p = variables["params"]
  x, skips = by_hand.dense(X, p["start"]), 0
  for i, dilation in ((1, 1), (2, 2)):
    filtered, gate = np.split(causal_by_hand(x, p[f"conv_{i}"], dilation), 2, -1)
    z = np.tanh(filtered) * sigmoid(gate)
    skips = skips + by_hand.dense(z, p[f"skip_{i}"])
    x = x + by_hand.dense(z, p["residual_1"])
  np.testing.assert_allclose(apply(layer, variables, X, train=False), skips, atol=2e-5)


@pytest.mark.parametrize(("dilations", "taps"), [((1, 2, 4), 2), ((1, 3), 3)])
def test_the_receptive_field_of_a_dilated_stack(dilations, taps):
  """1 + (taps - 1) sum(dilations) pixels, itself the last, all of them, and its own row only."""
  field = 1 + (taps - 1) * sum(dilations)
  layer = layers.DilatedStack(2, dilations, taps)
  x = image(1, 2, field + 3, 2)
  variables = initialise(layer, x, train=False)
  at = field + 1
  gradient = jax.grad(lambda x: jnp.sum(apply(layer, variables, x, train=False)[0, 0, at]))(x)
  seen = np.abs(gradient[0]).max(-1) > 0
  wanted = np.zeros((2, field + 3), bool)
  wanted[0, at - field + 1 : at + 1] = True
  np.testing.assert_array_equal(seen, wanted)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_causal_block_equals_its_equation(stride):
  layer = layers.CausalBlock(3, stride, depth=3, taps=2, norm="layer", pool="avg")
  variables = initialise(layer, X, train=False)
  p = variables["params"]
  normed = jnp.asarray(by_hand.norm(X, p["norm"], None, 1e-5), jnp.float32)
  stack = apply(layers.DilatedStack(3, (1, 2, 4), 2, stride), {"params": p["stack"]}, normed, train=False)
  wanted = by_hand.shortcut(X, p, "avg", stride) + stack
  np.testing.assert_allclose(apply(layer, variables, X, train=False), wanted, atol=2e-5)


def test_a_depthwise_block_refuses_other_widths():
  with pytest.raises(ValueError, match="width is 6, but must be a multiple of the input's 4 channels"):
    initialise(layers.DepthwiseBlock(6), X, train=False)
