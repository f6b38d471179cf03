"""Weights for colours on images of other numbers of channels, by timm's rule, written out here for each number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convattn
from convattn.errors import UserError
from convattn.pretrained import adapt_channels
from convattn.training import sha256


@pytest.fixture(scope="module")
def trained():
  """A model for colours, its variables, and an average of them in float32 and one in float64."""
  model = convattn.create_model("coatnet_mini_8", num_classes=3, stem_bias=True)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False))
  rng = np.random.default_rng(0)
  variables = jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype), shapes)
  average = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), variables["params"])
  return model, {**variables, "ema": {"params": average}, "states": (variables["params"], [3])}


def kernel(params):
  return params["stem"]["conv_1"]["kernel"]


# Which of red, green and blue each channel gets, and times what: timm 1.0, adapt_input_conv.
REPEATED = {2: ("rg", 3 / 2), 4: ("rgbr", 3 / 4), 5: ("rgbrg", 3 / 5), 6: ("rgbrgb", 3 / 6), 7: ("rgbrgbr", 3 / 7)}


@pytest.mark.parametrize("channels", [1, *REPEATED])
def test_one_channel_gets_the_sum_and_more_are_repeated_and_scaled(trained, channels):
  _, variables = trained
  adapted = adapt_channels(variables, channels)
  places = lambda tree: (tree["params"], tree["ema"]["params"], tree["states"][0])  # noqa: E731
  for before, after in zip(places(variables), places(adapted), strict=True):
    red, green, blue = np.moveaxis(np.asarray(kernel(before), np.float64), 2, 0)
    if channels == 1:
      expected = (red + green + blue)[:, :, None]
    else:
      colours, factor = REPEATED[channels]
      expected = np.stack([{"r": red, "g": green, "b": blue}[colour] * factor for colour in colours], 2)
    assert kernel(after).shape == (3, 3, channels, 32) and kernel(after).dtype == kernel(before).dtype
    exact = kernel(before).dtype == np.float64
    np.testing.assert_allclose(kernel(after), expected, rtol=1e-15 if exact else 1e-5, atol=1e-15 if exact else 1e-6)
  changed = {
    jax.tree_util.keystr(path, simple=True, separator="/")
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(variables), jax.tree.leaves(adapted), strict=True)
    if a is not b
  }
  assert changed == {f"{above}/stem/conv_1/kernel" for above in ("params", "ema/params", "states/0")}


def test_three_channels_are_left_as_they_are(trained):
  _, variables = trained
  assert all(a is b for a, b in zip(*map(jax.tree.leaves, (adapt_channels(variables, 3), variables)), strict=True))


@pytest.mark.parametrize("channels", [1, 6])
def test_grey_images_give_what_they_gave(trained, channels):
  model, variables = trained
  model_variables = {name: variables[name] for name in ("params", "batch_stats")}
  grey = jax.random.normal(jax.random.key(1), (2, 8, 8, 1))
  apply = lambda variables, images: model.apply(variables, images, method=lambda model, x: model.stem(x, train=False))  # noqa: E731
  wanted = apply(model_variables, jnp.repeat(grey, 3, -1))
  found = apply(adapt_channels(model_variables, channels), jnp.repeat(grey, channels, -1))
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def test_sixteen_bits_are_summed_in_float32(trained):
  _, variables = trained
  params = variables["params"]
  # In bfloat16, 256 + 1 is 256: only a sum in float32 keeps the ones.
  column = jnp.array([256, 1, 1], jnp.bfloat16)
  column = jnp.broadcast_to(column[None, None, :, None], (3, 3, 3, 4))
  for given in (column, np.asarray(column)):  # NumPy sums as it is told, XLA with more bits than that
    stem = {**params["stem"], "conv_1": {"kernel": given}}
    summed = kernel(adapt_channels({"params": {**params, "stem": stem}}, 1)["params"])
    assert summed.dtype == jnp.bfloat16
    assert (np.asarray(summed, np.float32) == 258).all()


def test_works_inside_jit_and_for_arrays_of_numpy(trained):
  _, variables = trained
  given = {"params": variables["params"]}
  inside = jax.jit(lambda variables: adapt_channels(variables, 4))(given)
  np.testing.assert_allclose(kernel(inside["params"]), kernel(adapt_channels(given, 4)["params"]), rtol=1e-6)
  arrays = jax.tree.map(np.asarray, given)
  assert isinstance(kernel(adapt_channels(arrays, 4)["params"]), np.ndarray)
  assert sha256(adapt_channels(arrays, 4)) == sha256(adapt_channels(given, 4))


def test_grey_weights_serve_colours_too(trained):
  _, variables = trained
  grey = adapt_channels({"params": variables["params"]}, 1)
  colours = kernel(adapt_channels(grey, 3)["params"])
  np.testing.assert_allclose(colours, np.repeat(np.asarray(kernel(grey["params"])) / 3, 3, 2), rtol=1e-6)


@pytest.mark.parametrize("channels", [0, -1, 2.0, True, "3"])
def test_what_is_no_number_of_channels_is_refused(trained, channels):
  with pytest.raises(UserError, match=f"channels is {channels!r}, but must be a whole number of at least 1"):
    adapt_channels(trained[1], channels)


def test_variables_without_a_stem_are_refused():
  with pytest.raises(UserError, match="the variables have no 'params/stem/conv_1/kernel'"):
    adapt_channels({"params": {"dense": {"kernel": np.zeros((3, 4))}}}, 1)
