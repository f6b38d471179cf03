"""What JAX does to a function, and what other precisions and repeated calls do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convattn.properties.comparison import assert_same, default_tolerance, is_float, numbers
from convattn.properties.demands import Argnums, finite, floats, indices, whole
from convattn.properties.drawing import as_seen, changed, generator, on_host, redrawn
from convattn.properties.laws import LawBroken, law


@law("compiled and eager results agree", "jax.jit's documentation")
def check_jit_agrees(fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None) -> None:
  """jax.jit(fn) on the arrays given, and again on others of the same shapes, against fn."""
  rng, compiled = generator(key), jax.jit(fn)
  other = [redrawn(rng, a) if is_float(a) else a for a in arrays]
  for given, what in ((arrays, "the arrays given"), (other, "other arrays")):
    eager = fn(*given)  # first, so that what a call leaves behind is there when fn is traced
    assert_same(compiled(*given), eager, tolerance, f"jitted on {what}", inputs=arrays)


@law("vmap is a loop", "jax.vmap's documentation")
def check_vmap_agrees(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, argnums: Argnums = 0
) -> None:
  """jax.vmap(fn) over a new leading axis of `argnums` (three arrays, two of them drawn) against a loop."""
  rng, chosen = generator(key), indices(argnums, arrays)
  examples = [list(arrays), *(changed(arrays, argnums, lambda a: redrawn(rng, a)) for _ in range(2))]
  stacked = [jnp.stack([jnp.asarray(e[i]) for e in examples]) if i in chosen else a for i, a in enumerate(arrays)]
  axes = [0 if i in chosen else None for i in range(len(arrays))]
  loop = [jax.tree.map(np.asarray, fn(*each)) for each in examples]
  expected = jax.tree.map(lambda *leaves: np.stack(leaves), *loop)
  assert_same(jax.vmap(fn, in_axes=axes)(*stacked), expected, tolerance, "vmapped over 3 examples", inputs=arrays)


@law("two implementations agree", "both compute the same equation")
def check_agrees(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, reference: Any, argnums: Argnums = ()
) -> None:
  """fn = reference on the arrays given, and with `argnums` drawn anew three times.

  For another blocking, a gather, a library's form.
  """
  rng = generator(key)
  if getattr(fn, "__wrapped__", fn) is getattr(reference, "__wrapped__", reference):
    raise ValueError("the reference is the function itself, but must be another implementation.")
  assert_same(fn(*arrays), reference(*arrays), tolerance, "the arrays given", inputs=arrays)
  for _ in range(3 if argnums != () else 0):
    other = changed(arrays, argnums, lambda a: redrawn(rng, a))
    assert_same(fn(*other), reference(*other), tolerance, "other arrays", inputs=arrays)


@law("the same arguments give the same result", "pure functions; jax.random's documentation")
def check_deterministic(fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, calls: int = 5) -> None:
  """Calls fn `calls` times. Exact unless a tolerance is given."""
  del key
  whole("calls", calls, 2, "one call has nothing to be compared with")
  first = jax.tree.map(np.array, fn(*arrays))
  for number in range(2, calls + 1):
    assert_same(fn(*arrays), first, tolerance, f"call {number} against call 1", exact=True)


@law("the dtype of the input is that of the output", "jax's promotion of types")
def check_dtype_kept(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  dtypes: Sequence[str] = ("bfloat16", "float32"),
) -> None:
  """Casts all floating-point arrays (in trees too) to each of `dtypes`; every result has that dtype and is finite."""
  del key, tolerance
  if not dtypes or not any(is_float(leaf) for leaf in jax.tree.leaves(list(arrays))):
    raise ValueError(f"dtypes is {dtypes!r:.40}, but there must be one, and a floating-point array to cast to it.")
  for name in dtypes:
    try:
      dtype = jnp.dtype(name)
    except TypeError:
      raise ValueError(f"dtypes has {name!r}, but must have names such as 'float32'.") from None
    if not jnp.issubdtype(dtype, jnp.floating) or (dtype == np.float64 and jnp.result_type(float) != np.float64):
      raise ValueError(f"dtypes has {name!r}, but must have floating-point types; float64 needs jax.enable_x64.")
    given = jax.tree.map(lambda a, dtype=dtype: jnp.asarray(a, dtype) if is_float(a) else a, list(arrays))
    result = jax.tree.map(lambda leaf: leaf if hasattr(leaf, "dtype") else np.asarray(leaf), fn(*given))
    if not any(is_float(leaf) for leaf in jax.tree.leaves(result)):
      raise ValueError("no result is floating-point, but one must be for its dtype to be compared.")
    for path, leaf in jax.tree_util.tree_flatten_with_path(result)[0]:
      where = f"output{jax.tree_util.keystr(path)}"
      if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype != dtype:
        raise LawBroken(f"for {name} {where} is {leaf.dtype}.", where)
      if not np.all(np.isfinite(numbers(leaf))):
        raise LawBroken(f"for {name} {where} is not finite.", where)


@law("nothing inside is computed in a narrower dtype: float32 agrees with float64", "IEEE 754")
def check_precision(fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None) -> None:
  """fn in float32 against fn in float64 (jax.enable_x64 for the time of the call), to float32's tolerance.

  Then in float64 along a random direction: steps of 1e-4 and 2e-4 must change the result in proportion, to 5% in the
  root mean square, which what is rounded to 11 bits and fewer on the way does not (it would agree with itself in
  float64). A kink may lie between them, so it is tried at eight places nearby; one must agree. All floating-point
  arrays (in trees too) are cast; constants that fn holds stay as they are. Not for functions that jump.
  """
  rng = generator(key)
  if not any(is_float(leaf) for leaf in jax.tree.leaves(list(arrays))):
    kinds = sorted({str(leaf.dtype) for leaf in jax.tree.leaves(list(arrays)) if hasattr(leaf, "dtype")})
    raise ValueError(f"the arguments are {', '.join(kinds)}, but one must be floating-point: nothing can be widened.")
  narrow = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32) if is_float(a) else a, list(arrays))
  result = jax.tree.map(numbers, fn(*narrow))
  with jax.enable_x64(True):
    host = jax.tree.map(lambda a: np.asarray(a, np.float64) if is_float(a) else a, narrow)

    def at(places: Any, direction: Any, step: float) -> Any:
      moved = jax.tree.map(lambda a, v: jnp.asarray(a + step * v) if is_float(a) else a, places, direction)
      return jax.tree.map(numbers, fn(*moved))

    def drawn() -> Any:
      return jax.tree.map(lambda a: rng.standard_normal(a.shape) if is_float(a) else 0, host)

    assert_same(result, at(host, drawn(), 0.0), default_tolerance(narrow) if tolerance is None else tolerance, NARROW)
    for attempt in range(8):
      places = jax.tree.map(lambda a, v, n=attempt: a + 1e-2 * n * v if is_float(a) else a, host, drawn())
      direction = drawn()
      near, far = (
        jax.tree.map(np.subtract, at(places, direction, step), at(places, direction, -step)) for step in (1e-4, 2e-4)
      )
      twice = jax.tree.map(lambda leaf: 2 * leaf, near)
      if all(_in_proportion(a, b) for a, b in zip(jax.tree.leaves(far), jax.tree.leaves(twice), strict=True)):
        return
  assert_same(far, twice, 0.0, "differences over 4e-4 against twice those over 2e-4, at eight places")


NARROW = "float32 against float64"


def _in_proportion(far: np.ndarray, twice: np.ndarray) -> bool:
  return bool(np.linalg.norm(far - twice) <= 0.05 * max(np.linalg.norm(far), np.linalg.norm(twice)))


@law("a branch of zero leaves the shortcut: the block is the identity", "He et al. 2016; Zhang et al. 2019 (gamma = 0)")
def check_zero_branch_is_identity(
  fn: Any, *arrays: Any, key: Any = None, tolerance: float | None = None, argnums: Argnums = -1
) -> None:
  """fn(x, ...) = x, exactly, with `argnums` (an output matrix, a gate; trees too) at zero."""
  del key
  if not any(np.any(numbers(leaf)) for leaf in jax.tree.leaves(arrays[0])):
    raise ValueError("argument 0 is 0 everywhere, but must be random numbers: nothing is the identity of 0 too.")
  zeroed = changed(arrays, argnums, lambda tree: jax.tree.map(on_host(np.zeros_like), tree))
  result = fn(*zeroed)
  assert_same(result, as_seen(result, arrays[0]), tolerance, "the branch at zero", exact=True)


@law("a gate wide open leaves one branch, closed the other", "d'Ascoli et al. 2021, ConViT: gated positional attention")
def check_gate_limits(
  fn: Any,
  *arrays: Any,
  key: Any = None,
  tolerance: float | None = None,
  opened: Any,
  closed: Any,
  gate: int = -1,
  limit: float = 30.0,
) -> None:
  """The argument `gate` (before its sigmoid) at +limit gives opened(others), at -limit closed(others)."""
  del key
  floats(arrays, gate)
  finite("limit", limit, 0.0, exclusive=True)
  others = [a for i, a in enumerate(arrays) if i != indices(gate, arrays)[0]]
  for number, branch in ((limit, opened), (-limit, closed)):
    out = fn(*changed(arrays, gate, on_host(lambda a, number=number: np.full_like(a, number))))
    assert_same(out, branch(*others), tolerance, f"the gate at {number}", inputs=arrays)
