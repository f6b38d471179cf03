"""What a layer attends to, as numbers: weights and logits of every head, and where queries and keys lie."""

from __future__ import annotations

import dataclasses

import numpy as np

MODES = ("probabilities", "logits", "content", "position", "norm_weighted")
"""The arrays that an `AttentionMap` may have."""


@dataclasses.dataclass(frozen=True)
class Grid:
  """Cells of a feature map, and the pixels of the image that each stands for.

  Cell (i, j) covers the rows from origin[0] + i * stride[0] up to origin[0] + (i + 1) * stride[0], and columns alike,
  as far as they lie in the image: where every stride s gives ceil(n / s) cells, the last one may be cut off. These are
  the pixels that it stands for; what it depends on is its receptive field, which is larger.

  Attributes:
    height, width: cells.
    stride: pixels from one cell to the next, down and across.
    origin: of the first cell's upper left corner, in pixels; negative where cells lie in padding.
    image: height and width of the image; None: there is none, and cells are tokens.
  """

  height: int
  width: int
  stride: tuple[float, float] = (1.0, 1.0)
  origin: tuple[float, float] = (0.0, 0.0)
  image: tuple[int, int] | None = None

  @property
  def cells(self) -> int:
    return self.height * self.width

  def boxes(self) -> np.ndarray:
    """[cells, 4]: top, left, bottom and right of every cell in pixels, row by row, cut off at the image's border."""
    rows, columns = np.divmod(np.arange(self.cells), self.width)
    first = np.stack([rows, columns], -1) * np.asarray(self.stride) + np.asarray(self.origin)
    boxes = np.concatenate([first, first + np.asarray(self.stride)], -1)
    return boxes if self.image is None else np.clip(boxes, 0, np.tile(self.image, 2))

  def centres(self) -> np.ndarray:
    """[cells, 2]: row and column of the middle of every whole cell, in pixels."""
    rows, columns = np.divmod(np.arange(self.cells), self.width)
    return (np.stack([rows, columns], -1) + 0.5) * np.asarray(self.stride) + np.asarray(self.origin)

  def cell_at(self, row: float, column: float) -> int | None:
    """The cell that a pixel belongs to; None where there is none."""
    i, j = (int((at - start) // step) for at, start, step in zip((row, column), self.origin, self.stride, strict=True))
    return i * self.width + j if 0 <= i < self.height and 0 <= j < self.width else None


@dataclasses.dataclass(frozen=True, eq=False)
class AttentionMap:
  """What one layer attended to, for a batch of images: float32 arrays [b, heads, q, k].

  Queries are numbered row by row in `query_grid`. With `key_cells` None so are the keys in `key_grid`; otherwise query
  q's k-th key is the cell key_cells[q, k] of it, as in windows, where each query has few keys of its own, and -1 is
  none at all: padding, or a pixel that is masked. `dense` spreads them over the grid.

  Before them may stand `prefix_tokens` (a class token, registers), which have no place in the image: the first so many
  queries and keys.

  Attributes:
    layer: path of the module, such as "stage_3/block_0/attention".
    probabilities: rows sum to one (but for static weights added after the softmax). A gate between two kinds of
      attention has been applied.
    logits: what the softmax saw; -inf where masked. None where it is not one softmax.
    content: its part from query and key, -inf where masked; None: there is none.
    position: its part that is added as a bias; None: there is none.
    norm_weighted: probabilities times the length of the head's value behind its output matrix,
      A[q, k] |v_k W_O| (Kobayashi et al. 2020); None where values are not known.
    gate: [heads], of a layer with two softmaxes, g in (1 - g) softmax(content) + g softmax(position); None: it has one.
  """

  layer: str
  query_grid: Grid
  key_grid: Grid
  probabilities: np.ndarray
  logits: np.ndarray | None = None
  content: np.ndarray | None = None
  position: np.ndarray | None = None
  norm_weighted: np.ndarray | None = None
  key_cells: np.ndarray | None = None
  prefix_tokens: int = 0
  gate: np.ndarray | None = None

  @property
  def num_heads(self) -> int:
    return self.probabilities.shape[1]

  @property
  def num_images(self) -> int:
    return self.probabilities.shape[0]

  @property
  def modes(self) -> tuple[str, ...]:
    """Those of MODES that it has."""
    return tuple(mode for mode in MODES if getattr(self, mode) is not None)

  def dense(self, mode: str = "probabilities") -> np.ndarray:
    """One of its arrays over whole grids, without prefix tokens: [b, heads, query cells, key cells]; nan: never seen.

    Raises:
      ValueError: a mode that it has not.
    """
    values = getattr(self, mode) if mode in self.modes else None
    if values is None:
      raise ValueError(f"{self.layer} has no {mode!r}; it has {', '.join(self.modes)}.")
    values = values[:, :, self.prefix_tokens :, self.prefix_tokens :]
    if self.key_cells is None:
      return values
    b, n, queries, _ = values.shape
    # One column too many, for the keys that are none.
    spread = np.full((b, n, queries, self.key_grid.cells + 1), np.nan, values.dtype)
    np.put_along_axis(spread, np.broadcast_to(self.key_cells % (self.key_grid.cells + 1), values.shape), values, -1)
    return spread[..., :-1]
