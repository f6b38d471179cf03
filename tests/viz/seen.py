"""Maps of attention by hand, small and of odd sizes."""

import numpy as np

from convattn.analysis import AttentionMap, Grid

IMAGE = (6, 9)
"""Height and width in pixels."""

FINE = Grid(3, 3, (2.0, 3.0), image=IMAGE)
COARSE = Grid(2, 2, (3.0, 5.0), image=IMAGE)
"""Its last column is cut off at the image's border."""


def picture():
  return np.random.default_rng(7).uniform(-2, 3, (*IMAGE, 1))


def attention(layer="stage_3/block_0/attention", query=FINE, key=COARSE, heads=2, images=2, seed=0, **others):
  draws = np.random.default_rng(seed)
  shape = (images, heads, query.cells, key.cells)
  content, position = (draws.normal(size=shape).astype(np.float32) for _ in range(2))
  logits = content + position
  weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  arrays = {"logits": logits, "content": content, "position": position, "norm_weighted": 2 * weights}
  return AttentionMap(layer, query, key, weights, **{**arrays, **others})


def windows():
  """One head on 2 x 4 pixels: each sees the two of its own pair, but the last two only the first of theirs."""
  grid = Grid(2, 4, image=(2, 4))
  cells = np.arange(8)[:, None] // 2 * 2 + np.arange(2)
  cells[6:, 1] = -1
  weights = np.tile(np.array([0.25, 0.75], np.float32), (1, 1, 8, 1))
  weights[:, :, 6:] = [1, 0]
  logits = np.log(np.maximum(weights, 1e-9))
  logits[:, :, 6:, 1] = -np.inf
  return AttentionMap("window", grid, grid, weights, logits=logits, key_cells=cells)
