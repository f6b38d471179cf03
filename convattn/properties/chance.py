"""Random numbers: the key decides them, evaluation has none, they keep the mean, each example has its own."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convattn.properties.calling import demand_key
from convattn.properties.comparison import assert_differs, assert_same, assert_within, default_tolerance, numbers
from convattn.properties.demands import Argnums, extent, extents, finite, floats, indices, whole
from convattn.properties.drawing import changed, generator, on_host
from convattn.properties.laws import LawBroken, law

RATE = 0.01
"""The rarest event that checks look for, if they are told of no other."""

CHANCE = 1e-6
"""No verdict is wrong by chance more often."""


def keys_for(rate: float | None) -> int:
  """How many draws show an event of this rate with a probability of all but CHANCE: log(CHANCE) / log(1 - rate).

  1375 for 0.01. An event of rate 0.99 is one of 0.01 that does not happen.
  """
  rate = RATE if rate is None else finite("rate", rate, 0.0, exclusive=True)
  if rate >= 1:
    raise ValueError(f"rate is {rate:g}, but must be below 1: what always happens is no chance.")
  return max(16, math.ceil(math.log(CHANCE) / math.log1p(-min(rate, 1 - rate))))


def _seeds(key: Any, number: int) -> list[int]:
  """Of keys that fn may use up. Legacy keys become typed ones."""
  return [int(seed) for seed in generator(key).integers(0, 2**31, number)]


def _results(fn: Any, arrays: Any, seeds: list[int], plain: int) -> Iterator[tuple[Any, Any]]:
  """Pairs of the result of each seed's key and of the first: by fn itself, after `plain` ones compiled if that can be.

  Compiled results are compared with compiled ones, since compilation changes the last digits.
  """
  first = fn(*arrays, key=jax.random.key(seeds[0]))
  for seed in seeds[1:plain]:
    yield fn(*arrays, key=jax.random.key(seed)), first
  if len(seeds) <= plain:
    return
  called: Callable[..., Any] = jax.jit(lambda key: fn(*arrays, key=key))
  try:
    first = called(jax.random.key(seeds[0]))
  except Exception:  # a function of NumPy, or whatever else cannot be traced
    called = lambda key: fn(*arrays, key=key)  # noqa: E731
  for seed in seeds[plain:]:
    yield called(jax.random.key(seed)), first


@law("random numbers come from the key alone: the same one gives the same, another gives others", "jax.random")
def check_key_decides(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, rate: float | None = None
) -> None:
  """`fn(*arrays, key=key)`: twice with one key (exact), then with others until one differs, by more than `tolerance` of
  the result (0 if None).

  So many others that a dropout of this `rate` (0.01 if None) shows in one of them but for one case in a million, even
  if it is a single decision: 1375 for 0.01, most often a few are enough.
  """
  demand_key(fn)
  seeds = _seeds(key, 1 + keys_for(rate))
  first = fn(*arrays, key=jax.random.key(seeds[0]))
  assert_same(fn(*arrays, key=jax.random.key(seeds[0])), first, 0.0, "the same key again")
  for other, one in _results(fn, arrays, seeds, plain=24):
    try:
      assert_differs(other, one, tolerance or 0.0, "another key")
    except LawBroken:
      continue
    return
  raise LawBroken(f"{len(seeds) - 1} other keys give the same result as the first.", "output", 0.0)


def _reads_key(fn: Any, arrays: Any) -> bool:
  """Whether the result depends on the key in a way that JAX sees; False is certain."""
  unmapped = jax.vmap(lambda key: fn(*arrays, key=key), out_axes=None)
  try:
    jax.eval_shape(unmapped, jax.vmap(jax.random.key)(jnp.arange(2)))
  except Exception:  # a result is mapped, or cannot be traced
    return True
  return False


@law("without training there is no randomness: the key does not matter", "Srivastava et al. 2014; Huang et al. 2016")
def check_key_ignored(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, rate: float | None = None
) -> None:
  """`fn(*arrays, key=key)` in evaluation, or with a rate of 0: exact for sixteen keys.

  Where the result is computed from the key nevertheless, for so many that a dropout of this `rate` (0.01 if None) shows
  but for one case in a million: 1375.
  """
  demand_key(fn)
  seeds = _seeds(key, 1 + keys_for(rate) if _reads_key(fn, arrays) else 16)
  for other, first in _results(fn, arrays, seeds, plain=16):
    assert_same(other, first, tolerance, "another key", exact=True)


@law("every example draws for itself: equal examples differ for some key", "Huang et al. 2016, per example as in timm")
def check_draws_per_example(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  axis: int = 0,
  argnums: Argnums = 0,
  rate: float | None = None,
) -> None:
  """`fn(*arrays, key=key)` where all examples of `argnums` along `axis` are the first one: any two outputs differ for
  one of the keys at least, by more than `tolerance` of the result (that of the dtype if None).

  One draw of stochastic depth for a whole batch breaks it. So many keys that a draw of this `rate` (0.01 if None) of
  either of two examples shows but for one case in a million.
  """
  demand_key(fn)
  floats(arrays, argnums)
  sizes = {extent(arrays[index], axis, f"argument {index}") for index in indices(argnums, arrays)}
  if len(sizes) != 1 or max(sizes) < 2:
    raise ValueError(f"the arguments have {sorted(sizes)} examples along axis {axis}, but must have 2 at least.")
  size = sizes.pop()
  equal = changed(arrays, argnums, on_host(lambda a: np.broadcast_to(np.take(a, [0], axis), a.shape)))
  alike = ~np.eye(size, dtype=bool)
  seeds = _seeds(key, 1 + keys_for(rate))
  for result, _ in _results(fn, equal, [seeds[0], *seeds], plain=24):
    for leaf in jax.tree.leaves(result):
      extents(leaf, (axis,), "a result")
      rows = np.moveaxis(numbers(leaf), axis, 0).reshape(np.shape(leaf)[axis], -1)
      if len(rows) != size:
        raise ValueError(f"a result has {len(rows)} examples along axis {axis}, but must have {size}.")
      limit = (default_tolerance(leaf) if tolerance is None else tolerance) * np.abs(rows).max(initial=0)
      for number in np.flatnonzero(alike.any(1)):
        alike[number] &= ~(np.abs(rows - rows[number]).max(1) > limit)
    if not alike.any():
      return
  one, other = np.argwhere(alike)[0]
  raise LawBroken(
    f"examples {one} and {other}, made equal, give the same for {len(seeds)} keys.", f"output[{other}]", 0.0
  )


@law("in the mean over keys, training does what evaluation does", "Srivastava et al. 2014, inverted dropout")
def check_expectation(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  evaluation: Any,
  draws: int | None = None,
  rate: float | None = None,
) -> None:
  """The mean of `fn(*arrays, key=key)` (vmapped) over `draws` keys is evaluation(*arrays), to some standard errors.

  Of so many outputs none is off by chance in a million checks: six standard errors of one, seven of a thousand, and
  more where what is dropped was seen a few times only. `draws` is 2000 if None, or as many as drop twenty times at this
  `rate`. For layers linear in what they drop.
  """
  demand_key(fn)
  draws = max(2000, math.ceil(1.45 * keys_for(rate))) if draws is None else whole("draws", draws, 2)
  drawn = jax.vmap(lambda each: fn(*arrays, key=each))(jax.random.split(jax.random.key(_seeds(key, 1)[0]), draws))
  expected = jax.tree.leaves(evaluation(*arrays))
  if len(expected) != len(jax.tree.leaves(drawn)):
    raise LawBroken(f"there are {len(jax.tree.leaves(drawn))} results, but {len(expected)} of the evaluation.")
  if not any(np.any(numbers(leaf)) for leaf in [*expected, *jax.tree.leaves(drawn)]):
    raise ValueError("all results are 0, with any key and in evaluation, but must not be; pass random numbers.")
  for number, (leaf, wanted) in enumerate(zip(jax.tree.leaves(drawn), map(numbers, expected), strict=True)):
    host = numbers(leaf)
    when = f"mean of result {number} over {draws} keys"
    if host.shape[1:] != wanted.shape:
      raise LawBroken(f"result {number} has shape {list(host.shape[1:])}, but must have {list(wanted.shape)}.")
    rounding = (default_tolerance(leaf, arrays) if tolerance is None else tolerance) * np.abs(wanted).max(initial=0)
    error = standard_error(host)
    # A place that was never dropped has no spread, so the spread of all counts too.
    error = far(wanted.size) * np.maximum(error, error.mean()) + rounding
    why = f"{far(wanted.size):.2g} standard errors and rounding"
    assert_within(host.mean(0), wanted, error, when, why)
    # All places together show a factor that is smaller than the errors of one place.
    together = (host * wanted[None]).reshape(draws, -1).sum(1)
    error = far(1) * standard_error(together) + rounding * np.abs(wanted).sum()
    name = f"the sum over all places of result {number} times that of evaluation"
    assert_within(together.mean(), np.square(wanted).sum(), error, when, f"{far(1):.2g} standard errors", name)


def far(count: int) -> float:
  """How many standard errors none of so many normal means exceeds, but in a thousandth of CHANCE: 6.1 for one.

  A thousandth, because means of rare events are not quite normal.
  """
  return -statistics.NormalDist().inv_cdf(CHANCE / 2000 / max(count, 1))


def standard_error(host: np.ndarray) -> np.ndarray:
  """Of the mean over the first axis. As if 24 more of the n numbers were a whole range away: of an event that has
  happened a few times only, the spread found is often too small."""
  return np.asarray(np.sqrt((host.var(0) + 24 * np.square(np.ptp(host, axis=0)) / len(host)) / len(host)))
