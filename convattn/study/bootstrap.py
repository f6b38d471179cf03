"""An interval for the difference of two settings that were scored on the same images with the same seeds."""

import chex
import numpy as np

from convattn.analysis.intervals import DRAWS, SEED, SHARE, Interval as Interval


def paired_interval(ours: np.ndarray, theirs: np.ndarray) -> Interval:
  """The mean of ours - theirs, in [-1, 1], with the percentile interval of a paired bootstrap.

  Each draw takes n images and s seeds with replacement, the same ones on both sides, and the mean of the difference
  over them; the interval holds the middle SHARE of DRAWS draws. With one seed it speaks of the images alone.

  A draw of images counts how often each pattern of differences over the seeds comes up (a multinomial draw): the same
  law as drawing the images one by one, in a hundredth of the time.

  Args:
    ours, theirs: bool [s, n], whether a run of a seed was right about an image.

  Raises:
    AssertionError: they are not of one shape [s, n].
    ValueError: no seeds or no images.
  """
  chex.assert_rank(ours, 2, custom_message="ours must be [seeds, images]")
  chex.assert_equal_shape((ours, theirs), custom_message="ours and theirs must be of the same seeds and images")
  num_seeds, num_images = ours.shape
  if not num_seeds or not num_images:
    raise ValueError(f"there must be at least one seed and one image, got {ours.shape}.")
  differences = ours.astype(np.int64) - theirs.astype(np.int64)
  patterns, counts = np.unique(differences, axis=1, return_counts=True)  # [s, k], [k]
  draws = np.random.default_rng(SEED)
  drawn_images = draws.multinomial(num_images, counts / num_images, size=DRAWS)  # [draws, k]
  drawn_seeds = draws.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=DRAWS)  # [draws, s]
  sums = (drawn_seeds * (drawn_images @ patterns.T)).sum(1)  # whole numbers: no order of summation changes them
  low, high = np.quantile(sums / (num_seeds * num_images), [(1 - SHARE) / 2, (1 + SHARE) / 2])
  return Interval(int(differences.sum()) / differences.size, float(low), float(high))
