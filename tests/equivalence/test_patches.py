"""Convolutions over pixels by attention over patches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_lax import convolution, difference, draw

from convattn.equivalence import patch_conv_to_attention, to_patches, to_pixels


@pytest.mark.parametrize(
  "window, patch, heads",
  [((5, 5), 4, 9), ((9, 3), 4, 9), ((7, 7), 2, 25), ((1, 1), 3, 1), ((2, 4), 2, 6), ((3, 3), 1, 9), ((4,), 2, 3)],
)
@pytest.mark.parametrize("padding", ["SAME", "CIRCULAR"])
def test_patches_compute_the_convolution_of_their_pixels(window, patch, heads, padding):
  with jax.enable_x64(True):
    image = tuple(patch * n for n in (3, 2))[: len(window)]
    kernel, bias = draw(*window, 2, 3, dtype=np.float64), draw(3, dtype=np.float64)
    x = draw(2, *image, 2, dtype=np.float64)
    layer, variables = patch_conv_to_attention(kernel, bias, patch=patch, padding=padding, mode="table")
    assert layer.num_heads == heads
    found = jax.jit(lambda x: to_pixels(layer.apply(variables, to_patches(x, patch)), patch))(x)
    assert difference(found, convolution(x, kernel, bias, padding=padding)) < 1e-12


def test_odd_windows_up_to_twice_the_patch_take_nine_heads():
  for patch in (2, 3, 4):
    for taps in (3, 2 * patch - 1, 2 * patch + 1, 2 * patch + 3):
      layer, _ = patch_conv_to_attention(draw(taps, taps, 1, 1), patch=patch, padding="SAME", mode="table")
      assert layer.num_heads == (2 * -(-(taps - 1) // (2 * patch)) + 1) ** 2
      assert (layer.num_heads == 9) == (taps <= 2 * patch + 1)


@pytest.mark.parametrize("shape", [(2, 6, 9, 2), (2, 6, 2)])
def test_patches_and_pixels_are_the_same_numbers(shape):
  x = jnp.arange(np.prod(shape)).reshape(shape)
  patches = to_patches(x, 3)
  np.testing.assert_array_equal(to_pixels(patches, 3), x)
  np.testing.assert_array_equal(
    patches[1, 1, 2] if len(shape) == 4 else patches[1, 1], (x[1, 3:6, 6:9] if len(shape) == 4 else x[1, 3:6]).ravel()
  )


def test_what_patches_cannot_do_is_refused():
  kernel = draw(3, 3, 2, 4)
  arguments = {"patch": 2, "padding": "SAME", "mode": "table"}
  for padding in ("EDGE", "VALID"):
    with pytest.raises(ValueError, match=f"padding is '{padding}', but patches allow 'SAME' and 'CIRCULAR' alone"):
      patch_conv_to_attention(kernel, **arguments | {"padding": padding})
  for patch in (0, 1.5, True):
    with pytest.raises(ValueError, match=f"patch is {patch}, but must be a positive integer"):
      patch_conv_to_attention(kernel, **arguments | {"patch": patch})
  with pytest.raises(ValueError, match=r"bias has shape \(8,\), but the kernel \(3, 3, 2, 4\) needs \(4,\)"):
    patch_conv_to_attention(kernel, jnp.zeros(8), **arguments)
  with pytest.raises(ValueError, match=r"kernel has shape \(3, 3\)"):
    patch_conv_to_attention(kernel[..., 0, 0], **arguments)
  layer, variables = patch_conv_to_attention(kernel, **arguments)
  with pytest.raises(ValueError, match="x has 16 channels, but the layer has 1 groups of 8"):
    layer.apply(variables, to_patches(draw(1, 4, 4, 4), 2))  # a depthwise image
  with pytest.raises(ValueError, match=r"images have shape \(1, 4, 5, 2\), but must be .* in multiples of 2"):
    to_patches(draw(1, 4, 5, 2), 2)
  with pytest.raises(ValueError, match=r"patches have shape \(1, 2, 2, 6\), but .* hold 4 pixels each"):
    to_pixels(draw(1, 2, 2, 6), 2)
