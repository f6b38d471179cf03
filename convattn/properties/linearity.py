"""Sums, multiples, signs and shifts of the input."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import numpy as np

from convattn.properties.comparison import array, assert_one_differs, assert_same, default_tolerance, numbers
from convattn.properties.demands import Argnums, extents, finite, floats, host, indices, not_zero, varied, whole
from convattn.properties.drawing import changed, generator, on_host, redrawn, rounded, step
from convattn.properties.laws import LawBroken, law


def _sums(fn: Any, arrays: Any, argnums: Argnums, rng: np.random.Generator, size: float) -> tuple[Any, Any, float]:
  """f(x + y) + f(0), f(x) + f(y), and the largest number among the terms; y is `size` times as large as x."""
  not_zero(arrays, argnums)
  others = changed(arrays, argnums, lambda a: redrawn(rng, a) * np.asarray(size, a.dtype))
  chosen = indices(argnums, arrays)
  total = [a + b if i in chosen else a for i, (a, b) in enumerate(zip(arrays, others, strict=True))]
  nothing = changed(arrays, argnums, on_host(np.zeros_like))
  terms = [jax.tree.map(numbers, fn(*these)) for these in (total, nothing, arrays, others)]
  scale = max(float(np.abs(leaf).max(initial=0)) for leaf in jax.tree.leaves(terms))
  left, right = (jax.tree.map(np.add, *pair) for pair in (terms[:2], terms[2:]))
  return left, right, scale


@law("the layer is affine in its input: f(x + y) + f(0) = f(x) + f(y)", "Cordonnier et al. 2020: position-only heads")
def check_affine(fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, argnums: Argnums = 0) -> None:
  """In `argnums` together, y drawn, small and large.

  Convolutions, dense layers and attention by positions alone are, with a bias or without.
  """
  limit = default_tolerance(fn(*arrays), arrays) if tolerance is None else tolerance
  for size in (1.0, 30.0):
    left, right, scale = _sums(fn, arrays, argnums, generator(key), size)
    assert_same(left, right, limit, f"f(x + y) + f(0) against f(x) + f(y), y {size:g} times as large", scale=scale)


@law("the layer is not affine in its input: f(x + y) + f(0) is not f(x) + f(y)", "Vaswani et al. 2017: content weights")
def check_not_affine(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, argnums: Argnums = 0
) -> None:
  """The opposite of check_affine: both must differ by more than `tolerance`, for one of 16 draws, small and large.

  1e-3 of the result if None, in half precisions as much as they round.
  """
  rng = generator(key)
  limit = max(1e-3, default_tolerance(fn(*arrays), arrays)) if tolerance is None else tolerance
  pairs = (_sums(fn, arrays, argnums, rng, size)[:2] for size in (1.0, 30.0) * 8)
  assert_one_differs(pairs, limit, "f(x + y) + f(0) against f(x) + f(y)")


@law("multiples pass through: f(a x) = a f(x)", "definition of homogeneity; ReLU and max pooling for a > 0")
def check_homogeneous(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, argnums: Argnums = 0, positive: bool = False
) -> None:
  """For a = 0, 0.37, 2, 50 and, unless `positive`, -1.5, of all `argnums` together. A bias breaks it."""
  del key
  floats(arrays, argnums)
  not_zero(arrays, argnums)
  result = fn(*arrays)
  for factor in (2.0, 0.37, 0.0, 50.0) if positive else (2.0, 0.37, 0.0, 50.0, -1.5):
    other = fn(*changed(arrays, argnums, on_host(lambda a, factor=factor: (a * factor).astype(a.dtype))))
    expected = jax.tree.map(lambda leaf, factor=factor: factor * numbers(leaf), result)
    limit = default_tolerance(result, arrays) if tolerance is None else tolerance
    assert_same(other, expected, limit, f"the input times {factor}")


@law("the sign passes through: f(-x) = -f(x)", "definition of an odd function; Ba et al. 2016; Liu et al. 2022")
def check_odd(fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, argnums: Argnums = 0) -> None:
  """For normalisations without bias and for logarithmic coordinates; f(0) = 0 is asked too."""
  del key
  not_zero(arrays, argnums)
  result, other = fn(*arrays), fn(*changed(arrays, argnums, on_host(np.negative)))
  assert_same(other, jax.tree.map(lambda leaf: -numbers(leaf), result), tolerance, "input negated", inputs=arrays)
  nothing = fn(*changed(arrays, argnums, on_host(np.zeros_like)))
  scale = max(float(np.abs(numbers(leaf)).max(initial=0)) for leaf in jax.tree.leaves(result))
  zeros = jax.tree.map(lambda leaf: np.zeros(np.shape(leaf)), nothing)
  assert_same(nothing, zeros, tolerance, "input zero", inputs=arrays, scale=scale)


@law("larger inputs never give smaller outputs", "definition; log-coordinates of Liu et al. 2022")
def check_monotone(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, argnums: Argnums = 0
) -> None:
  """All of `argnums` grow, each element by its own positive draw, small and large, from five points (one far out)."""
  rng = generator(key)
  floats(arrays, argnums)
  lower = [list(arrays), *(changed(arrays, argnums, lambda a: redrawn(rng, a)) for _ in range(3))]
  lower.append(changed(arrays, argnums, lambda a: redrawn(rng, a) * 10))
  for given, size in itertools.product(lower, (0.01, 0.1, 1.0, 10.0)):
    result = fn(*given)

    def larger(a: np.ndarray, size: float = size) -> np.ndarray:
      return (a + size * rng.uniform(0.1, 1, a.shape)).astype(a.dtype)

    other = fn(*changed(given, argnums, on_host(larger)))
    wanted = jax.tree.map(lambda now, before: np.maximum(numbers(now), numbers(before)), other, result)
    assert_same(other, wanted, tolerance, f"inputs larger by up to {size}", inputs=arrays)


def _sliced(rng: np.random.Generator, array: np.ndarray, axes: Any, low: float, high: float) -> np.ndarray:
  """Draws from low to high that are constant along `axes`."""
  extents(array, axes, "an argument")
  shape = [1 if axis in {each % array.ndim for each in axes} else size for axis, size in enumerate(array.shape)]
  return rng.uniform(low, high, shape)


@law("positive multiples of a slice do not matter: f(a x) = f(x)", "Ba et al. 2016; cosine attention, Liu et al. 2022")
def check_scale_invariant(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  argnums: Argnums = 0,
  axes: tuple[int, ...] = (-1,),
) -> None:
  """Multiplies every slice along `axes` by a number of its own from 1 to 4 (an epsilon counts less then).

  LayerNorm and cosine similarities: (-1,). BatchNorm in training: all axes but the channels.
  """
  floats(arrays, argnums)
  not_zero(arrays, argnums)
  rng, result = generator(key), fn(*arrays)
  scaled = on_host(lambda a: (a * _sliced(rng, a, axes, 1.0, 4.0)).astype(a.dtype))
  assert_same(fn(*changed(arrays, argnums, scaled)), result, tolerance, "slices multiplied", inputs=arrays)


@law("a number added to a whole slice does not matter: f(x + c) = f(x)", "Ba et al. 2016; Ioffe & Szegedy 2015")
def check_shift_invariant(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  argnums: Argnums = 0,
  axes: tuple[int, ...] = (-1,),
) -> None:
  """Adds to every slice along `axes` a number of its own, up to three times the input's spread.

  The input is cut to digits that the sum has too, so that nothing is rounded before `fn` sees it.
  """
  rng = generator(key)
  floats(arrays, argnums)
  for index in indices(argnums, arrays):
    varied(arrays[index], f"argument {index}")

  def cut(a: np.ndarray) -> np.ndarray:
    return rounded(numbers(a), step(a, 3 * numbers(a).std())).astype(a.dtype)

  def shifted(a: np.ndarray) -> np.ndarray:
    spread = numbers(a).std()
    by = rounded(_sliced(rng, a, axes, -3, 3) * spread, step(a, 3 * spread))
    return (numbers(cut(a)) + by).astype(a.dtype)

  result = fn(*changed(arrays, argnums, on_host(cut)))
  moved = fn(*changed(arrays, argnums, on_host(shifted)))
  assert_same(moved, result, tolerance, "a number added to every slice", inputs=arrays)


@law(
  "outputs have mean 0 and variance v / (v + epsilon) over the axes normalised", "Ba et al. 2016; Ioffe & Szegedy 2015"
)
def check_standardised(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  axes: tuple[int, ...] = (-1,),
  epsilon: float = 1e-5,
) -> None:
  """For a normalisation with scale 1 and bias 0. The variance is the mean squared deviation."""
  del key
  finite("epsilon", epsilon, 0.0)
  x = numbers(host(arrays[0], "argument 0"))
  extents(x, axes, "argument 0")
  if not x.var(axes).any():
    raise ValueError(f"argument 0 is the same all along axes {axes}, but must not be: there is nothing to divide by.")
  out = fn(*arrays)
  if array(out).shape != x.shape:
    raise LawBroken(f"output has shape {list(array(out).shape)}, but must have {list(x.shape)}, that of its input.")
  limit = default_tolerance(out, arrays) if tolerance is None else tolerance
  mean = numbers(out).mean(axes)
  assert_same(mean, np.zeros_like(mean), limit, f"means over {axes}", scale=1.0)
  variance = x.var(axes)
  wanted = variance / (variance + epsilon)
  assert_same(numbers(out).var(axes), wanted, limit, f"variances over {axes}", scale=1.0)


def singular_values(matrix: Any) -> np.ndarray:
  """[..., min(m, n)], the largest first. Raises LawBroken where the matrix is not finite."""
  wide = numbers(matrix)
  if wide.ndim < 2:
    raise ValueError(f"the result has shape {list(wide.shape)}, but must be a matrix [..., m, n].")
  if not np.all(np.isfinite(wide)):
    raise LawBroken("the matrix is not finite.")
  return np.linalg.svd(wide, compute_uv=False)


@law("the matrix has a rank of at most r", "Cordonnier et al. 2020: W_V W_O of a head; low-rank products")
def check_rank_at_most(fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, rank: int) -> None:
  """`fn` returns [..., m, n]: singular values after the first `rank` are 0, relative to the largest."""
  del key
  matrix = fn(*arrays)
  values = singular_values(matrix)
  if whole("rank", rank, 0) >= values.shape[-1]:
    raise ValueError(f"rank is {rank}, but must be less than the {values.shape[-1]} singular values there are.")
  beyond = values[..., rank:]
  limit = default_tolerance(matrix, arrays) if tolerance is None else tolerance
  assert_same(beyond, np.zeros_like(beyond), limit, f"singular values after {rank}", scale=float(values.max(initial=0)))


@law("the largest singular value is 1", "Miyato et al. 2018, spectral normalisation")
def check_spectral_norm_one(fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None) -> None:
  """`fn` returns the normalised matrix [m, n]. The tolerance is 0.01 if None: power iterations converge slowly."""
  del key
  values = singular_values(fn(*arrays))[..., 0]
  limit = 0.01 if tolerance is None else tolerance
  assert_same(values, np.ones_like(values), limit, "largest singular values", scale=1.0)
