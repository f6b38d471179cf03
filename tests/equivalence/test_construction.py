"""A convolution made attention computes the convolution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_lax import TOLERANCE, apply, convolution, difference, draw, with_alpha
from flax import nnx
from flax.nnx import bridge
from hypothesis import given, settings, strategies as st

from convattn.equivalence import MODES, PADDINGS, conv_to_attention


def check(window, image, channels, groups, filters, options, mode, dtype=np.float64, tolerance=None):
  """Of one construction: that it equals XLA's convolution."""
  with jax.enable_x64(dtype == np.float64):
    x, bias = draw(2, *image, channels * groups, dtype=dtype), draw(filters * groups, dtype=dtype)
    kernel = draw(*window, channels, filters * groups, dtype=dtype)
    layer, variables = conv_to_attention(kernel, bias, **options, **with_alpha(mode, dtype))
    found = apply(layer, variables, x)
    expected = convolution(x, kernel, bias, groups=groups, **options)
    assert difference(found, expected) < (tolerance or TOLERANCE[dtype])


@st.composite
def cases(draw):
  axes = draw(st.integers(1, 2))

  def each(low, high):
    return tuple(draw(st.integers(low, high)) for _ in range(axes))

  strides, dilation = each(1, 3), each(1, 2)
  padding = draw(st.sampled_from(PADDINGS))
  window = each(1, 4)
  smallest = [(taps - 1) * step + 1 if padding == "VALID" else 1 for taps, step in zip(window, dilation, strict=True)]
  image = tuple(size + draw(st.integers(0, 5)) for size in smallest)
  sizes = [draw(st.integers(1, 3)) for _ in range(3)]
  return window, image, *sizes, {"padding": padding, "strides": strides, "dilation": dilation}


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=8)
@given(case=cases())
def test_equals_the_convolution_in_float64(mode, case):
  check(*case, mode)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=40)
@given(case=cases())
def test_equals_the_convolution_of_many_shapes(mode, dtype, case):
  check(*case, mode, dtype)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("mode", MODES)
def test_equals_the_convolution_in_float32_at_every_border(mode, padding):
  # Grouped, even by odd, strides that do not divide the image, a window that reaches over the border on both sides.
  options = {"padding": padding, "strides": (2, 1), "dilation": (1, 2)}
  check((4, 3), (7, 5), 2, 3, 1, options, mode, np.float32)


@pytest.mark.parametrize("mode", MODES)
def test_amounts_of_padding_can_be_given(mode):
  amounts = ((1, 2), (0, 1))
  kernel, x = draw(3, 2, 2, 3), draw(2, 6, 5, 2)
  for name, fill in (("SAME", "constant"), ("EDGE", "edge"), ("CIRCULAR", "wrap")):
    expected = convolution(jnp.pad(x, [(0, 0), *amounts, (0, 0)], mode=fill), kernel, padding="VALID", strides=(2, 1))
    given_amounts = amounts if name == "SAME" else (name, amounts)
    layer, variables = conv_to_attention(kernel, padding=given_amounts, strides=(2, 1), **with_alpha(mode, np.float32))
    assert difference(apply(layer, variables, x), expected) < 1e-5


def made(mode="table", padding="SAME", kernel=None, image=(2, 5, 4, 3), **options):
  kernel = draw(3, 3, 3, 2) if kernel is None else kernel
  layer, variables = conv_to_attention(kernel, padding=padding, **with_alpha(mode, np.float32), **options)
  return layer, variables, kernel, draw(*image)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("mode", MODES)
def test_it_is_attention(mode, padding):
  layer, variables, _, x = made(mode, padding)
  program = str(jax.make_jaxpr(layer.apply)(variables, x))
  assert "conv_general" not in program and "dot_general" in program
  out, seen = jax.jit(functools.partial(layer.apply, mutable=["intermediates"]))(variables, x)
  (weights,) = seen["intermediates"]["attention"]
  zeros = [(0, 0), (1, 1), (1, 1), (0, 0)] if padding == "SAME" else [(0, 0)] * 4
  tokens = jnp.pad(x, zeros).reshape(2, -1, 3)
  assert weights.shape == (2, layer.num_heads, out[0, ..., 0].size, tokens.shape[1])
  assert weights.min() >= 0
  np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
  # The weights that are shown are the weights that were used.
  again = jnp.einsum("bnqk,bkc,nco->bqo", weights, tokens, variables["params"]["value"])
  np.testing.assert_allclose(again.reshape(out.shape), out, atol=2e-5)


