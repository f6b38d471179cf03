"""What goes into the softmax: logits, biases, and what the softmax does with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convattn.properties.comparison import assert_same, default_tolerance, numbers
from convattn.properties.drawing import Argnums, changed, generator, on_host
from convattn.properties.laws import law

SOFTMAX = "definition of the softmax"


def _chosen(result: Any, output: int | None) -> Any:
  """The weights among a function's results."""
  return result if output is None else result[output]


@law("adding a number to all logits of a row changes nothing, softmax(z + c) = softmax(z)", SOFTMAX)
def check_logit_shift_invariant(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  axis: int = -1,
  argnums: Argnums = 0,
  sizes: Sequence[float] = (1.0, -30.0, 100.0),
) -> None:
  """Adds numbers as large as each of `sizes` to the logits or bias (`argnums`), constant along `axis`.

  Rounding of z + c is allowed for: the tolerance grows with |c| (float32: 2e-6 at 100 for logits of size 1).
  """
  rng, result = generator(key), fn(*arrays)
  for size in sizes:

    def shifted(a: np.ndarray, size: float = size) -> np.ndarray:
      shape = list(a.shape)
      shape[axis] = 1
      return (a + size * rng.uniform(0.5, 1, shape)).astype(a.dtype)

    moved = fn(*changed(arrays, argnums, on_host(shifted)))
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

  def copied(a: np.ndarray, axis: int) -> np.ndarray:
    return np.concatenate([*[np.take(a, [0], axis)] * (copies - 1), a], axis)

  longer = changed(arrays, argnums, on_host(lambda a: copied(a, axis)))
  longer = changed(longer, bias, on_host(lambda a: copied(a, -1)))

  def raised(a: np.ndarray) -> np.ndarray:
    return (a + np.log(copies) * (np.arange(a.shape[-1]) == 0).reshape([1] * (a.ndim - 1) + [-1])).astype(a.dtype)

  other = fn(*changed(arrays, bias, on_host(raised)))
  assert_same(fn(*longer), other, tolerance, f"the first key {copies} times", inputs=arrays)


@law("a bias enters before the softmax, weights(B) ~ weights(0) exp(B) in every row", "Dai et al. 2021, eq. 3 (pre)")
def check_bias_before_softmax(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, bias: int = -1, output: int | None = None
) -> None:
  """`fn(..., bias)` returns weights [..., q, k] (as result number `output`); the bias broadcasts against them."""
  del key
  with_bias = _chosen(fn(*arrays), output)
  without = numbers(_chosen(fn(*changed(arrays, bias, on_host(np.zeros_like))), output))
  wanted = without * np.exp(numbers(arrays[bias]))
  wanted /= wanted.sum(-1, keepdims=True)
  assert_same(with_bias, wanted, tolerance, "weights with the bias against weights without", inputs=arrays)


@law("a bias adds to the logits: logits(B) - logits(0) = B whatever the content", "Shaw et al. 2018; Dai et al. 2021")
def check_bias_adds(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, bias: int = -1, output: int | None = None
) -> None:
  """`fn(..., bias)` returns logits [..., q, k] (as result number `output`); the bias broadcasts against them."""
  del key
  with_bias = _chosen(fn(*arrays), output)
  without = numbers(_chosen(fn(*changed(arrays, bias, on_host(np.zeros_like))), output))
  assert_same(with_bias, without + numbers(arrays[bias]), tolerance, "logits with the bias", inputs=arrays)


@law("logits of unit normal queries and keys have variance 1", "Vaswani et al. 2017, section 3.2.1")
def check_logit_variance(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, argnums: Argnums = (0, 1), draws: int = 64
) -> None:
  """`fn(query, key)` returns logits; draws both standard normal. The tolerance is 0.2 if None, for width 3 and more."""
  rng = generator(key)
  seen = [
    numbers(fn(*changed(arrays, argnums, on_host(lambda a: rng.standard_normal(a.shape).astype(a.dtype)))))
    for _ in range(draws)
  ]
  variance = np.asarray(np.var(np.stack(seen)))
  limit = 0.2 if tolerance is None else tolerance
  assert_same(variance, np.ones(()), limit, f"variance over {draws} draws", scale=1.0)


@law("logits of tokens with themselves are symmetric", "XX' is a Gram matrix; Wang et al. 2018, Non-local")
def check_symmetric(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, axes: tuple[int, int] = (-2, -1)
) -> None:
  """`fn` returns logits [..., n, n] of parameter-free attention, or of tied queries and keys."""
  del key
  logits = fn(*arrays)
  assert_same(logits, np.swapaxes(np.asarray(logits), *axes), tolerance, "against the transpose", inputs=arrays)


@law("logits of tokens with themselves have no negative eigenvalue", "XX' is a Gram matrix")
def check_positive_semidefinite(fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None) -> None:
  """`fn` returns logits [..., n, n]; eigenvalues of their symmetric part are at least -tolerance times the largest."""
  del key
  logits = numbers(fn(*arrays))
  values = np.linalg.eigvalsh((logits + np.swapaxes(logits, -1, -2)) / 2)
  limit = default_tolerance(arrays) if tolerance is None else tolerance
  assert_same(np.maximum(values, 0), values, limit, "eigenvalues against 0")


@law("logits stay within a bound", "Bahdanau et al. 2015 (the sum of abs(v)); cosine attention (its scale)")
def check_bounded(fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, bound: float) -> None:
  """|fn| <= bound for the arrays given, and for arrays a thousand times as large."""
  del key
  for factor in (1, 1000):
    out = fn(*(jnp.asarray(a) * factor for a in arrays))
    inside = jax.tree.map(lambda leaf: np.clip(numbers(leaf), -bound, bound), out)
    assert_same(out, inside, tolerance, f"arrays times {factor}, against the bound {bound:.4g}", inputs=arrays)
