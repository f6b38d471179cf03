"""MNIST-1D, made anew from its description (Greydanus & Kobak 2020, arXiv 2011.14439): digits as curves of 40 points.

A template of 12 points for each digit is stretched, scaled, moved and tilted, with smooth noise around it and a little
noise on all. Numbers and templates are the authors' (their code's defaults), draws and so examples our own. Training
and test part have their sizes; the validation part is made besides, and takes nothing away.

Values are kept as grey levels: level = round(127.5 (1 + value / RANGE)), the values beyond RANGE cut off. A level is
0.0059 wide: rounding adds 0.0017 (root mean square), a twelfth of the noise that each point has by itself.
"""

import numpy as np

CLASS_NAMES = tuple("0123456789")
LENGTH = 40
"""Points of an example."""
TEMPLATES = np.array(
  [
    [5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5],
    [5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5],
    [5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5],
    [5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5],
    [5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5],
    [5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5],
    [5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5],
    [5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5],
    [5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5],
    [5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5],
  ]
)
"""[10, 12], one row for each digit, before `curves` brings them to one size."""
PADDING = (36, 60)
"""Fewest and most zeros behind a template."""
TRANSLATIONS = 48
"""A curve moves to the right, around the end, by fewer points than this."""
SCALE, SHEAR = 0.4, 0.75
"""Width of the uniform draws around 1 that a curve is multiplied by, and around 0 of the slope it is tilted by."""
SMOOTH_NOISE, SMOOTHING, NOISE = 0.25, 2, 0.02
"""Standard deviation of the noise around a curve before it is smoothed, that of the Gaussian (in points), and of the
noise on all points."""
RANGE = 0.75
SIZES = {"train": 4_000, "validation": 1_000, "test": 1_000}
SEED = 2020


def curves() -> np.ndarray:
  """[10, 12]: TEMPLATES with mean 0 and deviation 1, moved to begin (and end) at 0, a sixth as high."""
  centred = TEMPLATES - TEMPLATES.mean(1, keepdims=True)
  scaled = centred / centred.std(1, keepdims=True)
  return (scaled - scaled[:, :1]) / 6


def smooth(noise: np.ndarray) -> np.ndarray:
  """Rows of [n, points] under a Gaussian of SMOOTHING points, cut off at four deviations; mirrored at the ends."""
  reach = 4 * SMOOTHING
  weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / SMOOTHING) ** 2)
  padded = np.pad(noise, ((0, 0), (reach, reach)), mode="symmetric")
  windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=1)
  return windows @ (weights / weights.sum())


def _resampled(values: np.ndarray, length: int) -> np.ndarray:
  """One row of values at `length` points from its first to its last, linearly in between."""
  return np.interp(np.linspace(0, 1, length), np.linspace(0, 1, len(values)), values)


def signals(labels: np.ndarray, rng: np.random.Generator, *, noise: float = 1.0) -> np.ndarray:
  """The curve of each label as an example, float64 [n, LENGTH].

  Args:
    labels: int [n], digits.
    rng: draws what is random about them.
    noise: both kinds of noise are multiplied by it; with 0 what is left is the curve, moved, scaled and tilted.
  """
  templates, count = curves(), len(labels)
  points = templates.shape[1] + PADDING[1]
  padding = rng.integers(PADDING[0], PADDING[1] + 1, count)
  stretched, inside = np.empty((count, points)), np.empty((count, points))
  for i, (label, zeros) in enumerate(zip(labels, padding, strict=True)):
    stretched[i] = _resampled(np.pad(templates[label], (0, zeros)), points)
    inside[i] = _resampled(np.pad(np.ones(templates.shape[1]), (0, zeros)), points)
  stretched *= 1 + SCALE * rng.uniform(-0.5, 0.5, (count, 1))
  moved = (np.arange(points)[None] - rng.integers(TRANSLATIONS, size=(count, 1))) % points
  stretched, inside = (np.take_along_axis(each, moved, axis=1) for each in (stretched, inside))
  around = smooth(noise * SMOOTH_NOISE * rng.standard_normal((count, points)))
  values = np.where(inside > 0, stretched, around) + noise * NOISE * rng.standard_normal((count, points))
  values = values - SHEAR * rng.uniform(-0.5, 0.5, (count, 1)) * np.linspace(-0.5, 0.5, points)[None]
  return np.stack([_resampled(row, LENGTH) for row in values])


def to_pixels(values: np.ndarray) -> np.ndarray:
  """Grey levels, uint8, of values of any shape."""
  return np.clip(np.round(127.5 * (1 + values / RANGE)), 0, 255).astype(np.uint8)


def to_values(pixels: np.ndarray) -> np.ndarray:
  """float64 values of uint8 grey levels, within half a level of those that `to_pixels` was given (inside RANGE)."""
  return (pixels / 127.5 - 1) * RANGE


def shuffled_positions() -> np.ndarray:
  """int [LENGTH]: which point of an example stands at each place of its shuffled form, the same for all of them."""
  return np.random.default_rng(SEED).permutation(LENGTH)


def parts(*, shuffled: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """(images uint8 [n, 1, 40, 1], labels int64 [n]) by split, as many of each digit; the same in each call.

  Args:
    shuffled: the points of every example stand in the order of `shuffled_positions`.
  """
  made = {}
  streams = np.random.SeedSequence(SEED).spawn(len(SIZES))
  for (split, size), stream in zip(SIZES.items(), streams, strict=True):
    rng = np.random.default_rng(stream)
    labels = rng.permutation(np.arange(size) % len(CLASS_NAMES))
    values = signals(labels, rng)
    ordered = values[:, shuffled_positions()] if shuffled else values
    made[split] = to_pixels(ordered)[:, None, :, None], labels
  return made
