"""Who may see whom: the past, one's own window, one's own sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convattn.properties.comparison import assert_one_differs, assert_same
from convattn.properties.demands import Argnums, floats, grid_axes, indices, places, whole
from convattn.properties.drawing import DRAWS, along, changed, cotangent, cuts, edited, generator, separations, taken
from convattn.properties.laws import law


def _lagging(size: int, lag: int) -> int:
  """The size. Raises ValueError where the lag hides nothing."""
  whole("lag", lag, 2 - size, f"with {size} places and a smaller one every output may see every input")
  return size


@law("no output sees a later input: editing the future leaves the past as it is", "Vaswani et al. 2017, section 3.2.3")
def check_causal(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  axis: int = -2,
  argnums: Argnums = 0,
  lag: int = 0,
) -> None:
  """Edits all inputs from some place on, for up to 64 places; outputs before it (up to `lag` places later) must stay.

  lag 0: output i sees inputs up to i; lag 1: up to i - 1 (a strictly causal layer). Exact unless a tolerance is given.
  """
  rng, result = generator(key), fn(*arrays)
  size = _lagging(places(arrays, argnums, axis), lag)
  for cut in cuts(size):
    kept = np.arange(min(cut + lag, size))
    if not len(kept):
      continue
    future = np.arange(size) >= cut
    later = fn(*changed(arrays, argnums, lambda a, future=future: edited(rng, a, along(a, axis, future))))
    when = f"inputs from place {cut} of axis {axis} on edited, outputs before place {len(kept)} compared"
    then, now = (taken(tree, kept, axis, size) for tree in (result, later))
    assert_same(now, then, tolerance, when, exact=True)


@law("no output has a slope in a later input: the Jacobian is block-triangular", "van den Oord et al. 2016, WaveNet")
def check_causal_jacobian(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  axis: int = -2,
  argnums: Argnums = 0,
  lag: int = 0,
) -> None:
  """As check_causal, by gradients: that of output i in every input after i (with `lag` 1, also i) is exactly 0."""
  rng = generator(key)
  chosen = indices(argnums, arrays)
  size = _lagging(places(arrays, argnums, axis), lag)
  floats(arrays, argnums)

  def of_chosen(*these: Any) -> Any:
    given = dict(zip(chosen, these, strict=True))
    return fn(*(given.get(i, a) for i, a in enumerate(arrays)))

  result, pull = jax.vjp(of_chosen, *(jnp.asarray(arrays[i]) for i in chosen))
  taken(result, [], axis, size)
  for i in cuts(size):
    direction = jax.tree.map(
      lambda leaf, i=i: jnp.where(along(leaf, axis, np.arange(size) == i), leaf, jnp.zeros_like(leaf)),
      cotangent(rng, result),
    )
    slopes = pull(direction)
    ahead = np.flatnonzero(np.arange(size) > i - lag)
    late = [taken(slope, ahead, axis) for slope in slopes]
    scale = max(float(np.max(np.abs(np.asarray(slope, np.float64)), initial=0)) for slope in slopes)
    when = f"gradient of output {i} in the inputs from place {i + 1 - lag} of axis {axis} on"
    assert_same(late, [np.zeros_like(each) for each in late], tolerance, when, exact=True, scale=scale)


@law("every output sees its own input", "Vaswani et al. 2017, section 3.2.3: up to and including its position")
def check_sees_itself(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  axis: int = -2,
  argnums: Argnums = 0,
) -> None:
  """Edits the inputs `argnums` at one place of `axis`, for up to 64 places: the output there must change.

  By more than `tolerance` of it (1e-3 if None), for one of 64 draws. A causal mask that hides the token itself, which
  no law about the future sees, breaks it.
  """
  rng, result = generator(key), fn(*arrays)
  size = places(arrays, argnums, axis)
  for place in cuts(size):
    there = np.arange(size) == place
    others = (
      fn(*changed(arrays, argnums, lambda a, t=there, s=s: edited(rng, a, along(a, axis, t), s))) for s in DRAWS
    )
    then = taken(result, [place], axis, size)
    pairs = ((taken(other, [place], axis, size), then) for other in others)
    assert_one_differs(pairs, tolerance, f"input {place} of axis {axis} edited, output {place} compared")


@law("samples do not see each other: editing one leaves the others' outputs as they are", "Ba et al. 2016, section 3")
def check_batch_independent(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, axis: int = 0, argnums: Argnums = 0
) -> None:
  """Edits one sample of `argnums` along `axis` after another (of more than 16 many at once, so that each is edited
  without any other). Exact unless a tolerance is given."""
  rng, result = generator(key), fn(*arrays)
  size = places(arrays, argnums, axis)
  for there in separations(size):
    other = fn(*changed(arrays, argnums, lambda a, there=there: edited(rng, a, along(a, axis, there))))
    rest = np.flatnonzero(~there)
    when = f"samples {np.flatnonzero(there).tolist()} edited, samples {rest.tolist()} compared"
    then, now = (taken(tree, rest, axis, size) for tree in (result, other))
    assert_same(now, then, tolerance, when, exact=True)


@law("windows do not see each other: editing one leaves the outputs of the others as they are", "Liu et al. 2021, Swin")
def check_windows_isolated(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  window: int,
  axes: Sequence[int] | None = None,
) -> None:
  """Edits all windows with one place along an axis, for each place. `window` places long, from place 0 on; an
  axis with a single window has none to compare. Exact."""
  rng, result = generator(key), fn(*arrays)
  whole("window", window, 1)
  sizes = {axis: places(arrays, 0, axis) for axis in grid_axes(arrays, axes)}
  if max(sizes.values()) <= window:
    raise ValueError(f"window is {window}, but the axes have {sizes} places; more than one window is needed.")
  for axis, size in sizes.items():
    count = -(-size // window)
    if count < 2:
      continue
    for numbers in separations(count):
      there = numbers[np.arange(size) // window]
      other = fn(*changed(arrays, 0, lambda a, there=there, axis=axis: edited(rng, a, along(a, axis, there))))
      rest = np.flatnonzero(~there)
      when = f"windows {np.flatnonzero(numbers).tolist()} of axis {axis} edited, the others compared"
      assert_same(taken(other, rest, axis), taken(result, rest, axis), tolerance, when, exact=True)