@pytest.mark.parametrize("mode", MODES[:2])
def test_gradients_are_those_of_the_convolution(mode):
  with jax.enable_x64(True):
    x, kernel, bias = (draw(*shape, dtype=np.float64) for shape in ((2, 6, 5, 4), (3, 2, 2, 4), (4,)))
    options = {"padding": "SAME", "strides": (2, 1)}

    def of_attention(x, kernel, bias):
      layer, variables = conv_to_attention(kernel, bias, **options, **with_alpha(mode, np.float64))
      return jnp.sum(jnp.sin(layer.apply(variables, x)))

    def of_convolution(x, kernel, bias):
      return jnp.sum(jnp.sin(convolution(x, kernel, bias, groups=2, **options)))

    found = jax.jit(jax.grad(of_attention, (0, 1, 2)))(x, kernel, bias)
    expected = jax.jit(jax.grad(of_convolution, (0, 1, 2)))(x, kernel, bias)
    for ours, theirs in zip(found, expected, strict=True):
      assert difference(ours, theirs) < 1e-12
    # The parameter itself, with the construction left out of the derivative.
    layer, variables = conv_to_attention(kernel, bias, **options, **with_alpha(mode, np.float64))
    of_layer = jax.jit(jax.grad(lambda v: jnp.sum(jnp.sin(layer.apply(v, x)))))(variables)["params"]
    assert difference(of_layer["value"].reshape(kernel.shape), expected[1]) < 1e-12
    assert all(np.isfinite(each).all() for each in jax.tree.leaves(of_layer))


def test_negative_controls():
  for mode in MODES[:2]:
    layer, variables, kernel, x = made(mode)
    expected = convolution(x, kernel, padding="SAME")
    params = variables["params"]
    assert difference(apply(layer, variables, x), expected) < 1e-5
    name, turned = {
      "quadratic": ("shifts", -params.get("shifts", 0)),
      "table": ("table", params.get("table", jnp.zeros((1, 1, 1)))[:, ::-1, ::-1]),
    }[mode]
    flipped = apply(layer, {"params": params | {name: turned}}, x)
    assert difference(flipped, expected) > 0.1  # shifts the wrong way round ...
    assert difference(flipped, convolution(x, kernel[::-1, ::-1], padding="SAME")) < 1e-5  # ... are a flipped kernel
    assert difference(apply(layer.clone(padding="CIRCULAR"), variables, x), expected) > 0.1
  # The bare image has an edge and no zeros: equal in the middle only.
  bare = apply(layer.clone(padding="EDGE"), variables, x)
  assert difference(bare[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1]) < 1e-5
  assert all(np.abs(bare - expected)[:, side].max() > 0.1 for side in (0, -1))


@pytest.mark.parametrize("mode", MODES)
def test_parameters_do_not_depend_on_the_image(mode):
  layer, variables, kernel, _ = made(mode, "EDGE", strides=2)
  for size in ((1, 1), (4, 7)):
    x = draw(2, *size, 3)
    expected = convolution(x, kernel, padding="EDGE", strides=2)
    assert difference(apply(layer, variables, x), expected) < 1e-5


@pytest.mark.parametrize("mode", MODES[:2])
def test_a_layer_starts_from_drawn_parameters(mode):
  made_layer, variables, _, x = made(mode)

  @jax.jit
  def drawn_and_gradients(key):
    drawn = made_layer.init(key, x)
    return drawn, jax.grad(lambda v: jnp.sum(made_layer.apply(v, x) ** 2))(drawn)["params"]

  drawn, grads = drawn_and_gradients(jax.random.key(0))
  assert jax.tree.map(jnp.shape, drawn) == jax.tree.map(jnp.shape, variables)
  assert all(np.abs(each).max() > 0 for each in grads.values())


