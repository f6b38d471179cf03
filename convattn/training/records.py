"""What a run leaves of its test beside the numbers, as JSON: sums that are arrays, and the examples that stand out."""

import base64
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

LARGEST = 16
"""Examples that are kept of a split."""

_SIDE = 96
"""Pixels of the longer side of a picture that is kept."""


@flax.struct.dataclass
class Largest:
  """The examples of a batch, or of a split, with the largest scores; stands in metric sums in the place of a sum.

  Attributes:
    score: [k], from the largest down; -inf in places without an example.
    row: int [k], their places in the batch, or in the split.
    values: {name: [k, ...]}, what else is known of them.
    number: how many are kept of a split, k at most.
  """

  score: Any
  row: Any
  values: dict[str, Any]
  number: int = flax.struct.field(pytree_node=False, default=LARGEST)


def largest(score: jax.Array, values: dict[str, jax.Array], number: int = LARGEST) -> Largest:
  """The rows of a batch with the largest scores; of equals the first.

  Args:
    score: real [b]; rows with -inf or nan are none.
    values: [b, ...] each.
    number: at least 1.
  """
  score = jnp.where(jnp.isnan(score), -jnp.inf, score)
  top, row = jax.lax.top_k(score, min(number, len(score)))
  return Largest(top, row, {name: value[row] for name, value in values.items()}, number)


def merged(parts: list[tuple[int, dict[str, Largest]]]) -> dict[str, Largest]:
  """Those of a split, as NumPy arrays without empty places: the same ones however the split is cut.

  Args:
    parts: (place in the split of the first row, those of the rows from there on) of consecutive parts, in order.
  """
  fetched = jax.device_get(parts)
  return {name: _merged([(start, found[name]) for start, found in fetched]) for name in (parts[0][1] if parts else ())}


def _merged(parts: list[tuple[int, Largest]]) -> Largest:
  score = np.concatenate([top.score for _, top in parts])
  row = np.concatenate([top.row + start for start, top in parts])
  order = np.argsort(-score, kind="stable")[: parts[0][1].number]
  order = order[score[order] > -np.inf]
  names = parts[0][1].values
  values = {name: np.concatenate([top.values[name] for _, top in parts])[order] for name in names}
  return Largest(score[order], row[order], values, parts[0][1].number)


def records_of(task: Any, found: dict[str, Any], split: str = "test") -> dict[str, Any]:
  """{name: JSON} to be written as NAME.json, of what a split's metric sums hold beside scalars.

  "confusion", counts[true class][predicted class], stands beside the names of its classes; other sums are lists of
  numbers. A `Largest` is its lists, beside the names of the classes, and small pictures where the task has `pictures`.
  """
  tops = {name: each for name, each in found.items() if isinstance(each, Largest)}
  # JSON knows no others, such as those of bfloat16.
  plain = {name: _plain(array) for name, array in found.items() if name not in tops}
  records: dict[str, Any] = {name: {"sums": array.tolist()} for name, array in plain.items()}
  if "confusion" in plain:
    names, counts = list(task.metadata["class_names"]), plain["confusion"]
    counts = counts.astype(int) if np.isfinite(counts).all() else counts
    records["confusion"] = {"class_names": names, "counts": counts.tolist()}
  for name, top in tops.items():
    lists = {"score": top.score, "row": top.row, **top.values}
    records[name] = {key: _plain(np.asarray(array)).tolist() for key, array in lists.items()}
    if "class_names" in task.metadata:
      records[name]["class_names"] = list(task.metadata["class_names"])
    if hasattr(task, "pictures"):
      records[name]["pictures"] = as_json(shrunk(task.pictures(split, top.row.tolist())))
  return records


def _plain(array: np.ndarray) -> np.ndarray:
  return array if array.dtype.kind in "biu" else array.astype(np.float64)


def shrunk(pictures: np.ndarray) -> np.ndarray:
  """uint8 [k, h, w, c] with at most `_SIDE` pixels a side: each the mean of a block; what is left over is cut off."""
  count, *sides, channels = pictures.shape
  factor = -(-max(sides) // _SIDE)
  blocks = [min(factor, side) for side in sides]
  height, width = (side // block for side, block in zip(sides, blocks, strict=True))
  cut = pictures[:, : height * blocks[0], : width * blocks[1]]
  means = cut.reshape(count, height, blocks[0], width, blocks[1], channels).mean((2, 4))
  return np.rint(means).astype(np.uint8)


def as_json(array: np.ndarray) -> dict[str, Any]:
  """Shape and bytes of a uint8 array."""
  return {"shape": list(array.shape), "base64": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()}


def array_from_json(value: dict[str, Any]) -> np.ndarray:
  """The inverse of `as_json`.

  Raises:
    ValueError, KeyError, TypeError: it is something else.
  """
  return np.frombuffer(base64.b64decode(value["base64"], validate=True), np.uint8).reshape(value["shape"])
