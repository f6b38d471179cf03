"""Two results side by side: how far they are apart, where, and how far they may be."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convattn.properties.laws import LawBroken

# Relative to the largest number of a result. In float32 it is 800 roundings (of half an epsilon), in float64 90,000: a
# chain of sums over some hundred terms stays far below. In the narrow dtypes, where sums run in float32 and each
# operation rounds once at its end, it is a dozen to twenty. A law that is broken is off by 1e-3 and more.
# On a GPU or TPU float32 products have such errors only under jax.default_matmul_precision("highest").
TOLERANCES = {"float64": 1e-11, "float32": 5e-5, "float16": 1e-2, "bfloat16": 5e-2}


def default_tolerance(*trees: Any) -> float:
  """That of the coarsest floating-point dtype among the leaves; 0 where there is none."""
  names = {str(leaf.dtype) for leaf in jax.tree.leaves(trees) if hasattr(leaf, "dtype")}
  return max((TOLERANCES[name] for name in names if name in TOLERANCES), default=0.0)


def numbers(leaf: Any) -> np.ndarray:
  """As float64 on the host."""
  return array(leaf).astype(np.float64)


def array(result: Any) -> np.ndarray:
  """On the host. Raises ValueError for a tree of several arrays, where a law is about one."""
  if len(jax.tree.leaves(result)) != 1 or not jax.tree_util.all_leaves([result]):
    raise ValueError(
      f"the function returns a {type(result).__name__} of {len(jax.tree.leaves(result))} arrays, but this law is about "
      f"one array: pass a function that returns that one."
    )
  return np.asarray(result)


def chosen(result: Any, output: int | None) -> Any:
  """Result number `output` of a function, or its only one. Raises ValueError where there is no such result."""
  if output is None:
    array(result)
    return result
  if not isinstance(result, tuple | list) or not -len(result) <= output < len(result):
    count = len(result) if isinstance(result, tuple | list) else f"no tuple but a {type(result).__name__}"
    raise ValueError(f"output is {output}, but the function returns {count} results; output counts from 0.")
  return result[output]


def assert_same(
  actual: Any,
  expected: Any,
  tolerance: float | None,
  when: str,
  *,
  exact: bool = False,
  inputs: Any = (),
  scale: float | None = None,
) -> None:
  """Raises LawBroken unless two trees of arrays agree.

  Args:
    actual: what was found.
    expected: what the law wants.
    tolerance: largest difference, relative to `scale`; if None, 0 where `exact`, else `default_tolerance`.
    when: what was done, for the message.
    exact: the law holds without rounding.
    inputs: arrays whose dtypes count for the default tolerance too.
    scale: the unit; if None, the largest finite magnitude in the pair of leaves.
  """
  leaves, structure = jax.tree_util.tree_flatten_with_path(actual)
  others, wanted = jax.tree.flatten(expected)
  if str(structure) != str(wanted):
    raise LawBroken(f"{when}: the results have the structures {structure} and {wanted}.")
  if tolerance is None:
    tolerance = 0.0 if exact else default_tolerance(actual, expected, inputs)
  for (path, leaf), other in zip(leaves, others, strict=True):
    _compare(f"output{jax.tree_util.keystr(path)}", numbers(leaf), numbers(other), tolerance, when, scale)


def _compare(name: str, a: np.ndarray, e: np.ndarray, tolerance: float, when: str, scale: float | None) -> None:
  if a.shape != e.shape:
    raise LawBroken(f"{when}: {name} has shape {list(a.shape)}, but must have {list(e.shape)}.", name)
  if a.size == 0:
    return
  with np.errstate(invalid="ignore"):
    error = np.where(a == e, 0.0, np.abs(a - e))
  error = np.where(np.isnan(error), np.inf, error)
  magnitudes = np.abs(np.concatenate([a.ravel(), e.ravel()]))
  unit = float(np.max(magnitudes, initial=0.0, where=np.isfinite(magnitudes))) if scale is None else scale
  if scale is None and tolerance >= 2:
    raise ValueError(f"tolerance is {tolerance:g}, but must be below 2: no two numbers differ by more of the larger.")
  worst = np.unravel_index(int(np.argmax(error)), error.shape)
  size = float(error[worst])
  if size > tolerance * unit:
    where = _place(name, worst)
    raise LawBroken(
      f"{when}: {_pair(where, a[worst], e[worst])}, off by {size:.3g} (tolerance {tolerance:.3g} of {unit:.3g})."
      if np.isfinite(size)
      else f"{when}: {_pair(where, a[worst], e[worst])}.",
      where,
      size,
      tolerance * unit,
    )


def _place(name: str, index: Any) -> str:
  return f"{name}[{', '.join(map(str, index))}]" if len(index) else name


def _pair(where: str, actual: float, expected: float) -> str:
  if np.isnan(actual) and np.isnan(expected):
    return f"{where} is not finite: nan, with and without the change"
  if not np.isfinite(actual):
    return f"{where} is not finite: {actual:g} where {expected:.6g} is wanted"
  if not np.isfinite(expected):
    return f"{where} is {actual:.6g}, but what it is compared with is not finite: {expected:g}"
  return f"at {where} it is {actual:.6g} where {expected:.6g} is wanted"


def assert_within(
  actual: np.ndarray, expected: np.ndarray, allowed: np.ndarray, when: str, why: str, name: str = "output"
) -> None:
  """Raises LawBroken unless |actual - expected| is at most what is `allowed` at that place, for the reason `why`."""
  with np.errstate(invalid="ignore"):
    excess = np.abs(actual - expected) / np.maximum(allowed, 1e-30)
  excess = np.where(np.isnan(excess), np.inf, excess)
  worst = np.unravel_index(int(np.argmax(excess)), excess.shape)
  if excess[worst] > 1:
    where, size = _place(name, worst), float(np.abs(actual[worst] - expected[worst]))
    size = math.inf if math.isnan(size) else size
    limit = float(np.broadcast_to(allowed, np.shape(actual))[worst])
    pair = _pair(where, actual[worst], expected[worst])
    text = f"{when}: {pair}, off by {size:.3g} ({limit:.3g} is allowed: {why})."
    raise LawBroken(text if math.isfinite(size) else f"{when}: {pair}.", where, size, limit)


def assert_differs(actual: Any, other: Any, threshold: float | None, when: str) -> None:
  """Raises LawBroken if two trees of arrays agree to `threshold` of their largest number (1e-3 if None, in half
  precisions their tolerance).

  Or if one of them is not finite, or their shapes differ: another fault than agreement, but no proof of the law.
  """
  threshold = max(1e-3, default_tolerance(actual, other)) if threshold is None else threshold
  largest = 0.0
  if str(jax.tree.structure(actual)) != str(jax.tree.structure(other)):
    raise LawBroken(f"{when}: the results have the structures {jax.tree.structure(actual)} and that changed.")
  for a, b in zip(map(numbers, jax.tree.leaves(actual)), map(numbers, jax.tree.leaves(other)), strict=True):
    if a.shape != b.shape:
      raise LawBroken(f"{when}: the results have shapes {a.shape} and {b.shape}.", "output", math.inf, threshold)
    if not np.all(np.isfinite(a) & np.isfinite(b)):
      raise LawBroken(f"{when}: a result is not finite.", "output", math.inf, threshold)
    largest = max(largest, float(np.max(np.abs(a - b), initial=0)) / max(float(np.max(np.abs(a), initial=0)), 1e-30))
  if largest <= threshold:
    raise LawBroken(
      f"{when}: the results differ by {largest:.3g} of their size at most, at every place of output (more than "
      f"{threshold:.3g} is wanted).",
      "output",
      largest,
      threshold,
    )


def assert_one_differs(pairs: Iterable[tuple[Any, Any]], threshold: float | None, when: str) -> None:
  """Raises LawBroken if no pair differs, as `assert_differs` of the last one. The others are looked at until one does,
  so that a single draw does not decide."""
  broken = None
  for actual, other in pairs:
    try:
      assert_differs(actual, other, threshold, when)
    except LawBroken as each:
      broken = each
    else:
      return
  if broken is not None:
    raise broken


def is_float(leaf: Any) -> bool:
  """Whether it is an array of floating-point numbers."""
  return hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jnp.floating))
