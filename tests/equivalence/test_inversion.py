"""Back from attention to a convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_lax import apply, convolution, difference, draw, with_alpha

from convattn.equivalence import MODES, QuadraticAttention, attention_to_conv, conv_to_attention
from convattn.layers import LayerNorm, RelativeAttention


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("window", [(3, 3), (2, 4), (5,)])
def test_there_and_back(mode, window):
  kernel, bias = draw(*window, 2, 6), draw(6)
  options = {"padding": "EDGE", "strides": 2, "dilation": 3}
  layer, variables = conv_to_attention(kernel, bias, **options, **with_alpha(mode, np.float32))
  again, offset, residual = attention_to_conv(layer, variables)
  assert difference(again, kernel) < 1e-6
  np.testing.assert_array_equal(offset, bias)
  assert residual < 1e-8
  assert residual == 0 or mode == "quadratic"
  layer, variables = conv_to_attention(kernel, **options, **with_alpha(mode, np.float32))
  assert attention_to_conv(layer, variables)[1] is None


def test_any_table_is_a_convolution():
  # Trained, not constructed: weights on every tap.
  layer, variables = conv_to_attention(draw(3, 2, 2, 3), draw(3), padding="CIRCULAR", mode="table", strides=(1, 2))
  table, x = 2 * draw(*variables["params"]["table"].shape), draw(2, 5, 4, 2)
  variables = {"params": variables["params"] | {"table": table}}
  kernel, bias, residual = attention_to_conv(layer, variables)
  assert residual == 0
  expected = convolution(x, kernel, bias, padding="CIRCULAR", strides=(1, 2))
  assert difference(apply(layer, variables, x), expected) < 1e-5


def response(layer, variables, size):
  """What every pixel of a large image sends to the middle output: [size, size, c, o]."""
  x = jnp.zeros((1, size, size, variables["params"]["value"].shape[1]))
  seen = jax.jit(jax.jacobian(lambda x: layer.apply(variables, x)[0, size // 2, size // 2]))(x)
  return np.moveaxis(np.array(seen)[:, 0], 0, -1)


@pytest.mark.parametrize("dilation", [1, 2])
def test_wide_heads_leave_a_residual(dilation):
  with jax.enable_x64(True):
    kernel = draw(3, 2, 2, 3, dtype=np.float64)
    layer, variables = conv_to_attention(kernel, padding="SAME", mode="quadratic", alpha=1.0, dilation=dilation)
    moved = {
      "shifts": variables["params"]["shifts"] + 0.3,
      "alpha": variables["params"]["alpha"] * np.array([1, 0.7, 2] * 2),
    }
    variables = {"params": variables["params"] | moved}
    found, _, residual = attention_to_conv(layer, variables)
    whole = response(layer, variables, 25)
    window = tuple(12 + np.arange(n) * dilation - (n - 1) * dilation // 2 for n in (3, 2))
    np.testing.assert_allclose(found, whole[np.ix_(*window)], atol=1e-12)
    whole_norm = np.linalg.norm(whole)
    whole[np.ix_(*window)] = 0
    assert residual == pytest.approx(np.linalg.norm(whole) / whole_norm, rel=1e-9)
    assert residual > 0.1


def test_the_residual_is_the_error_on_white_noise():
  kernel, x = draw(3, 3, 2, 3), draw(4, 40, 40, 2)
  layer, variables = conv_to_attention(kernel, padding="SAME", mode="quadratic", alpha=1.5)
  nearest, _, residual = attention_to_conv(layer, variables)

  def apart(other):
    inner = np.s_[:, 5:-5, 5:-5]
    ours, theirs = (np.asarray(a)[inner] for a in (apply(layer, variables, x), convolution(x, other, padding="SAME")))
    return np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(ours**2))

  assert apart(nearest) == pytest.approx(residual, rel=0.05)
  assert apart(kernel) > 1.5 * residual  # the kernel it was made from is not the nearest


def relative(relative="pre", content=False, **fields):
  layer = RelativeAttention(num_heads=2, relative=relative, param_dtype=jnp.float64, dtype=jnp.float64, **fields)
  x = draw(1, 3, 4, 4, dtype=np.float64)
  params = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
  params = jax.tree.map(lambda a: draw(*a.shape, dtype=np.float64, seed=a.size), params)
  if not content:
    params["key"]["kernel"] = jnp.zeros_like(params["key"]["kernel"])
  return layer, params, x


@pytest.mark.parametrize("kind", [pytest.param("post", marks=pytest.mark.slow), "none"])
def test_relative_attention_without_content_is_a_convolution_of_the_whole_grid(kind):
  with jax.enable_x64(True):
    layer, params, x = relative(kind)
    grid = None if kind == "post" else (3, 4)
    if kind == "post":  # rows that do not sum to one let the value's bias through unevenly
      kernel, bias, residual = attention_to_conv(layer, {"params": params})
      uneven = np.linalg.norm(layer.apply({"params": params}, 0 * x) - bias[None, None, None])
      whole = np.linalg.norm(jax.jacobian(lambda x: layer.apply({"params": params}, x))(x))
      assert residual == pytest.approx(uneven / whole) and residual > 0.01
      params["value"]["bias"] = jnp.zeros_like(params["value"]["bias"])
    kernel, bias, residual = attention_to_conv(layer, {"params": params}, grid=grid)
    assert kernel.shape == (5, 7, 4, 4)
    assert residual < 1e-7
    assert difference(apply(layer, {"params": params}, x), convolution(x, kernel, bias, padding="SAME")) < 1e-12


def test_the_residual_of_relative_attention_is_what_its_borders_cost():
  with jax.enable_x64(True):
    layer, params, x = relative()
    kernel, bias, residual = attention_to_conv(layer, {"params": params})

    def apart(x, kernel):
      ours = layer.apply({"params": params}, x)
      return ours - convolution(x, kernel, bias, padding="SAME"), ours

    # Both are affine: white noise gives the norm of their derivatives.
    derivatives = jax.jit(jax.jacobian(apart))
    lost, whole = (np.linalg.norm(each) for each in derivatives(x, kernel))
    assert residual == pytest.approx(lost / whole, rel=1e-9)
    assert 0.05 < residual < 1
    for step in (0.01, -0.01):
      nearby = kernel + step * draw(*kernel.shape, dtype=np.float64)
      assert np.linalg.norm(derivatives(x, nearby)[0]) > lost
    # Heads on the pixel itself miss nothing beyond the border.
    params["bias_table"] = jnp.full((2, 5, 7), -jnp.inf).at[:, 2, 3].set(0)
    kernel, bias, residual = attention_to_conv(layer, {"params": params})
    assert residual < 1e-12
    assert difference(apply(layer, {"params": params}, x), convolution(x, kernel, bias, padding="SAME")) < 1e-12


def test_layers_without_a_convolution_are_refused():
  with jax.enable_x64(True):
    refuse()


def refuse():
  layer, params, _ = relative(content=True)
  with pytest.raises(ValueError, match=r"depend on content: the largest entry of the key kernel is \d.*must be 0"):
    attention_to_conv(layer, {"params": params})
  layer, params, _ = relative("none")
  with pytest.raises(ValueError, match=r"grid is None, but .* give \(height, width\)"):
    attention_to_conv(layer, {"params": params})
  layer, params, _ = relative()
  with pytest.raises(ValueError, match=r"grid is \(5, 5\), but the layer's bias table belongs to \(3, 4\)"):
    attention_to_conv(layer, {"params": params}, grid=(5, 5))
  with pytest.raises(TypeError, match="layer is a LayerNorm, but must be a QuadraticAttention, TableAttention or"):
    attention_to_conv(LayerNorm(), {"params": {}})
  layer, variables = conv_to_attention(draw(3, 2, 2), padding="SAME", mode="quadratic", alpha=2.0)
  assert isinstance(layer, QuadraticAttention)
  with pytest.raises(ValueError, match=r"alpha has the value -2.0, but must be positive"):
    attention_to_conv(layer, {"params": variables["params"] | {"alpha": -variables["params"]["alpha"]}})
