"""What each layer computes, against the equation in its docstring."""

import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import layers, ops

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from by_hand import apply, dense, gelu, image, initialise, norm


@pytest.mark.parametrize("stride_at, kind", [("expand", "batch"), ("depthwise", "batch"), ("expand", "layer")])
def test_mbconv_equals_its_equation(stride_at, kind):
  x = image(2, 5, 6, 8)
  layer = layers.MBConv(12, stride=2, stride_at=stride_at, norm=kind)
  v = initialise(layer, x, train=False)
  p = v["params"]
  s = v.get("batch_stats", {"pre_norm": None, "expand_norm": None, "depthwise_norm": None})
  assert ("batch_stats" in v) == (kind == "batch")
  y = norm(x, p["pre_norm"], s["pre_norm"], 1e-5)
  y = y[:, ::2, ::2] if stride_at == "expand" else y
  y = gelu(norm(dense(y, p["expand"]), p["expand_norm"], s["expand_norm"], 1e-5))
  y = ops.depthwise_conv_grouped(y, p["depthwise"]["kernel"], stride=1 if stride_at == "expand" else 2)
  y = gelu(norm(y, p["depthwise_norm"], s["depthwise_norm"], 1e-5))
  gate = dense(jax.nn.silu(dense(y.mean((1, 2)), p["squeeze_excite"]["reduce"])), p["squeeze_excite"]["expand"])
  y = dense(y * jax.nn.sigmoid(gate)[:, None, None], p["project"])
  expected = dense(ops.max_pool(x, window=2, stride=2), p["shortcut"]["project"]) + y
  np.testing.assert_allclose(apply(layer, v, x, train=False), expected, rtol=1e-4, atol=1e-4)
  assert p["squeeze_excite"]["reduce"]["kernel"].shape == (48, 3)  # 4 and 1/4 of the output's 12 channels


def test_transformer_block_equals_its_equation():
  x = image(2, 5, 6, 8)
  layer = layers.TransformerBlock(12, stride=2, head_size=4)
  v = initialise(layer, x, train=False)
  p, pooled = v["params"], functools.partial(ops.max_pool, window=2, stride=2)
  y = pooled(norm(x, p["attention_norm"], None, 1e-6))  # norm first, then pool
  y = apply(layers.RelativeAttention(3, 12), {"params": p["attention"]}, y)
  y = dense(pooled(x), p["shortcut"]["project"]) + y
  z = norm(np.asarray(y), p["feed_forward_norm"], None, 1e-6)
  z = dense(gelu(dense(z, p["feed_forward"]["expand"])), p["feed_forward"]["project"])
  np.testing.assert_allclose(apply(layer, v, x, train=False), y + z, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("relative", ["pre", "post", "none"])
def test_attention_equals_its_equation(relative):
  x = image(2, 3, 4, 6)
  layer = layers.RelativeAttention(2, relative=relative)
  v = initialise(layer, x)
  p = v["params"]
  assert ("bias_table" in p) == (relative != "none")
  query, key, value = (
    np.einsum("bhwc,cnd->bnhwd", x, p[part]["kernel"]).reshape(2, 2, 12, 3) + np.asarray(p[part]["bias"])[None, :, None]
    for part in ("query", "key", "value")
  )
  logits = query @ np.swapaxes(key, -1, -2) / np.sqrt(3)
  bias = ops.relative_bias_gather(p["bias_table"])[None] if relative != "none" else 0
  weights = jax.nn.softmax(logits + bias if relative == "pre" else logits)
  weights = weights + bias if relative == "post" else weights
  out = np.einsum("bnqd,ndc->bqc", weights @ value, p["out"]["kernel"]) + np.asarray(p["out"]["bias"])
  ours, seen = apply(layer, v, x, mutable=["intermediates"])
  np.testing.assert_allclose(ours, out.reshape(2, 3, 4, 6), rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(seen["intermediates"]["attention"][0], weights, atol=1e-5)


def test_a_wrong_grid_names_both_and_the_way_out():
  layer = layers.RelativeAttention(2)
  v = initialise(layer, image(2, 3, 4, 6))
  with pytest.raises(
    ValueError, match=r"grid of 4x4, but the bias table \(2, 5, 7\) belongs to 3x4.*pretrained\.resize"
  ):
    apply(layer, v, image(2, 4, 4, 6))


@pytest.mark.parametrize(
  "layer, message",
  [
    (layers.RelativeAttention(4), "width is 6, but must be a multiple of num_heads = 4"),
    (layers.RelativeAttention(2, relative="both"), "relative is 'both', but must be one of"),
    (layers.TransformerBlock(10, head_size=4), "width is 10, but must be a multiple of head_size = 4"),
    (layers.StochasticDepth(1.0), "rate is 1.0, but must be at least 0 and less than 1"),
  ],
)
def test_a_wrong_field_is_named(layer, message):
  keywords = {} if isinstance(layer, layers.RelativeAttention) else {"train": False}
  with pytest.raises(ValueError, match=message):
    layer.init(jax.random.key(0), image(1, 3, 3, 6), **keywords)


def test_stochastic_depth_drops_whole_samples_and_keeps_the_mean():
  x = jnp.ones((2000, 3, 2))
  out = np.asarray(layers.StochasticDepth(0.25).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)}))
  kept = out[:, 0, 0] > 0
  np.testing.assert_allclose(out, np.where(kept[:, None, None], 1 / 0.75, 0) * np.ones_like(out), rtol=1e-6)
  assert abs(out.mean() - 1) < 4 * np.sqrt(0.25 / 0.75 / 2000)  # four standard deviations
  np.testing.assert_array_equal(layers.StochasticDepth(0.25).apply({}, x, train=False), x)
  np.testing.assert_array_equal(layers.StochasticDepth(0.0).apply({}, x, train=True), x)


