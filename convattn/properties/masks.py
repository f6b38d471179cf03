"""What a mask hides."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convattn.properties.comparison import assert_same, numbers
from convattn.properties.drawing import Argnums, changed, edited, generator, indices, taken
from convattn.properties.laws import LawBroken, law


def _keep(arrays: Any, mask: int) -> np.ndarray:
  kept = np.asarray(arrays[indices(mask, arrays)[0]])
  if kept.dtype != bool or kept.all() or not kept.any():
    raise ValueError(f"the mask is {kept.dtype}{list(kept.shape)}, but must be bool with both true (seen) and false.")
  return kept


def _over(kept: np.ndarray, a: Any, axis: int) -> np.ndarray:
  """A mask [n] or [b, n] so that it broadcasts over an array with tokens along `axis` and samples in front."""
  shape = [1] * np.ndim(a)
  shape[axis] = kept.shape[-1]
  if kept.ndim == 2:
    shape[0] = kept.shape[0]
  return kept.reshape(shape)


def _seen(tree: Any, kept: np.ndarray, axis: int) -> Any:
  """Results with those at hidden places set to zero."""

  def seen(leaf: Any) -> np.ndarray:
    host = np.asarray(leaf)
    return np.where(_over(kept, host, axis), host, np.zeros((), host.dtype))

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
  """Edits the hidden places of `argnums`, last to content 30 times as large, which a soft mask lets through.

  The argument `mask` is bool [b, n], or [n]: true is seen. The axis of the arguments named is `axis`, samples come
  first. Outputs at hidden places count only if `out_masked` is false: where queries are not the masked tokens
  (cross-attention), or their outputs do not depend on them. Exact.
  """
  rng, result = generator(key), fn(*arrays)
  kept = _keep(arrays, mask)

  for size in (1, 1, 30):
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
  host = np.asarray(arrays[indices(mask, arrays)[0]])
  size = host.shape[-1]
  short = size - max(size // 3, 1)
  padded = changed(arrays, mask, lambda _: jnp.asarray(np.broadcast_to(np.arange(size) < short, host.shape)))
  cut = changed(arrays, argnums, lambda a: jnp.asarray(taken(a, np.arange(short), axis)))
  cut = changed(cut, mask, lambda _: jnp.ones((*host.shape[:-1], short), bool))
  result = fn(*padded)
  result = taken(result, np.arange(short), axis) if out_masked else result
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
  """Hidden places of `argnums` become NaN, and infinite; outputs at seen places must not change. `mask` is bool [b, n]
  or [n]. Exact."""
  del key
  kept = _keep(arrays, mask)
  result = _seen(fn(*arrays), kept, axis)
  for poison in (np.nan, np.inf, -np.inf):

    def poisoned(a: Any, poison: float = poison) -> jax.Array:
      return jnp.where(_over(kept, a, axis), a, jnp.asarray(poison, a.dtype))

    other = _seen(fn(*changed(arrays, argnums, poisoned)), kept, axis)
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
  seen = np.array(arrays[indices(mask, arrays)[0]])
  if seen.dtype != bool or seen.ndim < 2:
    raise ValueError(f"the mask is {seen.dtype}{list(seen.shape)}, but must be bool [..., q, k].")
  before, rows = fn(*arrays), np.arange(seen.shape[-2])
  for number in sorted({0, len(rows) - 1}, reverse=True):
    hidden = seen.copy()
    hidden[..., number, :] = False
    result = fn(*changed(arrays, mask, lambda _, hidden=hidden: jnp.asarray(hidden)))
    rest, when = rows[rows != number], f"query {number} may see nobody"
    then, now = (taken(tree, rest, axis) for tree in (before, result))
    assert_same(now, then, tolerance, f"{when}, other queries", inputs=arrays)
    row = taken(result, [number], axis)
    if not all(np.all(np.isfinite(numbers(leaf))) for leaf in jax.tree.leaves(row)):
      raise LawBroken(f"{when}: output[..., {number}, :] is not finite.", f"output[..., {number}, :]")
    if policy != "finite":
      wanted = 0.0 if policy == "zeros" else 1 / seen.shape[-1]
      expected = jax.tree.map(lambda leaf, wanted=wanted: np.full(leaf.shape, wanted), row)
      assert_same(row, expected, tolerance, f"{when}, its row", inputs=arrays, scale=1.0)
