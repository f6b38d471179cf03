"""Arrays as text that a page can carry: as few bytes as the wanted precision allows, in base64.

A blob is a dict of plain JSON:

    {"dtype": "uint8", "shape": [2, 3], "scale": 0.5, "offset": -1.0, "data": "..."}

Its values are stored * scale + offset, row by row, little-endian. In "uint8" and "uint16" the two largest codes are
kept for what has no place on that line: the largest is nan, the one before it -inf. "float16" and "float32" have these
of their own; "int32" has neither. "exact": true says that the codes are the values, and none is reserved.
page/unpack.js reads it back, and so does `unpack`.
"""

import base64
from typing import Any

import numpy as np

Blob = dict[str, Any]

_CODES = {"uint8": 256, "uint16": 65536}
_RESERVED = 2
_EXACT = ("uint8", "int32", "float16", "float32")


def pack(values: np.ndarray, precision: float = 1e-4) -> Blob:
  """The smallest blob from which every value comes back to within `precision`: 8 bits, 16, or float32.

  Args:
    values: floats of any shape; nan and -inf come back as they are.
    precision: the largest difference between a value and what comes back.

  Raises:
    ValueError: a value is inf.
  """
  values = np.asarray(values, np.float32)
  if np.isposinf(values).any():
    raise ValueError("an array of a page has inf in it; -inf and nan are the only ones that can be packed.")
  finite = np.isfinite(values)
  low, high = (float(values[finite].min()), float(values[finite].max())) if finite.any() else (0.0, 0.0)
  for dtype, codes in _CODES.items():
    last = codes - 1 - _RESERVED
    scale = (high - low) / last or 1.0
    # A stored value is at most half a step away. The rest is float32's own rounding.
    if (high - low) / last / 2 <= precision * 0.99:
      steps = np.rint((values.astype(np.float64) - low) / scale, where=finite, out=np.zeros(values.shape))
      stored = np.where(np.isnan(values), codes - 1, np.where(finite, steps, codes - 2))
      return _blob(stored.astype(dtype), scale, low)
  return _blob(values, 1.0, 0.0)


def pack_as(values: np.ndarray, dtype: str) -> Blob:
  """A blob that holds the values as they are in "uint8", "int32", "float16" or "float32".

  Raises:
    ValueError: another dtype, or whole numbers that it has no room for.
  """
  if dtype not in _EXACT:
    raise ValueError(f"an array of a page is stored as one of {', '.join(_EXACT)}; got {dtype!r}.")
  values = np.asarray(values)
  if dtype in ("uint8", "int32") and values.size:
    range_of = np.iinfo(dtype)
    if not range_of.min <= values.min() <= values.max() <= range_of.max:
      raise ValueError(f"values from {values.min()} to {values.max()} do not fit in {dtype}.")
  return {**_blob(values.astype(dtype), 1.0, 0.0), "exact": True}


def unpack(blob: Blob) -> np.ndarray:
  """What `pack` or `pack_as` was given, as the page reads it: float32, or whole numbers if these were packed."""
  dtype = np.dtype(blob["dtype"]).newbyteorder("<")
  stored = np.frombuffer(base64.b64decode(blob["data"]), dtype).reshape(blob["shape"])
  if blob.get("exact") and dtype.kind in "iu":
    return stored.astype(blob["dtype"])
  if dtype.kind == "f":
    return stored.astype(np.float32)
  codes = _CODES[blob["dtype"]]
  values = np.asarray(stored * np.float64(blob["scale"]) + blob["offset"], np.float32)
  special = np.where(stored == codes - 1, np.float32(np.nan), np.float32(-np.inf))
  return np.where(stored >= codes - _RESERVED, special, values)


def num_bytes(blob: Blob) -> int:
  """Of its data in the page, in base64."""
  return len(blob["data"])


def _blob(stored: np.ndarray, scale: float, offset: float) -> Blob:
  data = np.ascontiguousarray(stored, stored.dtype.newbyteorder("<")).tobytes()
  return {
    "dtype": stored.dtype.name,
    "shape": list(stored.shape),
    "scale": scale,
    "offset": offset,
    "data": base64.b64encode(data).decode("ascii"),
  }
