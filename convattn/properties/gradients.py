"""Gradients: that both modes agree, that every parameter has one, that a closed gate hides the others."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convattn.properties.comparison import assert_same, default_tolerance, is_float, numbers
from convattn.properties.demands import Argnums, indices
from convattn.properties.drawing import changed, cotangent, generator, normal, on_host
from convattn.properties.laws import LawBroken, law


def _name(path: Any) -> str:
  """Such as params/query/kernel."""
  parts = [getattr(part, "key", getattr(part, "name", getattr(part, "idx", part))) for part in path]
  return "/".join(map(str, parts)) or "the argument"


def differentiable(tree: Any) -> tuple[list[Any], Any]:
  """The floating-point leaves, and a function that puts others in their place."""
  leaves, structure = jax.tree.flatten(tree)
  chosen = [i for i, leaf in enumerate(leaves) if is_float(leaf)]

  def rebuilt(those: Sequence[Any]) -> Any:
    new = list(leaves)
    for i, leaf in zip(chosen, those, strict=True):
      new[i] = leaf
    return jax.tree.unflatten(structure, new)

  return [jnp.asarray(leaves[i]) for i in chosen], rebuilt


def demand_floats(result: Any) -> None:
  for leaf in jax.tree.leaves(result):
    if not is_float(leaf):
      kind = getattr(leaf, "dtype", type(leaf).__name__)
      raise ValueError(f"a result is {kind}, but must be floating-point to have gradients; return the others alone.")


def named_floats(arrays: Any, argnum: int) -> None:
  if not differentiable(arrays[argnum])[0]:
    raise ValueError(f"argument {argnum} has no floating-point array, but must have one to have a gradient.")


def slopes_of(fn: Any, arrays: Any, argnum: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
  """Largest gradients come from a random sum of all results: by name, of every floating-point leaf of an argument."""
  tree = arrays[argnum]
  leaves, rebuilt = differentiable(tree)
  names = [_name(path) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0] if is_float(leaf)]
  result, pull = jax.vjp(lambda those: fn(*changed(arrays, argnum, lambda _: rebuilt(those))), leaves)
  demand_floats(result)
  (slopes,) = pull(cotangent(rng, result))
  return dict(zip(names, map(numbers, slopes), strict=True))


@law("every parameter has an influence", "a parameter without a gradient is never trained")
def check_every_parameter_used(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, parameters: int = 0, allow: Sequence[str] = ()
) -> None:
  """The argument `parameters` is a tree: each array in it has a gradient that is neither 0 nor rounding alone.

  Rounding is what is small beside the largest gradient and another one after a nudge of all arrays: what stays is small
  for a reason, as behind a LayerScale of 1e-6. With `tolerance` a gradient is wanted of more than it times the largest.

  `allow` has names of those that need none, such as "*/key/bias" (it shifts all logits of a query alike); * matches
  anything, and a pattern also the end of a name. A pattern that matches nothing is a ValueError, and so is a stale one:
  all that it matches has a gradient beyond the first limit.
  """
  rng, argnum = generator(key), indices(parameters, arrays)[0]
  slopes = slopes_of(fn, arrays, argnum, rng)
  if not slopes:
    raise ValueError(f"argument {parameters} has no array of floating-point numbers; name the parameters' argument.")
  idle = {name for pattern in allow for name in slopes if _matches(name, pattern)}
  for pattern in allow:
    if not any(_matches(name, pattern) for name in slopes):
      raise ValueError(f"allow has {pattern!r}, but the parameters are {', '.join(slopes)}.")
  for name, slope in slopes.items():
    if not np.all(np.isfinite(slope)):
      raise LawBroken(f"the gradient of {name} is not finite.", name)
  largest = {name: float(np.abs(slope).max(initial=0)) for name, slope in slopes.items()}
  limit = (64 * _digits(arrays) if tolerance is None else tolerance) * max(largest.values())
  unused = {name: size for name, size in largest.items() if size <= limit and name not in idle}
  if tolerance is None and any(unused.values()):
    noisy = _noise(fn, arrays, argnum, slopes, key)
    unused = {name: size for name, size in unused.items() if size == 0 or noisy[name]}
  for pattern in allow:
    if all(size > limit for name, size in largest.items() if _matches(name, pattern)):
      raise ValueError(f"allow has {pattern!r}, but must name what has no influence: all that it matches is used.")
  if unused:
    worst = min(unused, key=lambda name: unused[name])
    raise LawBroken(
      f"{', '.join(unused)}: the largest gradient of {worst} is {unused[worst]:.3g} (more than {limit:.3g} is wanted, "
      f"or a gradient that is no rounding error).",
      worst,
      unused[worst],
      limit,
    )


def _digits(arrays: Any) -> float:
  """The coarsest epsilon among the arrays."""
  return max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(list(arrays)) if is_float(leaf))


def _noise(fn: Any, arrays: Any, argnum: int, slopes: dict[str, np.ndarray], key: Any) -> dict[str, bool]:
  """Which gradients change by more than half of themselves where all arrays are moved by the root of an epsilon."""
  nudge, far = generator(key).spawn(1)[0], _digits(arrays) ** 0.5
  changes = dict.fromkeys(slopes, 0.0)
  sizes = {name: float(np.linalg.norm(slope)) for name, slope in slopes.items()}

  def nudged(leaf: Any) -> Any:
    if not is_float(leaf):
      return leaf
    host = numbers(leaf)
    return jnp.asarray((host + far * np.abs(host) * nudge.standard_normal(host.shape)).astype(leaf.dtype))

  for _ in range(4):
    others = slopes_of(fn, jax.tree.map(nudged, list(arrays)), argnum, generator(key))
    for name, slope in slopes.items():
      changes[name] = max(changes[name], float(np.linalg.norm(others[name] - slope)))
      sizes[name] = max(sizes[name], float(np.linalg.norm(others[name])))
  return {name: changes[name] > sizes[name] / 2 for name in slopes}


def _matches(name: str, pattern: str) -> bool:
  return fnmatch.fnmatchcase(name, pattern) or name == pattern or name.endswith("/" + pattern)


@law("behind a gate at zero only the gate learns at first", "Zhang et al. 2019, SAGAN: gamma starts at 0")
def check_only_gate_learns(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, gate: int = -1, argnums: Argnums = 0
) -> None:
  """With the argument `gate` at 0, its gradient is not 0, and those of `argnums` (the branch's parameters) are."""
  rng = generator(key)
  for argnum in (*indices(gate, arrays), *indices(argnums, arrays)):
    named_floats(arrays, argnum)
  closed = changed(arrays, gate, lambda tree: jax.tree.map(on_host(np.zeros_like), tree))
  own = slopes_of(fn, closed, indices(gate, arrays)[0], rng)
  if not any(np.abs(slope).max(initial=0) > 0 for slope in own.values()):
    raise LawBroken("the gate has no gradient.", "gate", 0.0)
  for argnum in indices(argnums, arrays):
    for name, slope in slopes_of(fn, closed, argnum, rng).items():
      when = f"gradient of argument {argnum} ({name}) behind the gate"
      assert_same(slope, np.zeros_like(slope), tolerance, when, exact=True, scale=1.0)


@law("forward and reverse derivatives agree: w . (J v) = (J' w) . v", "definition of the transpose")
def check_jvp_is_vjp(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, argnums: Argnums = 0
) -> None:
  """In every floating-point array of `argnums` (trees too). For functions with both derivatives."""
  rng = generator(key)
  for argnum in indices(argnums, arrays):
    named_floats(arrays, argnum)
    leaves, rebuilt = differentiable(arrays[argnum])

    def result(those: Any, argnum: int = argnum, rebuilt: Any = rebuilt) -> Any:
      return fn(*changed(arrays, argnum, lambda _: rebuilt(those)))

    v = [normal(rng, leaf) for leaf in leaves]
    out, moved = jax.jvp(result, (leaves,), (v,))
    demand_floats(out)
    weights = cotangent(rng, out)
    (slopes,) = jax.vjp(result, leaves)[1](weights)
    pairs = jax.tree.leaves(jax.tree.map(lambda w, m: (numbers(w) * numbers(m)).ravel(), weights, moved))
    forward = np.concatenate(pairs)
    backward = np.concatenate([(numbers(s) * numbers(d)).ravel() for s, d in zip(slopes, v, strict=True)])
    scale = max(float(np.abs(forward).sum()), float(np.abs(backward).sum()))
    limit = default_tolerance(out, leaves) if tolerance is None else tolerance
    assert_same(forward.sum(), backward.sum(), limit, f"argument {argnum}, w . (J v) against (J' w) . v", scale=scale)


@law("rematerialisation changes memory alone: jax.checkpoint has the same gradients", "jax.checkpoint's documentation")
def check_checkpoint_agrees(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, argnums: Argnums = 0
) -> None:
  """Results and gradients of jax.checkpoint(fn) against those of fn, for a random sum of the results."""
  rng = generator(key)
  for argnum in indices(argnums, arrays):
    named_floats(arrays, argnum)
    leaves, rebuilt = differentiable(arrays[argnum])

    def result(those: Any, argnum: int = argnum, rebuilt: Any = rebuilt) -> Any:
      return fn(*changed(arrays, argnum, lambda _: rebuilt(those)))

    out, pull = jax.vjp(result, leaves)
    demand_floats(out)
    again, pull_again = jax.vjp(jax.checkpoint(result), leaves)
    weights = cotangent(rng, out)
    assert_same(again, out, tolerance, "results under jax.checkpoint", inputs=leaves)
    assert_same(again, fn(*arrays), tolerance, "results under jax.checkpoint and without gradients", inputs=leaves)
    assert_same(pull_again(weights), pull(weights), tolerance, f"gradients in argument {argnum}", inputs=leaves)
