"""Attention by hand for tests of the page: every kind of grid that a layer can have, on rectangular images."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn.analysis.attention_map import AttentionMap, Grid
from convattn.analysis.convolutions import convolution_kernels
from convattn.layers import Conv, DepthwiseConv
from convattn.viz import explore

IMAGE = (12, 10)
NUM_IMAGES = 3


def softmax(logits):
  weights = np.exp(logits - logits.max(-1, keepdims=True))
  return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


def of_grids(layer, queries, keys, heads, rng, key_cells=None, prefix_tokens=0, **kept):
  """A map with content, position and values; `kept` leaves fields out by None."""
  count = keys.cells if key_cells is None else key_cells.shape[1]
  shape = (NUM_IMAGES, heads, queries.cells + prefix_tokens, count + prefix_tokens)
  content = rng.normal(0, 1.5, shape).astype(np.float32)
  if key_cells is not None:
    content[:, :, key_cells < 0] = -np.inf
  position = np.broadcast_to(rng.normal(0, 1, shape[1:]), shape).astype(np.float32)
  logits = content + position
  probabilities = softmax(logits)
  norms = rng.uniform(0.1, 3, (NUM_IMAGES, heads, 1, shape[-1])).astype(np.float32)
  fields = {"logits": logits, "content": content, "position": position, "norm_weighted": probabilities * norms}
  return AttentionMap(
    layer, queries, keys, probabilities, key_cells=key_cells, prefix_tokens=prefix_tokens, **{**fields, **kept}
  )


def maps(seed=0):
  """Strided, pooled with cells cut off at the border, windows with padding, a class token, and bare probabilities."""
  rng = np.random.default_rng(seed)
  strided = Grid(6, 5, (2.0, 2.0), image=IMAGE)
  pooled = Grid(3, 3, (4.0, 4.0), image=IMAGE)
  padded = Grid(4, 4, (4.0, 4.0), (-2.0, -2.0), image=IMAGE)
  rows, columns = (each[:, None] // 2 + [[0, 0, 1, 1], [0, 1, 0, 1]][i] for i, each in enumerate(_cells(strided)))
  windows = np.where((rows < pooled.height) & (columns < pooled.width), rows * pooled.width + columns, -1)
  gated = of_grids("gated", pooled, padded, 2, rng)
  return [
    of_grids("stage_1/strided", strided, strided, 2, rng),
    of_grids("stage_2/pooled", strided, pooled, 3, rng),
    of_grids("stage_3/windows", strided, pooled, 1, rng, key_cells=windows.astype(np.int32)),
    of_grids("stage_4/class_token", pooled, pooled, 2, rng, prefix_tokens=2, position=None),
    # Two softmaxes behind one set of weights: nothing follows from anything.
    AttentionMap(
      "stage_5/gated",
      pooled,
      padded,
      softmax(gated.content) * 0.25 + softmax(gated.position) * 0.75,
      content=gated.content,
      position=gated.position,
    ),
  ]


def _cells(grid):
  return np.divmod(np.arange(grid.cells), grid.width)


def pictures(seed=0):
  return np.random.default_rng(seed).integers(0, 256, (NUM_IMAGES, *IMAGE, 3)).astype(np.uint8)


class Convolving(nn.Module):
  """An ordinary convolution that halves, and two depthwise ones, of which one halves an odd size."""

  @nn.compact
  def __call__(self, images, train=False):
    image = Conv(5, kernel_size=3, stride=2, name="stem")(images)
    image = DepthwiseConv(kernel_size=5, name="wide")(image)
    return DepthwiseConv(kernel_size=3, stride=2, name="halving")(image)


@functools.cache
def convolutions():
  images = jnp.zeros((1, *IMAGE, 3))
  return convolution_kernels(Convolving(), Convolving().init(jax.random.key(0), images), images)


def gradient(convolution, cell):
  """[rows, columns] of the input: the length, over channels, of the gradient of one output cell."""
  grid, out = convolution.key_grid, convolution.query_grid
  high, _, seen, channels = convolution.kernel.shape
  stride = -(-grid.height // out.height)
  layer = DepthwiseConv(high, stride) if convolution.depthwise else Conv(channels, high, stride)
  inputs = jnp.zeros((1, grid.height, grid.width, channels if convolution.depthwise else seen))

  def of(inputs):
    return layer.apply({"params": {"kernel": convolution.kernel}}, inputs).reshape(-1, channels)[cell]

  return np.sqrt(np.square(jax.jacobian(of)(inputs)).sum((0, 1, 4)))


def page(**options):
  chances = np.array([[0.3, 0.45, 0.25], [0.05, 0.9, 0.05], [0.2, 0.2, 0.6]])
  given = {
    "class_names": ["cat", "dog", "owl"],
    "image_names": ["one.png", "two.png", "three.png"],
    "labels": [0, 1, 2],
    "probabilities": chances,
    "convolutions": convolutions(),
    "title": "By hand",
    "lines": ["Made by hand."],
  }
  return explore(options.pop("maps", maps()), pictures(), **{**given, **options})


def settled(tab):
  """Waits until what was asked for is drawn."""
  tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def address(tab):
  """What the address bar says, once the page has written there."""
  return tab.evaluate("() => new Promise((done) => setTimeout(() => done(location.hash), 400))")
