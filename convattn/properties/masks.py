"""What a mask hides."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from convattn.properties.comparison import assert_same, numbers
from convattn.properties.demands import Argnums, extent, floats, host, indices, places
from convattn.properties.drawing import changed, edited, generator, on_host, taken
from convattn.properties.laws import LawBroken, law


def _keep(arrays: Any, mask: int) -> np.ndarray:
  kept = host(arrays[indices(mask, arrays)[0]], "the mask")
  if kept.ndim > 2 and all(size == 1 for size in kept.shape[1:-1]):
    kept = kept.reshape(kept.shape[0], -1)
  if kept.ndim not in (1, 2):
    raise ValueError(f"the mask has shape {list(kept.shape)}, but must be [b, n], [n] or [b, 1, 1, n]: who is seen.")
  if kept.dtype != bool or kept.all() or not kept.any():
    raise ValueError(f"the mask is {kept.dtype}{list(kept.shape)}, but must be bool with both true (seen) and false.")
  return kept


def _over(kept: np.ndarray, a: Any, axis: int) -> np.ndarray:
  """A mask [n] or [b, n] so that it broadcasts over an array with tokens along `axis` and samples in front."""
  size = extent(a, axis, "an argument or a result")
  if kept.shape[-1] != size or (kept.ndim == 2 and kept.shape[0] not in (1, np.shape(a)[0])):
    raise ValueError(
      f"the mask has shape {list(kept.shape)}, but for an argument or a result of shape {list(np.shape(a))} it must be "
      f"[b, n] or [n] with {size} tokens along axis {axis}; out_masked=False is for outputs that are other tokens."
    )
  shape = [1] * np.ndim(a)
  shape[axis] = kept.shape[-1]
  if kept.ndim == 2:
    shape[0] = kept.shape[0]
  return kept.reshape(shape)


def _seen(tree: Any, kept: np.ndarray, axis: int) -> Any:
  """Results with those at hidden places set to zero."""

  def seen(leaf: Any) -> np.ndarray:
    there = np.asarray(leaf)
    return np.where(_over(kept, there, axis), there, np.zeros((), there.dtype))

  return jax.tree.map(seen, tree)


@law("a mask isolates: what it hides has no influence", "Vaswani et al. 2017, section 3.2.3")
def check_mask_isolates(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  argnums: Argnums = 0,
  mask: int = -1,
  axis: int = -2,
  out_masked: bool = True,
) -> None:
  """Edits the hidden places of `argnums`, in the end to content 30 times as large, which a soft mask lets through.

  The argument `mask` is bool [b, n], [n] or [b, 1, 1, n]: true is seen. The axis of the arguments named is `axis`,
  samples come first. Outputs at hidden places count only if `out_masked` is false: where queries are no masked tokens
  (cross-attention), or their outputs do not depend on them. Exact.
  """
  kept = _keep(arrays, mask)
  for index in indices(argnums, arrays):
    _over(kept, host(arrays[index], f"argument {index}"), axis)
  rng, result = generator(key), fn(*arrays)
  for size in (1, 1, 30, 30, 30, 30):  # a soft mask lets through what a query happens to point to
    other = fn(*changed(arrays, argnums, lambda a, size=size: edited(rng, a, ~_over(kept, a, axis), size)))
    then, now = (_seen(tree, kept, axis) if out_masked else tree for tree in (result, other))
    assert_same(now, then, tolerance, f"hidden places edited, {size} times as large", exact=True)


@law("masking the end equals cutting it off", "Vaswani et al. 2017, section 3.2.3")
def check_mask_is_truncation(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  argnums: Argnums = 0,
  mask: int = -1,
  axis: int = -2,
  out_masked: bool = True,
) -> None:
  """`fn` with the last third of the mask (bool [..., n]) hidden, and on the shorter arrays with nothing hidden.

  Outputs at hidden places are cut off too, unless `out_masked` is false (cross-attention).
  """
  del key
  seen = host(arrays[indices(mask, arrays)[0]], "the mask")
  size = places(arrays, argnums, axis, any_content=True)
  if seen.dtype != bool or not seen.ndim or seen.shape[-1] != size or size < 2:
    raise ValueError(
      f"the mask is {seen.dtype}{list(seen.shape)}, but must be bool [..., n] with the {size} places of the arguments "
      f"along axis {axis}, and at least 2."
    )
  short = size - max(size // 3, 1)
  padded = changed(arrays, mask, on_host(lambda a: np.broadcast_to(np.arange(size) < short, a.shape)))
  cut = changed(arrays, argnums, on_host(lambda a: np.take(a, np.arange(short), axis)))
  cut = changed(cut, mask, on_host(lambda a: np.ones((*a.shape[:-1], short), bool)))
  result = fn(*padded)
  result = taken(result, np.arange(short), axis, size) if out_masked else result
  assert_same(result, fn(*cut), tolerance, f"places {short} to {size - 1} hidden, and cut off", inputs=arrays)


@law("a mask stops even NaN: hidden content may be anything", "IEEE 754: 0 * NaN is NaN")
def check_mask_stops_nan(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  argnums: Argnums = 0,
  mask: int = -1,
  axis: int = -2,
) -> None:
  """Hidden places of `argnums` become NaN, and infinite; outputs at seen places must not change. `mask` is bool [b, n],
  [n] or [b, 1, 1, n]. Exact."""
  del key
  floats(arrays, argnums)
  kept = _keep(arrays, mask)
  result = _seen(fn(*arrays), kept, axis)
  for poison in (np.nan, np.inf, -np.inf):

    def poisoned(a: np.ndarray, poison: float = poison) -> np.ndarray:
      return np.where(_over(kept, a, axis), a, np.asarray(poison, a.dtype))

    other = _seen(fn(*changed(arrays, argnums, on_host(poisoned))), kept, axis)
    assert_same(other, result, tolerance, f"hidden places set to {poison}", exact=True)


@law("a query that may see nobody gives the stated result, and disturbs no other", "a convention that must be stated")
def check_fully_masked_row(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  mask: int = -1,
  axis: int = -2,
  policy: str = "zeros",
) -> None:
  """The last row of the argument `mask` (bool [..., q, k], true is seen) becomes false everywhere, and then the first.

  Along `axis` of the output that row is then 0 ("zeros"), 1 / k ("uniform", for a function that returns weights), or
  finite ("finite"). The other rows stay as they are.
  """
  del key
  if policy not in ("zeros", "uniform", "finite"):
    raise ValueError(f"policy is {policy!r}, but must be 'zeros', 'uniform' or 'finite'.")
  seen = host(arrays[indices(mask, arrays)[0]], "the mask")
  if seen.dtype != bool or seen.ndim < 2:
    raise ValueError(f"the mask is {seen.dtype}{list(seen.shape)}, but must be bool [..., q, k].")
  before, rows = fn(*arrays), np.arange(seen.shape[-2])
  for number in sorted({0, len(rows) - 1}, reverse=True):
    hidden = seen.copy()
    hidden[..., number, :] = False
    result = fn(*changed(arrays, mask, on_host(lambda _, hidden=hidden: hidden)))
    rest, when = rows[rows != number], f"query {number} may see nobody"
    then, now = (taken(tree, rest, axis, len(rows)) for tree in (before, result))
    assert_same(now, then, tolerance, f"{when}, other queries", inputs=arrays)
    row = taken(result, [number], axis)
    if not all(np.all(np.isfinite(numbers(leaf))) for leaf in jax.tree.leaves(row)):
      raise LawBroken(f"{when}: output[..., {number}, :] is not finite.", f"output[..., {number}, :]")
    if policy != "finite":
      wanted = 0.0 if policy == "zeros" else 1 / seen.shape[-1]
      expected = jax.tree.map(lambda leaf, wanted=wanted: np.full(leaf.shape, wanted), row)
      assert_same(row, expected, tolerance, f"{when}, its row", inputs=arrays, scale=1.0)
