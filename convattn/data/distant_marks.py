"""Pictures whose class no small window tells: a cross and a ring far apart, and the class says which stands left.

Both classes hold the same two marks, noise between them, and no window that holds less than both (or a border) says
anything: the windows of a picture with the cross on the left are, but for the noise, those of the picture with the two
marks exchanged. So a network whose layers see less than the distance must guess, and one that attends to all of the
picture need not. Marks stand on a lattice of places of the size of a mark, so that patches may be exactly these.
"""

import numpy as np

CLASS_NAMES = ("cross left", "ring left")
SIDE = 4
"""Height and width of a mark and of a place, in pixels."""
ROWS, COLUMNS = 4, 20
"""Places of a picture; its height and width are SIDE times as many pixels."""
MARGIN = 5
"""Places left and right in which no mark stands: a window of up to SIDE * MARGIN + 1 pixels that sees the picture's
border sees no mark."""
DISTANCES = (8, 16, 24)
"""Pixels from one mark to the other, left edge to left edge; a set for each."""
SIZES = {"train": 10_000, "validation": 1_000, "test": 2_000}

CROSS, RING = (
  np.array([[pixel == "#" for pixel in row] for row in rows], float)
  for rows in (("#..#", ".##.", ".##.", "#..#"), (".##.", "#..#", "#..#", ".##."))
)
"""Eight pixels of sixteen each, so that not even the brightness of a picture differs."""
GREY, CONTRAST, NOISE = 64, 128, 16
"""Levels of 0 to 255: of what is no mark, of a mark above that, and the standard deviation of every pixel."""


def places(count: int, distance: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
  """Where the marks stand: rows and columns of the top left pixels, int [count, 2] each, the left mark first.

  The left mark's column is uniform over the places that leave both margins free; each row is uniform over all.

  Args:
    count: number of pictures.
    distance: pixels from one mark to the other, a multiple of SIDE.
    rng: draws them.
  """
  free = COLUMNS - 2 * MARGIN - distance // SIDE
  left = SIDE * (MARGIN + rng.integers(free, size=count))
  return SIDE * rng.integers(ROWS, size=(count, 2)), np.stack([left, left + distance], axis=1)


def drawn(rows: np.ndarray, columns: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """The pictures without noise, float [n, h, w] in levels, of marks whose top left pixels are at (rows, columns).

  Args:
    rows, columns: int [n, 2], of the left mark and the right one.
    labels: int [n]; 0: the cross is the left one, 1: the ring is.
  """
  pictures = np.full((len(labels), SIDE * ROWS, SIDE * COLUMNS), float(GREY))
  marks = np.stack([CROSS, RING])
  inside = np.arange(SIDE)
  for place in range(2):
    shown = marks[(labels + place) % 2]
    y, x = rows[:, place, None, None] + inside[:, None], columns[:, place, None, None] + inside[None]
    pictures[np.arange(len(labels))[:, None, None], y, x] += CONTRAST * shown
  return pictures


def make(count: int, distance: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
  """(images uint8 [count, 16, 80, 1], labels int64 [count]), half of each class (or one more of the first).

  Args, draws: as `places`, whose positions do not depend on the labels.
  """
  labels = rng.permutation(np.arange(count) % 2)
  pictures = drawn(*places(count, distance, rng), labels)
  pictures += NOISE * rng.standard_normal(pictures.shape)
  return np.clip(np.round(pictures), 0, 255).astype(np.uint8)[..., None], labels


def parts(distance: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Images and labels by split, as `make` gives them: the same in each call, and no two splits of the same draws."""
  streams = np.random.SeedSequence(distance).spawn(len(SIZES))
  return {
    split: make(size, distance, np.random.default_rng(stream))
    for (split, size), stream in zip(SIZES.items(), streams, strict=True)
  }
