"""Which examples make up a batch. A training batch is a function of (seed, step), so a position is just the step."""

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from convattn.data.broken import InARow, first_readable, readable
from convattn.data.picture_source import in_threads
from convattn.data.sources import Item, Source, skipped_of
from convattn.errors import UserError

WHOLE = slice(None)
"""All rows of a batch."""


# A step needs the order of one epoch, at a border of two; drawing it anew each time would cost milliseconds per
# million examples.
@functools.lru_cache(maxsize=4)
def _epoch_order(size: int, seed: int, epoch: int) -> np.ndarray:
  order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch,))).permutation(size)
  order.flags.writeable = False
  return order


def train_indexes(size: int, *, batch_size: int, seed: int, step: int) -> np.ndarray:
  """Indexes, int64 [batch_size], of the examples of update `step` (from 0) out of `size`.

  Epoch e is a permutation drawn from (seed, e). The batches cut the endless sequence of epochs into equal pieces and
  run across their borders: position p = step * batch_size + i holds permutation(p // size)[p % size]. So each epoch
  has every example exactly once, nothing is dropped, and a batch may be larger than the data set.

  Raises:
    UserError: `size` or `batch_size` below 1, `seed` or `step` below 0.
  """
  for name, value, least in (("size", size, 1), ("batch_size", batch_size, 1), ("seed", seed, 0), ("step", step, 0)):
    if value < least:
      raise UserError(f"{name} must be at least {least}, got {value}.")
  positions = int(step) * batch_size + np.arange(batch_size, dtype=np.int64)
  epochs, places = np.divmod(positions, size)
  pieces = [_epoch_order(size, seed, int(epoch))[places[epochs == epoch]] for epoch in np.unique(epochs)]
  return np.concatenate(pieces)


def stack(items: Sequence[Item]) -> dict[str, np.ndarray]:
  """{"image": uint8 [b, h, w, c], "label": int32 [b]} of b examples.

  Raises:
    UserError: images that are not uint8 [h, w, c] of one shape.
  """
  images = [np.asarray(item["image"]) for item in items]
  kinds = {(image.shape, image.dtype) for image in images}
  if len(kinds) > 1 or images[0].ndim != 3 or images[0].dtype != np.uint8:
    found = " and ".join(sorted(f"{dtype} {list(shape)}" for shape, dtype in kinds))
    raise UserError(f"images of a source must be uint8 [h, w, c], all of one shape, got {found}; convert or resize.")
  return {"image": np.stack(images), "label": np.array([int(item["label"]) for item in items], np.int32)}


def train_places(
  source: Source, *, batch_size: int, seed: int, step: int, rows: slice = WHOLE
) -> list[tuple[int, int]]:
  """(row, index of its example) of the rows `rows` of the batch of update `step`; see `train_indexes`.

  Raises:
    UserError: an empty source, or a number out of range.
  """
  if not len(source):
    raise UserError("there are no images to train on; the data set 'folder' needs them in train/CLASS/*.jpg.")
  indexes = train_indexes(len(source), batch_size=batch_size, seed=seed, step=step).tolist()
  return list(enumerate(indexes))[rows]


def train_batch(source: Source, *, batch_size: int, seed: int, step: int, rows: slice = WHOLE) -> dict[str, np.ndarray]:
  """The batch of update `step`: {"image": uint8 [b, h, w, c], "label": int32 [b]}; order: `train_indexes`.

  A picture that cannot be read raises, or is replaced by the next one of the source that can (`source.skipped`).

  Args:
    rows: of that batch, the ones wanted.

  Raises:
    UserError: an empty source, a number out of range, or images that are not uint8 [h, w, c] of one shape.
    BrokenPicture: a ValueError for a picture that cannot be read.
  """
  indexes = [index for _, index in train_places(source, batch_size=batch_size, seed=seed, step=step, rows=rows)]
  skipped = skipped_of(source)
  if skipped is not None:
    return stack(in_threads(lambda index: first_readable(source.__getitem__, index, len(source), skipped), indexes))
  return stack(_together(source, indexes))


def _together(source: Source, indexes: Sequence[int]) -> Sequence[Item]:
  together = getattr(source, "__getitems__", None)
  return [source[index] for index in indexes] if together is None else [*together(indexes)]


def evaluation_batches(source: Source, batch_size: int, rows: slice = WHOLE) -> Iterator[dict[str, np.ndarray]]:
  """Every example once and in order: {"image": uint8 [b, h, w, c], "label": int32 [b], "mask": float32 [b]}.

  All batches have `batch_size` rows. The last one is filled up with zero images of label 0 whose mask is 0; weighting
  by the mask makes every sum equal to the one over the examples alone. So is a picture that cannot be read, where
  `source.skipped` says to leave it out.

  Args:
    source: the examples.
    batch_size: rows of a batch.
    rows: of each batch, the ones wanted; the others are not read.

  Raises:
    UserError: `batch_size` below 1 (at the call), or images that are not uint8 [h, w, c] of one shape.
    BrokenPicture: a ValueError for a picture that cannot be read, or for so many of those to be left out, one behind
      the other, that something else is wrong.
  """
  if batch_size < 1:
    raise UserError(f"batch_size must be at least 1, got {batch_size}.")
  return _evaluation_batches(source, batch_size, rows)


def _evaluation_batches(source: Source, batch_size: int, rows: slice) -> Iterator[dict[str, np.ndarray]]:
  in_a_row = InARow(len(source), skipped_of(source))
  for indexes in evaluation_indexes(source, batch_size):
    wanted = indexes[rows]
    batch = cut(evaluation_rows(source, wanted or indexes[:1]), len(wanted))
    in_a_row.add(batch["mask"])
    yield padded(batch, num_rows(batch_size, rows))


def evaluation_indexes(source: Source, batch_size: int) -> Iterator[range]:
  """The examples of each batch of `evaluation_batches`."""
  for start in range(0, len(source), batch_size):
    yield range(start, min(start + batch_size, len(source)))


def num_rows(batch_size: int, rows: slice) -> int:
  """How many of `batch_size` rows `rows` are."""
  return len(range(batch_size)[rows])


def cut(batch: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
  """The first `count` rows; of none, one that is made all the same knows the shape."""
  return {name: array[:count] for name, array in batch.items()}


def evaluation_rows(source: Source, indexes: Sequence[int]) -> dict[str, np.ndarray]:
  """{"image", "label", "mask"} of the examples `indexes`; those to be left out are zeros."""
  skipped = skipped_of(source)
  if skipped is None:
    return with_mask(_together(source, indexes), ())
  items = in_threads(lambda index: readable(source.__getitem__, index, skipped), indexes)
  return with_mask(items, source.image_shape)  # type: ignore[attr-defined]  # see Source


def with_mask(items: Sequence[Item | None], image_shape: tuple[int, ...]) -> dict[str, np.ndarray]:
  """`stack` of the items and "mask": float32 [b]; None becomes a zero image of `image_shape`, label 0 and mask 0."""
  nothing: Item = {"image": np.zeros(image_shape, np.uint8), "label": 0}
  batch = stack([nothing if item is None else item for item in items])
  return {**batch, "mask": np.array([item is not None for item in items], np.float32)}


def padded(batch: dict[str, np.ndarray], batch_size: int) -> dict[str, np.ndarray]:
  """The rows of `batch` and behind them as many rows of zeros as make `batch_size`."""
  missing = batch_size - len(batch["label"])
  if not missing:
    return batch
  return {name: np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)) for name, array in batch.items()}
