"""The convolution that a construction has to equal, by XLA."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

ALPHA = {np.float32: 20.0, np.float64: 46.0}
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}
FILL = {"EDGE": "edge", "CIRCULAR": "wrap"}


@functools.partial(jax.jit, static_argnames=("padding", "strides", "dilation", "groups"))
def convolution(x, kernel, bias=None, *, padding, strides=1, dilation=1, groups=1):
  axes = kernel.ndim - 2
  strides, dilation = ((each,) * axes if isinstance(each, int) else each for each in (strides, dilation))
  if padding in FILL:
    reach = [(taps - 1) * step + 1 for taps, step in zip(kernel.shape, dilation, strict=False)]
    amounts = jax.lax.padtype_to_pads(x.shape[1:-1], reach, strides, "SAME")
    x, padding = jnp.pad(x, [(0, 0), *amounts, (0, 0)], mode=FILL[padding]), "VALID"
  numbers = ("NHWC", "HWIO", "NHWC") if axes == 2 else ("NWC", "WIO", "NWC")
  options = {"dimension_numbers": numbers, "feature_group_count": groups, "precision": "highest"}
  out = jax.lax.conv_general_dilated(x, kernel, strides, padding, rhs_dilation=dilation, **options)
  return out if bias is None else out + bias.reshape((1,) * (axes + 1) + bias.shape)


def draw(*shape, dtype=np.float32, seed=0):
  return jnp.asarray(np.random.default_rng((seed, *shape)).standard_normal(shape), dtype)


@functools.partial(jax.jit, static_argnums=0)
def apply(layer, variables, x):
  """One program for each layer and shape; eager operations would have one each."""
  return layer.apply(variables, x)


def with_alpha(mode, dtype):
  """The keywords of a mode that make it exact in this dtype."""
  return {"mode": mode, "alpha": ALPHA[dtype]} if mode == "quadratic" else {"mode": mode}


def difference(found, expected):
  """The largest one, as a share of the largest output."""
  found, expected = np.asarray(found), np.asarray(expected)
  assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
  assert np.abs(expected).max() > 0.1
  return float(np.abs(found - expected).max() / np.abs(expected).max())
