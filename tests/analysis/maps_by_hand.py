"""Attention maps of heads whose numbers are known."""

import numpy as np

from convattn.analysis.attention_map import AttentionMap, Grid


def square(side, stride=1.0):
  return grid(side, side, stride)


def grid(height, width, stride=1.0, origin=0.0):
  strides = tuple(np.broadcast_to(stride, 2).tolist())
  image = (round(height * strides[0]), round(width * strides[1]))
  return Grid(height, width, strides, tuple(np.broadcast_to(origin, 2).tolist()), image)


def middle(side, margin):
  """The cells of a square grid of that side away from its border, as queries that see all of it."""
  inner = side - 2 * margin
  return Grid(inner, inner, (1.0, 1.0), (float(margin), float(margin)), (side, side))


def layer(heads, queries, keys=None, images=1, **fields):
  """A map of heads [h, q, k], the same for every image, or of [b, h, q, k]."""
  weights = np.asarray(heads, np.float32)
  if weights.ndim == 3:
    weights = np.repeat(weights[None], images, 0)
  return AttentionMap("block/attention", queries, queries if keys is None else keys, weights, **fields)


def cells_between(queries, keys):
  """[q, k, 2]: key - query in key cells, from middle to middle."""
  return (keys.centres()[None] - queries.centres()[:, None]) / keys.stride


def quadratic(alpha, centre, queries, keys=None):
  """[q, k]: softmax of -alpha |delta - centre|^2."""
  shift = cells_between(queries, keys or queries)
  logits = -alpha * ((shift - np.asarray(centre, float)) ** 2).sum(-1)
  return softmax(logits)


def hard(centre, queries, keys=None):
  """[q, k]: one-hot at the key nearest to query + centre."""
  shift = cells_between(queries, keys or queries)
  nearest = ((shift - np.asarray(centre, float)) ** 2).sum(-1).argmin(1)
  return np.eye(shift.shape[1])[nearest]


def uniform(queries, keys=None):
  keys = keys or queries
  return np.full((queries.cells, keys.cells), 1 / keys.cells)


def fixed_key(key, queries, keys=None):
  """[q, k]: every query looks at one key."""
  return np.tile(np.eye((keys or queries).cells)[key], (queries.cells, 1))


def content(queries, images, width=8, seed=0, heads=1):
  """[b, h, q, k]: softmax(X X^T) of random X."""
  x = np.random.default_rng(seed).normal(size=(images, heads, queries.cells, width))
  return softmax(x @ x.swapaxes(-1, -2) / width**0.5)


def softmax(logits):
  shares = np.exp(logits - logits.max(-1, keepdims=True))
  return shares / shares.sum(-1, keepdims=True)


def window_cells(height, width, window):
  """[q, k]: the cells of each query's window."""
  rows, columns = np.divmod(np.arange(height * width), width)
  inside_rows, inside_columns = np.divmod(np.arange(window[0] * window[1]), window[1])
  first = (rows // window[0] * window[0])[:, None] + inside_rows, (columns // window[1] * window[1])[:, None]
  return first[0] * width + first[1] + inside_columns


def windowed(table, height, width, window, **fields):
  """A map of windows whose heads are functions of the shift: table(delta [q, k, 2]) -> logits [heads, q, k]."""
  places, cells = np.stack(np.divmod(np.arange(height * width), width), -1), window_cells(height, width, window)
  delta = places[cells] - places[:, None]
  return layer(softmax(table(delta)), grid(height, width), key_cells=cells, **fields)


NINE = [(down, across) for down in (-1, 0, 1) for across in (-1, 0, 1)]
