"""What an output can be that is an average of values."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from convattn.properties.comparison import assert_same, default_tolerance, numbers
from convattn.properties.drawing import Argnums, changed, on_host, places, taken
from convattn.properties.laws import law

SOFTMAX = "definition of the softmax"


def _chosen(result: Any, output: int | None) -> Any:
  """The weights among a function's results."""
  return result if output is None else result[output]


@law("each output lies within the convex hull of the values", "weights that are a distribution; Vaswani et al. 2017")
def check_convex_hull(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, value: int = -1, axis: int = -2
) -> None:
  """Per coordinate: min_k v <= out <= max_k v, of the argument `value` [.., k along axis, .., e]; no dense layer after.

  Also with values moved far to either side, where weights that do not sum to 1 leave the hull.
  """
  del key
  places(arrays, value, axis)
  spread = float(np.std(numbers(arrays[value]))) or 1.0
  far = 1000 * spread if default_tolerance(arrays) < 1e-3 else 10 * spread  # half precisions have no digits for more
  for shift in (0.0, far, -far):
    given = changed(arrays, value, on_host(lambda a, shift=shift: (a + shift).astype(a.dtype)))
    values, out = numbers(given[value]), numbers(fn(*given))
    low, high = values.min(axis, keepdims=True), values.max(axis, keepdims=True)
    wanted = np.clip(out, *np.broadcast_arrays(low, high)) if low.shape == out.shape else np.clip(out, low, high)
    limit = default_tolerance(arrays) if tolerance is None else tolerance
    assert_same(out, wanted, limit, f"values moved by {shift:.3g}, output against their hull")


def _mean_of_values(values: Any, axis: int, out: Any) -> np.ndarray:
  host = numbers(values)
  return np.broadcast_to(host.mean(axis, keepdims=True), np.asarray(out).shape)


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
  same = on_host(lambda a: np.broadcast_to(np.take(a, [0], axis), a.shape))
  out = fn(*changed(arrays, keys, same))
  assert_same(out, _mean_of_values(arrays[value], axis, out), tolerance, "all keys equal", inputs=arrays)


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
  out = fn(*changed(arrays, query, on_host(np.zeros_like)))
  assert_same(out, _mean_of_values(arrays[value], axis, out), tolerance, "query set to zero", inputs=arrays)


@law("at zero temperature the output is the value of the best key", "Cordonnier et al. 2020, lemma 1")
def check_large_logits_select(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  axis: int = -2,
) -> None:
  """For `fn(query, key, value)` with dot products: queries are scaled until the best key leads by 100."""
  del key
  query, keys, value = (np.moveaxis(numbers(a), axis, -2) for a in arrays[:3])
  logits = query @ np.swapaxes(keys, -1, -2)
  ordered = np.sort(logits, -1)
  gap = (ordered[..., -1] - ordered[..., -2]).min()
  if gap <= 0:
    raise ValueError("two keys are equally good for a query; pass random numbers.")
  factor = 100 * query.shape[-1] ** 0.5 / gap
  best = np.take_along_axis(value, logits.argmax(-1)[..., None], -2)
  out = fn(*changed(arrays, 0, on_host(lambda a: (a * factor).astype(a.dtype))))
  assert_same(out, np.moveaxis(best, -2, axis), tolerance, f"queries times {factor:.3g}", inputs=arrays)


@law("keys and values given twice change nothing", SOFTMAX)
def check_duplicates_cancel(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, axis: int = -2, argnums: Argnums = (1, 2)
) -> None:
  """`fn(query, key, value)`: every key and value (`argnums`) appears twice along `axis`."""
  del key
  twice = fn(*changed(arrays, argnums, on_host(lambda a: np.concatenate([a, a], axis))))
  assert_same(twice, fn(*arrays), tolerance, "all keys and values twice", inputs=arrays)


@law("equal heads are one head over their values side by side", "Vaswani et al. 2017, section 3.2.2")
def check_equal_heads_merge(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, head_axis: int = -2
) -> None:
  """`fn(query, key, value)` with heads along `head_axis`: with the first head's query and key in all of them, every
  head's output is the first head's for that value."""
  del key
  query, keys, value = (np.asarray(a) for a in arrays[:3])
  equal = [jnp.asarray(np.broadcast_to(np.take(a, [0], head_axis), a.shape)) for a in (query, keys)]
  out = fn(*equal, value, *arrays[3:])
  for head in range(value.shape[head_axis]):
    alone = jnp.asarray(np.broadcast_to(np.take(value, [head], head_axis), value.shape))
    first = taken(fn(*equal, alone, *arrays[3:]), [0], head_axis)
    assert_same(taken(out, [head], head_axis), first, tolerance, f"head {head} against head 0", inputs=arrays)