KERNEL = np.ones((3, 3, 2, 4), np.float32)
BAD = {
  r"kernel has shape \(3, 3, 2, 4, 1\).*\[k_h, k_w, c, o\]": {"kernel": KERNEL[..., None]},
  r"kernel has shape \(3, 3\)": {"kernel": KERNEL[..., 0, 0]},
  r"kernel has shape \(3, 0, 2, 4\).*no axis empty": {"kernel": KERNEL[:, :0]},
  r"kernel is int32.*convert": {"kernel": KERNEL.astype(np.int32)},
  r"bias has shape \(2,\), but the kernel \(3, 3, 2, 4\) needs \(4,\)": {"bias": np.ones(2, np.float32)},
  r"groups is 3, but must divide the 4 output channels": {"groups": 3},
  r"padding is 'REFLECT', but must be one of 'VALID', 'SAME', 'EDGE', 'CIRCULAR'": {"padding": "REFLECT"},
  r"padding is \(\(1, 1\),\)": {"padding": ((1, 1),)},
  r"padding is \('VALID'": {"padding": ("VALID", ((1, 1), (1, 1)))},
  r"padding is \(\(-1, 1\)": {"padding": ((-1, 1), (1, 1))},
  r"strides is 0, but must be a positive integer or one for each of the 2 axes": {"strides": 0},
  r"dilation is \(1, 2, 1\)": {"dilation": (1, 2, 1)},
  r"mode is 'soft', but must be one of 'quadratic', 'table', 'rank'": {"mode": "soft"},
  r"alpha is 5.0, but mode 'table' has none: leave it out": {"alpha": 5.0},
  r"alpha is None, but mode 'quadratic' needs a positive number": {"mode": "quadratic"},
  r"alpha is -1, but must be positive and finite": {"mode": "quadratic", "alpha": -1},
  r"alpha is inf, .*'table' is the limit": {"mode": "quadratic", "alpha": float("inf")},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_constructions_are_refused(message):
  arguments = {"kernel": KERNEL, "padding": "SAME", "mode": "table"} | BAD[message]
  with pytest.raises(ValueError, match=message):
    conv_to_attention(arguments.pop("kernel"), arguments.pop("bias", None), **arguments)


@pytest.mark.parametrize(
  "shape, options, message",
  [
    ((5, 4, 3), {}, r"x has shape \(5, 4, 3\), but a window \(3, 3\) needs \[b, h, w, c\]"),
    ((1, 5, 4, 2), {}, r"x has 2 channels, but every head sees 3"),
    ((1, 5, 4, 9), {}, r"x has 9 channels, 3 groups of 3, but their number must divide the 2 features"),
    ((1, 5, 4, 6), {"groups": 1}, r"x has 6 channels, but the layer has 1 groups of 3"),
    ((1, 5, 2, 3), {"padding": "VALID"}, r"reaches over 3 pixels \(3 taps, dilation 1\), but axis 1 .* only 2"),
  ],
)
def test_bad_images_are_refused(shape, options, message):
  layer, variables, _, _ = made(**options)
  with pytest.raises(ValueError, match=message):
    layer.apply(variables, draw(*shape))


@pytest.mark.parametrize("mode", MODES[:2])
def test_a_layer_composes(mode):
  layer, variables, _, x = made(mode)

  def loss(variables, x):
    return jnp.sum(jnp.sin(layer.apply(variables, x)))

  @jax.jit
  def everything(variables, x):
    one_by_one = jax.vmap(lambda x: layer.apply(variables, x[None])[0])(x)
    gradients = jax.grad(loss)(variables, x), jax.grad(jax.checkpoint(loss))(variables, x)
    each = jax.vmap(jax.grad(loss), (None, 0))(variables, x[:, None])["params"]["value"]
    return one_by_one, *(tree["params"]["value"] for tree in gradients), each

  one_by_one, gradient, again, each = everything(variables, x)
  np.testing.assert_allclose(one_by_one, apply(layer, variables, x), atol=1e-5)
  np.testing.assert_allclose(np.sum(each, 0), gradient, atol=1e-4)
  np.testing.assert_allclose(again, gradient, atol=1e-5)
  wrapped = bridge.lazy_init(bridge.ToNNX(layer, rngs=nnx.Rngs(0)), x)
  drawn = nnx.to_pure_dict(nnx.state(wrapped))
  drawn = {"params": {name: drawn[name] for name in variables["params"]}}
  np.testing.assert_allclose(nnx.jit(lambda module, x: module(x))(wrapped, x), apply(layer, drawn, x), atol=1e-5)


def test_a_kernel_under_jit_has_no_rank():
  with pytest.raises(ValueError, match="kernel is traced, but mode 'rank'"):
    jax.jit(lambda kernel: conv_to_attention(kernel, padding="SAME", mode="rank")[1])(KERNEL)
