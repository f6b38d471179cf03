"""What an output can be that is an average of values."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from convattn.properties.comparison import array, assert_same, default_tolerance, numbers
from convattn.properties.demands import Argnums, first, floats, indices, places
from convattn.properties.drawing import along, changed, on_host, separations, taken
from convattn.properties.laws import SOFTMAX, LawBroken, law


@law("each output lies within the convex hull of the values", "weights that are a distribution; Vaswani et al. 2017")
def check_convex_hull(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, value: int = -1, axis: int = -2
) -> None:
  """Per coordinate: min_k v <= out <= max_k v, of the argument `value` [.., k along axis, .., e]; no dense layer after.

  Also with values moved far to either side, where weights that do not sum to 1 leave the hull, and with values that are
  1 for one key and 0 for all others (up to 16 keys), where a weight below 0 does.
  """
  del key
  floats(arrays, value)
  size = places(arrays, value, axis)
  spread = float(np.std(numbers(arrays[value]))) or 1.0
  far = 1000 * spread if default_tolerance(arrays) < 1e-3 else 10 * spread  # half precisions have no digits for more
  changes = [
    (f"values moved by {shift:.3g}", lambda a, shift=shift: (a + shift).astype(a.dtype)) for shift in (0.0, far, -far)
  ]
  for place in separations(size)[:16]:
    when = f"values 1 at the keys {np.flatnonzero(place).tolist()}, else 0"
    changes.append((when, lambda a, place=place: np.broadcast_to(along(a, axis, place), a.shape).astype(a.dtype)))
  for when, change in changes:
    given = changed(arrays, value, on_host(change))
    result = fn(*given)
    values, out = numbers(given[indices(value, arrays)[0]]), numbers(result)
    low, high = values.min(axis, keepdims=True), values.max(axis, keepdims=True)
    if low.ndim != out.ndim or any(a != b and 1 not in (a, b) for a, b in zip(low.shape, out.shape, strict=True)):
      raise ValueError(
        f"output has shape {list(out.shape)}, but must be that of the values, {list(values.shape)}, with any number of "
        f"places along axis {axis}; name the axes as they are."
      )
    wanted = np.clip(out, low, high)
    limit = default_tolerance(result, arrays) if tolerance is None else tolerance
    assert_same(out, wanted, limit, f"{when}, output against their hull")


def _mean_of_values(values: Any, axis: int, out: Any) -> np.ndarray:
  mean, shape = numbers(values).mean(axis, keepdims=True), array(out).shape
  if len(shape) != mean.ndim or any(size not in (1, given) for size, given in zip(mean.shape, shape, strict=True)):
    wanted = [*mean.shape]
    raise LawBroken(f"output has shape {list(shape)}, but must have {wanted} with any number along axis {axis}.")
  return np.broadcast_to(mean, shape)


@law("where all keys are equal, the output is the mean of the values", SOFTMAX)
def check_equal_keys_average(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  keys: int = 1,
  value: int = 2,
  axis: int = -2,
) -> None:
  """`fn(query, key, value)` without bias or mask: every key becomes the first one of `axis`."""
  del key
  places(arrays, keys, axis)
  places(arrays, value, axis)
  same = on_host(lambda a: np.broadcast_to(np.take(a, [0], axis), a.shape))
  out = fn(*changed(arrays, keys, same))
  assert_same(
    out, _mean_of_values(arrays[indices(value, arrays)[0]], axis, out), tolerance, "all keys equal", inputs=arrays
  )


@law("at infinite temperature (a query of zeros) the output is the mean of the values", SOFTMAX)
def check_zero_query_averages(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  query: int = 0,
  value: int = 2,
  axis: int = -2,
) -> None:
  """For logits that are products with the query. `fn(query, key, value)` without bias or mask."""
  del key
  places(arrays, value, axis)
  out = fn(*changed(arrays, query, on_host(np.zeros_like)))
  assert_same(
    out, _mean_of_values(arrays[indices(value, arrays)[0]], axis, out), tolerance, "query set to zero", inputs=arrays
  )


@law("at zero temperature the output is the value of the best key", "Cordonnier et al. 2020, lemma 1")
def check_large_logits_select(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  axis: int = -2,
) -> None:
  """For `fn(query, key, value)` with dot products: queries are scaled until the best key leads by 100.

  Queries whose two best keys are too close for the digits of the dtype are left out.
  """
  del key
  three = first(arrays, 3, "query, key and value")
  places(arrays, (1, 2), axis)
  floats(arrays, (0, 1, 2))
  shapes = [list(np.delete(a.shape, axis % a.ndim)) for a in three]
  if {a.ndim for a in three} != {three[0].ndim} or shapes[0] != shapes[1] or shapes[0][:-1] != shapes[2][:-1]:
    raise ValueError(
      f"query, keys and values have shapes {[list(a.shape) for a in three]}, but must agree but for axis {axis}, and "
      f"for the width of the values."
    )
  query, keys, value = (np.moveaxis(numbers(a), axis, -2) for a in three)
  logits = query @ np.swapaxes(keys, -1, -2)
  ordered = np.sort(logits, -1)
  gap = ordered[..., -1] - ordered[..., -2]
  digits = max(float(jnp.finfo(a.dtype).eps) for a in arrays[:2])
  terms = np.abs(query) @ np.abs(np.swapaxes(keys, -1, -2))
  clear = gap > 8 * digits * terms.max(-1)
  if not clear.any():
    raise ValueError("two keys are equally good for every query; pass random numbers.")
  # A power of two, which rounds nothing.
  factor = 2.0 ** np.ceil(np.log2(100 * query.shape[-1] ** 0.5 / gap[clear].min()))
  best = np.take_along_axis(value, logits.argmax(-1)[..., None], -2)
  result = fn(*changed(arrays, 0, on_host(lambda a: (a * a.dtype.type(factor)).astype(a.dtype))))
  out = numbers(result)
  if out.shape != np.moveaxis(best, -2, axis).shape:
    raise LawBroken(f"output has shape {list(out.shape)}, but must have {list(np.moveaxis(best, -2, axis).shape)}.")
  wanted = np.moveaxis(np.where(clear[..., None], best, np.moveaxis(out, axis, -2)), -2, axis)
  limit = default_tolerance(result, arrays) if tolerance is None else tolerance
  assert_same(out, wanted, limit, f"queries times {factor:.3g}")


@law("keys and values given twice change nothing", SOFTMAX)
def check_duplicates_cancel(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, axis: int = -2, argnums: Argnums = (1, 2)
) -> None:
  """`fn(query, key, value)`: every key and value (`argnums`) appears twice along `axis`."""
  del key
  places(arrays, argnums, axis, any_content=True)
  twice = fn(*changed(arrays, argnums, on_host(lambda a: np.concatenate([a, a], axis))))
  assert_same(twice, fn(*arrays), tolerance, "all keys and values twice", inputs=arrays)


@law("equal heads are one head over their values side by side", "Vaswani et al. 2017, section 3.2.2")
def check_equal_heads_merge(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, head_axis: int = -2
) -> None:
  """`fn(query, key, value)` with heads along `head_axis`: with the first head's query and key in all of them, every
  head's output is the first head's for that value."""
  del key
  first(arrays, 3, "query, key and value")
  heads = places(arrays, (0, 1, 2), head_axis)
  equal = changed(arrays, (0, 1), on_host(lambda a: np.broadcast_to(np.take(a, [0], head_axis), a.shape)))
  out = fn(*equal)
  for head in range(heads):
    one = on_host(lambda a, head=head: np.broadcast_to(np.take(a, [head], head_axis), a.shape))
    wanted = taken(fn(*changed(equal, 2, one)), [0], head_axis)
    assert_same(taken(out, [head], head_axis), wanted, tolerance, f"head {head} against head 0", inputs=arrays)
