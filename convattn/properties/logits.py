"""What goes into the softmax: logits, biases, and what the softmax does with them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from convattn.properties.chance import far, standard_error
from convattn.properties.comparison import (
  array,
  assert_same,
  assert_within,
  chosen,
  default_tolerance,
  is_float,
  numbers,
)
from convattn.properties.demands import (
  Argnums,
  extent,
  extents,
  finite,
  floats,
  indices,
  not_zero,
  places,
  varied,
  whole,
)
from convattn.properties.drawing import changed, generator, on_host, redrawn, rounded, step
from convattn.properties.laws import SOFTMAX, LawBroken, law


@law("adding a number to all logits of a row changes nothing, softmax(z + c) = softmax(z)", SOFTMAX)
def check_logit_shift_invariant(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  axis: int = -1,
  argnums: Argnums = 0,
  sizes: Sequence[float] | None = None,
) -> None:
  """Adds numbers as large as each of `sizes` to the logits or bias (`argnums`), constant along `axis`.

  1, -30 and 100, or in half precisions 1, -4 and 8. The logits are cut to digits that the sum has too. Rounding after
  that is allowed for: the tolerance grows with |c| (float32: 2e-6 at 100 for logits of size 1).
  """
  rng, narrow = generator(key), default_tolerance(arrays) > 1e-3
  floats(arrays, argnums)
  for index in indices(argnums, arrays):
    extent(arrays[index], axis, f"argument {index}")
  for size in sizes or ():
    finite("the magnitude in sizes", abs(size), 0.0, exclusive=True)
  for size in sizes or ((1.0, -4.0, 8.0) if narrow else (1.0, -30.0, 100.0)):

    def cut(a: np.ndarray, size: float = size) -> np.ndarray:
      return rounded(numbers(a), step(a, abs(size))).astype(a.dtype)

    def shifted(a: np.ndarray, size: float = size) -> np.ndarray:
      shape = list(a.shape)
      shape[axis] = 1
      by = rounded(size * rng.uniform(0.5, 1, shape), step(a, abs(size)))
      return (numbers(cut(a, size)) + by).astype(a.dtype)

    result, moved = (fn(*changed(arrays, argnums, on_host(change))) for change in (cut, shifted))
    limit = default_tolerance(result, arrays) * max(1.0, abs(size) / 30) if tolerance is None else tolerance
    assert_same(moved, result, limit, f"numbers up to {size} added")


@law("a key given m times is a key with log m more logit", SOFTMAX)
def check_copies_add_log_bias(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  axis: int = -2,
  argnums: Argnums = (1, 2),
  bias: int = -1,
  copies: int = 3,
) -> None:
  """`fn(query, key, value, bias [..., q, k])`: the first key `copies` times, or its bias larger by log(copies)."""
  del key
  whole("copies", copies, 2, "one copy changes nothing")
  floats(arrays, bias)
  size, table = places(arrays, argnums, axis, any_content=True), arrays[indices(bias, arrays)[0]]
  if extent(table, -1, "the bias") != size:
    raise ValueError(f"the bias has shape {list(np.shape(table))}, but must be [..., {size}] for {size} keys.")

  def copied(a: np.ndarray, axis: int) -> np.ndarray:
    return np.concatenate([*[np.take(a, [0], axis)] * (copies - 1), a], axis)

  longer = changed(arrays, argnums, on_host(lambda a: copied(a, axis)))
  longer = changed(longer, bias, on_host(lambda a: copied(a, -1)))

  def raised(a: np.ndarray) -> np.ndarray:
    return (a + np.log(copies) * (np.arange(a.shape[-1]) == 0).reshape([1] * (a.ndim - 1) + [-1])).astype(a.dtype)

  other = fn(*changed(arrays, bias, on_host(raised)))
  assert_same(fn(*longer), other, tolerance, f"the first key {copies} times", inputs=arrays)


def _broadcast(bias: Any, result: np.ndarray) -> None:
  """Raises ValueError where a bias does not broadcast against the result."""
  shape = np.shape(bias)
  if len(shape) > result.ndim or any(a not in (1, b) for a, b in zip(shape[::-1], result.shape[::-1], strict=False)):
    raise ValueError(
      f"the bias has shape {list(shape)}, but must broadcast against the result, whose shape is {list(result.shape)}."
    )


@law("a bias enters before the softmax, weights(B) ~ weights(0) exp(B) in every row", "Dai et al. 2021, eq. 3 (pre)")
def check_bias_before_softmax(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, bias: int = -1, output: int | None = None
) -> None:
  """`fn(..., bias)` returns weights [..., q, k] (as result number `output`); the bias broadcasts against them."""
  del key
  places(arrays, bias, -1)
  with_bias = chosen(fn(*arrays), output)
  without = numbers(chosen(fn(*changed(arrays, bias, on_host(np.zeros_like))), output))
  _broadcast(arrays[indices(bias, arrays)[0]], without)
  wanted = without * np.exp(numbers(arrays[bias]))
  wanted /= wanted.sum(-1, keepdims=True)
  assert_same(with_bias, wanted, tolerance, "weights with the bias against weights without", inputs=arrays)


@law("a bias adds to the logits: logits(B) - logits(0) = B whatever the content", "Shaw et al. 2018; Dai et al. 2021")
def check_bias_adds(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, bias: int = -1, output: int | None = None
) -> None:
  """`fn(..., bias)` returns logits [..., q, k] (as result number `output`); the bias broadcasts against them."""
  del key
  not_zero(arrays, bias)
  with_bias = chosen(fn(*arrays), output)
  without = numbers(chosen(fn(*changed(arrays, bias, on_host(np.zeros_like))), output))
  _broadcast(arrays[indices(bias, arrays)[0]], without)
  assert_same(with_bias, without + numbers(arrays[bias]), tolerance, "logits with the bias", inputs=arrays)


@law("logits of unit normal queries and keys have variance 1", "Vaswani et al. 2017, section 3.2.1")
def check_logit_variance(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, argnums: Argnums = (0, 1), draws: int = 512
) -> None:
  """`fn(query, key)` returns logits [..., q, k]; draws both standard normal. Each head and sample for itself.

  The variance is 1 up to `tolerance`, 0.05 if None, and some standard errors (of the draws' mean squares): so many as
  none is off by chance in a million checks.
  """
  rng = generator(key)
  whole("draws", draws, 2)
  floats(arrays, argnums)
  seen = [
    numbers(fn(*changed(arrays, argnums, on_host(lambda a: rng.standard_normal(a.shape).astype(a.dtype)))))
    for _ in range(draws)
  ]
  if seen[0].ndim < 2:
    raise ValueError(f"the result has shape {list(seen[0].shape)}, but must be logits [..., q, k].")
  squares = np.square(np.stack(seen) - np.mean(seen, (0, -2, -1), keepdims=True)[0]).mean((-2, -1))
  error = far(seen[0].size) * standard_error(squares) + (0.05 if tolerance is None else tolerance)
  mean = squares.mean(0)
  when, why = f"variance over {draws} draws", f"{far(seen[0].size):.2g} standard errors and the tolerance"
  assert_within(mean, np.ones_like(mean), error, when, why)


@law("logits of tokens with themselves are symmetric", "XX' is a Gram matrix; Wang et al. 2018, Non-local")
def check_symmetric(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, axes: tuple[int, int] = (-2, -1)
) -> None:
  """`fn` returns logits [..., n, n] of parameter-free attention, or of tied queries and keys."""
  del key
  logits = array(fn(*arrays))
  if len(axes) != 2 or len(set(extents(logits, axes, "the result"))) != 1:
    raise ValueError(f"the result has shape {list(logits.shape)}, but must be as long along both axes of {axes}.")
  varied(logits, "the result")
  assert_same(logits, np.swapaxes(logits, *axes), tolerance, "against the transpose", inputs=arrays)


@law("logits of tokens with themselves have no negative eigenvalue", "XX' is a Gram matrix")
def check_positive_semidefinite(fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None) -> None:
  """`fn` returns logits [..., n, n]; eigenvalues of their symmetric part are at least -tolerance times the largest."""
  del key
  result = fn(*arrays)
  logits = numbers(result)
  if not np.all(np.isfinite(logits)):
    raise LawBroken("a logit is not finite.")
  if logits.ndim < 2 or logits.shape[-1] != logits.shape[-2]:
    raise ValueError(f"the result has shape {list(logits.shape)}, but must be [..., n, n].")
  values = np.linalg.eigvalsh((logits + np.swapaxes(logits, -1, -2)) / 2)
  if not logits.any():
    raise ValueError(
      "the result is 0 everywhere, but must not be for this law to be able to fail; pass random numbers."
    )
  limit = default_tolerance(result, arrays) if tolerance is None else tolerance
  assert_same(values, np.maximum(values, 0), limit, "eigenvalues")


@law("logits stay within a bound", "Bahdanau et al. 2015 (the sum of abs(v)); cosine attention (its scale)")
def check_bounded(fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, bound: float) -> None:
  """|fn| <= bound for the arrays given, and for others of their spread, each also a thousand times as large."""
  rng = generator(key)
  finite("bound", bound, 0.0)
  others = [[redrawn(rng, a) if is_float(a) else a for a in arrays] for _ in range(4)]
  for given, factor in itertools.product([list(arrays), *others], (1, 1000)):
    larger = on_host(lambda a, factor=factor: (a * np.asarray(factor, a.dtype)).astype(a.dtype))
    out = fn(*(larger(a) if is_float(a) else a for a in given))
    inside = jax.tree.map(lambda leaf: np.clip(numbers(leaf), -bound, bound), out)
    assert_same(out, inside, tolerance, f"arrays times {factor}, against the bound {bound:.4g}", inputs=arrays)