@pytest.mark.parametrize(
  "layer", [layers.MBConv(4, stochastic_depth=0.5), layers.ConvNeXtBlock(4, stochastic_depth=0.5)]
)
def test_a_convolution_block_drops_its_branch_and_never_the_way_around(layer):
  x = image(16, 1, 2, 4)
  v = initialise(layer, x, train=False)
  step = jax.jit(lambda key: layer.apply(v, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"])[0])
  branch = np.asarray(step(jax.random.key(0)) - x)
  dropped = (branch == 0).all((1, 2, 3))
  assert 0 < dropped.sum() < 16
  whole = layer.clone(stochastic_depth=0.0).apply(v, x, train=True, mutable=["batch_stats"])[0] - x
  np.testing.assert_allclose(branch[~dropped], 2 * np.asarray(whole)[~dropped], atol=1e-5)


def test_the_two_branches_of_a_block_are_dropped_independently():
  layer = layers.TransformerBlock(4, head_size=4, stochastic_depth=0.5)
  x = image(64, 1, 1, 4)
  v = initialise(layer, x, train=False)
  v["params"]["feed_forward"]["project"]["kernel"] *= 0
  v["params"]["feed_forward"]["project"]["bias"] = jnp.full((4,), 1000.0)  # the second branch shows as +2000
  out = apply(layer, v, x, train=True, rngs={"dropout": jax.random.key(0)})
  second = np.asarray(out[:, 0, 0, 0] > 1000)
  first = np.abs(np.asarray(out - x)[:, 0, 0, 0] - 2000 * second) > 1e-2
  assert {(a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)} == {
    (i, j) for i in (False, True) for j in (False, True)
  }


def test_batch_norm_standardises_and_remembers():
  x = image(3, 5, 4, 2) * 3 + 7
  layer = layers.BatchNorm(momentum=0.9)
  v = layer.init(jax.random.key(0), x, train=True)
  np.testing.assert_array_equal(v["batch_stats"]["mean"], np.zeros(2))  # init does not count as a step
  out, updated = apply(layer, v, x, train=True, mutable=["batch_stats"])
  np.testing.assert_allclose(out.mean((0, 1, 2)), np.zeros(2), atol=1e-5)
  np.testing.assert_allclose(out.var((0, 1, 2)), np.ones(2), rtol=1e-4)
  np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.1 * x.mean((0, 1, 2)), rtol=1e-5)
  np.testing.assert_allclose(updated["batch_stats"]["var"], 0.9 + 0.1 * x.var((0, 1, 2)), rtol=1e-5)


def test_norm_statistics_are_float32_under_bfloat16():
  x = (image(8, 9, 9, 4) + 64).astype(jnp.bfloat16)
  for layer in (layers.BatchNorm(dtype=jnp.bfloat16), layers.LayerNorm(dtype=jnp.bfloat16)):
    v = layer.init(jax.random.key(0), x, train=False)
    out, _ = apply(layer, v, x, train=True, mutable=["batch_stats"])
    exact = type(layer)().apply(v, x.astype(jnp.float32), train=True, mutable=["batch_stats"])[0]
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(np.float32), exact, atol=2**-7)


def test_classifier_without_classes_is_the_pooled_image():
  x = image(2, 3, 4, 6)
  layer = layers.Classifier(0, "plain")
  v = initialise(layer, x, train=False)
  np.testing.assert_allclose(
    apply(layer, v, x, train=False), norm(np.asarray(x.mean((1, 2))), v["params"]["norm"], None, 1e-6), atol=1e-5
  )
  assert set(initialise(layers.Classifier(5, "tanh"), x, train=False)["params"]) == {"norm", "hidden", "logits"}
