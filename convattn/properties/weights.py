"""What attention's weights are."""

from __future__ import annotations

from typing import Any

import numpy as np

from convattn.properties.comparison import assert_one_differs, assert_same, chosen, default_tolerance, is_float, numbers
from convattn.properties.demands import Argnums, extent, varied, whole
from convattn.properties.drawing import changed, generator, redrawn
from convattn.properties.laws import SOFTMAX, LawBroken, law


@law("every row of weights is a distribution: nothing below 0, sum 1", SOFTMAX)
def check_rows_stochastic(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, axis: int = -1, output: int | None = None
) -> None:
  """`fn` returns weights, or has them as its result number `output`; the sum runs over `axis`."""
  del key
  weights = chosen(fn(*arrays), output)
  limit = default_tolerance(weights) if tolerance is None else tolerance
  host = numbers(weights)
  extent(host, axis, "the result")
  assert_same(host, np.maximum(host, 0), limit, "weights against 0", scale=1.0)
  total = host.sum(axis)
  assert_same(total, np.ones_like(total), limit, f"sums over axis {axis}", scale=1.0)


@law("the result depends on positions alone, not on the content", "Cordonnier et al. 2020, section 3")
def check_content_independent(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, argnums: Argnums = 0
) -> None:
  """For a bias or weights: draws other content of `argnums`, five times, and takes its negative too.

  Exact unless a tolerance is given.
  """
  rng, result = generator(key), fn(*arrays)
  for _ in range(5):
    drawn = changed(arrays, argnums, lambda a: redrawn(rng, a))
    for given in (drawn, changed(drawn, argnums, lambda a: -a if is_float(a) else a)):
      assert_same(fn(*given), result, tolerance, "other content drawn", exact=True)


@law("the content matters: other content gives other results", "Vaswani et al. 2017")
def check_content_matters(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, argnums: Argnums = 0
) -> None:
  """The opposite of check_content_independent: they must differ by more than `tolerance` (1e-3 if None), for one of 64
  draws."""
  rng, result = generator(key), fn(*arrays)
  others = (fn(*changed(arrays, argnums, lambda a: redrawn(rng, a))) for _ in range(64))
  assert_one_differs(((other, result) for other in others), tolerance, "other content drawn")


@law("weights of symmetric logits are a reversible walk: some diag(z) makes them symmetric", "detailed balance")
def check_detailed_balance(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, output: int | None = None
) -> None:
  """For weights [..., n, n] > 0 of softmax(XX'): log(A_ij / A_ji) = u_j - u_i, so that the log ratios add up."""
  del key
  weights = chosen(fn(*arrays), output)
  host = numbers(weights)
  if host.ndim < 2 or host.shape[-1] != host.shape[-2]:
    raise ValueError(f"the result has shape {list(host.shape)}, but must be [..., n, n].")
  if host.shape[-1] < 3:
    raise ValueError(
      f"the weights are {host.shape[-1]} x {host.shape[-1]}, but must be 3 x 3 at least: no other break."
    )
  varied(host, "the result")
  if np.any(host <= 0):
    raise LawBroken("a weight is not positive.")
  ratio = np.log(host) - np.swapaxes(np.log(host), -1, -2)
  potential = ratio[..., :, :1]
  limit = default_tolerance(weights, arrays) if tolerance is None else tolerance
  scale = float(np.abs(np.log(host)).max())
  assert_same(ratio, potential - np.swapaxes(potential, -1, -2), limit, "log ratios around triangles", scale=scale)


@law("weights over a grid are those along rows times those along columns", "quadratic and row + column logits add up")
def check_weights_separate(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  grid: tuple[int, int],
  output: int | None = None,
) -> None:
  """`fn` returns weights [..., h w, h w] of the `grid` (h, w): A = A_rows (x) A_columns."""
  del key
  weights = chosen(fn(*arrays), output)
  if len(grid) != 2 or min(whole("a size of the grid", each, 1) for each in grid) < 2:
    raise ValueError(f"grid is {grid}, but must have two sizes of at least 2: over a line all weights separate.")
  h, w = grid
  host = numbers(weights)
  if host.shape[-2:] != (h * w, h * w):
    raise ValueError(f"the result has shape {list(host.shape)}, but must be [..., {h * w}, {h * w}] for {grid}.")
  varied(host, "the result")
  apart = host.reshape(*host.shape[:-2], h, w, h, w)
  rows, columns = apart.sum(-1)[..., :, 0, :], apart.sum(-2)[..., 0, :, :]
  expected = np.einsum("...yv,...xu->...yxvu", rows, columns).reshape(host.shape)
  assert_same(weights, expected, tolerance, f"against rows times columns of {h}x{w}", inputs=arrays)
