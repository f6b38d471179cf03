"""The gradient against differences, for functions with kinks too: relu, max, sort and their like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convattn.properties.comparison import assert_same, numbers
from convattn.properties.demands import Argnums, indices, whole
from convattn.properties.drawing import changed, cotangent, generator, normal
from convattn.properties.gradients import demand_floats, differentiable
from convattn.properties.laws import LawBroken, law

Point = tuple[float, list[np.ndarray]]
"""The random sum of the results, and its gradient."""

LINES = ((1.0, 32), (1 / 8, 32), (1 / 64, 32), (1 / 512, 64))
"""Lines looked at closely: their length, as a multiple of that of the difference that did not agree, and their parts.

Shorter ones have fewer kinks, but more rounding.
"""

ALONG = 4e-3
"""Largest default tolerance along the gradient itself, where the difference is surest: less than a factor of 1.01."""


@law("the gradient is the slope: (f(x + h v) - f(x - h v)) / 2 h = grad f . v", "definition of the derivative")
def check_gradient_is_slope(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, argnums: Argnums = 0, directions: int = 6
) -> None:
  """In every floating-point array of `argnums` (trees too), along random directions, for a random sum of the results.

  The tolerance is relative to |gradient|, of v standard normal: 1e-2 in float32, 1e-5 in float64 if None. Along the
  gradient itself (twice, its entries times numbers from 0.5 to 1.5) it is relative to |gradient| |v|, and 4e-3 at most.

  Kinks (relu, clip, max, sort) are no fault: where a difference does not agree, the line is cut into parts. There the
  difference is the integral of the slope, whatever kinks lie between, up to what the trapezoidal rule makes of them. It
  must agree in half of the parts or in their sum, for one of four lengths of the line. Not for functions that jump.
  Narrower dtypes have no slope to speak of and are refused.
  """
  rng = generator(key)
  whole("directions", directions, 1)
  for argnum in indices(argnums, arrays):
    leaves, rebuilt = differentiable(arrays[argnum])
    kinds = {str(leaf.dtype) for leaf in leaves}
    if not kinds or not kinds <= {"float32", "float64"}:
      raise ValueError(f"argument {argnum} has {sorted(kinds) or 'no'} floats, but must be float32 or float64.")

    def result(those: Any, argnum: int = argnum, rebuilt: Any = rebuilt) -> Any:
      return fn(*changed(arrays, argnum, lambda _: rebuilt(those)))

    out, pull = jax.vjp(result, leaves)
    demand_floats(out)
    weights = cotangent(rng, out)
    slopes = [numbers(slope) for slope in pull(weights)[0]]
    wide = kinds | {str(leaf.dtype) for leaf in jax.tree.leaves(out)} == {"float64"}
    step = float(np.finfo(np.float64 if wide else np.float32).eps ** (1 / 3))
    limit = (1e-5 if wide else 1e-2) if tolerance is None else tolerance
    line = _Line(result, leaves, weights, step)
    size = _norm(slopes)
    for _ in range(directions):
      line.check([numbers(normal(rng, leaf)) for leaf in leaves], slopes, limit, f"argument {argnum}")
    for _ in range(2 if 0 < size < np.inf else 0):
      v = [slope * rng.uniform(0.5, 1.5, slope.shape) for slope in slopes]
      v = [each * min(np.sqrt(sum(e.size for e in v)) / _norm(v), 3 / _largest(v)) for each in v]
      line.check(v, slopes, (min(limit, ALONG) if tolerance is None else limit) * _norm(v), f"argument {argnum}")


def _norm(leaves: Sequence[np.ndarray]) -> float:
  return float(np.sqrt(sum(float(np.sum(leaf**2)) for leaf in leaves)))


def _largest(leaves: Sequence[np.ndarray]) -> float:
  return max(float(np.abs(leaf).max(initial=0)) for leaf in leaves)


def _dot(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float:
  return sum(float(np.sum(left * right)) for left, right in zip(a, b, strict=True))


class _Line:
  """phi(t) = weights . result(x + t v), and its slope."""

  def __init__(self, result: Callable[[Any], Any], leaves: Sequence[Any], weights: Any, step: float):
    self.result, self.leaves, self.weights, self.step = result, leaves, weights, step

  def at(self, v: Sequence[np.ndarray], t: float) -> list[jax.Array]:
    """The point, rounded as its dtype wants it."""
    return [jnp.asarray((numbers(x) + t * d).astype(x.dtype)) for x, d in zip(self.leaves, v, strict=True)]

  def total(self, out: Any) -> float:
    """In float64 on the host."""
    return sum(jax.tree.leaves(jax.tree.map(lambda w, o: float(np.sum(numbers(w) * numbers(o))), self.weights, out)))

  def check(self, v: Sequence[np.ndarray], slopes: Sequence[np.ndarray], limit: float, what: str) -> None:
    """Raises LawBroken where neither the difference over the whole line agrees nor parts of a shorter one, up to
    `limit` times the gradient's norm."""
    ahead, back = self.at(v, self.step), self.at(v, -self.step)
    moved = [numbers(a) - numbers(b) for a, b in zip(ahead, back, strict=True)]
    difference = jax.tree.map(lambda a, b: numbers(a) - numbers(b), self.result(ahead), self.result(back))
    when = f"gradient in {what} along a random direction against differences"
    scale = 2 * self.step * limit * _norm(slopes)
    wanted, found = _dot(slopes, moved), self.total(difference)
    try:
      assert_same(np.asarray(wanted), np.asarray(found), 1.0, when, scale=scale)
    except LawBroken:
      if not np.isfinite(wanted + found) or not any(self.agrees(v, each * self.step, n, limit) for each, n in LINES):
        raise

  def agrees(self, v: Sequence[np.ndarray], reach: float, parts: int, limit: float) -> bool:
    """Whether differences over the parts of a line from -reach to reach are integrals of the slope.

    In half of the parts, those without a kink, or in their sum, where what is wrong at many kinks cancels.
    """
    errors = []
    places = [self.at(v, float(t)) for t in np.linspace(-reach, reach, parts + 1)]
    points = [self.point(place) for place in places]
    for before, after, here, there in zip(places[:-1], places[1:], points[:-1], points[1:], strict=True):
      moved = [numbers(a) - numbers(b) for a, b in zip(after, before, strict=True)]
      errors.append(there[0] - here[0] - (_dot(here[1], moved) + _dot(there[1], moved)) / 2)
    # At a point of kinks alone the gradient may be 0.
    allowed = 2 * reach * limit * float(np.median([_norm(slopes) for _, slopes in points]))
    return bool(np.median(np.abs(errors)) <= allowed / parts or abs(sum(errors)) <= allowed)

  def point(self, place: list[jax.Array]) -> Point:
    out, pull = jax.vjp(self.result, place)
    return self.total(out), [numbers(slope) for slope in pull(self.weights)[0]]
