"""How a head differs from image to image, and from the other heads of its layer."""

from __future__ import annotations

import itertools

import numpy as np

from convattn.analysis.attention_map import AttentionMap
from convattn.analysis.head_shape import entropy
from convattn.analysis.weight_blocks import Block, add_up, ratio


def content_dependence(layer: AttentionMap) -> np.ndarray:
  """float64 [heads]: the mean over images x and queries of KL(A(x) | mean_x A), in nats.

  Between 0, exactly, of a head whose weights are those of the positions alone, and the logarithm of the number of
  images; it grows with that number, so compare equal ones. nan of a single image.
  """
  if layer.num_images < 2:
    return np.full(layer.num_heads, np.nan)

  def summed(block: Block) -> tuple[np.ndarray, ...]:
    shares, first = block.shares, block.shares[:1]
    # Around the first image: of equal images the mean is that image, to the last bit.
    mean = first + (shares - first).mean(0, keepdims=True)
    times = np.divide(shares, mean, out=np.ones_like(shares), where=(shares > 0) & (mean > 0))
    everywhere = block.looking.all(0)
    return (((shares * np.log(times)).sum((0, 3)) * everywhere).sum(1), everywhere.sum(1) * layer.num_images)

  return ratio(*add_up(layer, summed))


def head_divergence(layer: AttentionMap) -> np.ndarray:
  """float64 [heads, heads]: Jensen-Shannon divergence between the weights of two heads, over images and all queries.

  In units of log 2: 0 of heads that look alike, 1 of heads that never look at the same key. The diagonal is 0.
  """

  def summed(block: Block) -> tuple[np.ndarray, ...]:
    own = entropy(block.shares)
    total, count = np.zeros((2, layer.num_heads, layer.num_heads))
    for one, other in itertools.combinations(range(layer.num_heads), 2):
      both = block.looking[:, one] & block.looking[:, other]
      middle = entropy((block.shares[:, one] + block.shares[:, other]) / 2)
      total[one, other] = ((middle - (own[:, one] + own[:, other]) / 2) * both).sum()
      count[one, other] = both.sum()
    return total, count

  total, count = add_up(layer, summed)
  mean = total / np.maximum(count, 1)
  return (mean + mean.T) / np.log(2)
