"""Every operation that has several lowerings or gradients of its own: the milliseconds of each, side by side.

    python -m benchmarks.lowerings [--only=NAME] [--rounds=7] [--dtype=float32|bfloat16] [--output=runs/lowerings]

Each lowering is compiled and run once before; then they take turns in one process, A B C A B C ..., and a turn is as
many calls as fill a few milliseconds. Printed are the median and the lowest turn, per call, and how far the result lies
from the first lowering's (largest difference over largest value). A star marks what the operation takes on this
platform; a line per group says whether that is the fastest. NAME is a part of a group's name. The same on every device.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.lowering_groups import Group, groups
from benchmarks.results import record, write_json

TURN_SECONDS = 5e-3
MARGIN = 1.05
"""Medians closer than this are called equal."""


def compare(group: Group, rounds: int, dtype: str = "float32") -> list[dict[str, Any]]:
  """A row per lowering of the group, all on the same random arrays."""
  generator = np.random.default_rng(0)
  arrays = [jax.numpy.asarray(generator.normal(size=shape), dtype) for shape in group.shapes]
  calls = {name: jax.jit(function).lower(*arrays).compile() for name, function in group.lowerings.items()}
  outputs = [jax.tree.leaves(call(*arrays)) for call in calls.values()]
  counts = {name: max(1, math.ceil(TURN_SECONDS / _seconds(call, arrays, 1))) for name, call in calls.items()}
  turns: dict[str, list[float]] = {name: [] for name in calls}
  for _ in range(rounds):
    for name, call in calls.items():
      turns[name].append(1e3 * _seconds(call, arrays, counts[name]))
  default = group.default(jax.default_backend())
  return [
    {
      "group": group.name,
      "lowering": name,
      "default": name == default,
      "median_ms": statistics.median(found),
      "lowest_ms": min(found),
      "difference": max(_difference(*pair) for pair in zip(output, outputs[0], strict=True)),
    }
    for (name, found), output in zip(turns.items(), outputs, strict=True)
  ]


def _seconds(call: Callable[..., Any], arrays: list[jax.Array], count: int) -> float:
  """Of one of so many calls, each waited for."""
  started = time.perf_counter()
  for _ in range(count):
    jax.block_until_ready(call(*arrays))
  return (time.perf_counter() - started) / count


def _difference(found: jax.Array, expected: jax.Array) -> float:
  found, expected = (np.asarray(array, np.float64) for array in (found, expected))
  return float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))


def verdict(rows: list[dict[str, Any]]) -> str:
  """The line that ends a group's table."""
  (default,) = (row for row in rows if row["default"])
  fastest = min(rows, key=lambda row: row["median_ms"])
  if default["median_ms"] <= MARGIN * fastest["median_ms"]:
    return f"the default, {default['lowering']}, is the fastest"
  ratio = default["median_ms"] / fastest["median_ms"]
  return (
    f"NOT the fastest: the default, {default['lowering']}, takes {ratio:.2f} times as long as {fastest['lowering']}"
  )


def table(rows: list[dict[str, Any]]) -> str:
  """What is printed of a group."""
  lines = [f"{rows[0]['group']}\n{'':24}{'median':>10}{'lowest':>10}  ms{'difference':>14}"]
  for row in rows:
    name = f"{'*' if row['default'] else ' '} {row['lowering']}"
    lines.append(f"{name:24}{row['median_ms']:10.3f}{row['lowest_ms']:10.3f}{row['difference']:18.1e}")
  return "\n".join([*lines, f"  {verdict(rows)}", ""])


def main(arguments: list[str] | None = None) -> dict[str, Any]:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--only", default="")
  parser.add_argument("--rounds", type=int, default=7)
  parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
  parser.add_argument("--shrink", type=int, default=1, help="divides every size, to try the script out")
  parser.add_argument("--output", type=Path, default=Path("runs/lowerings"))
  options = parser.parse_args(arguments)
  chosen = [group for group in groups(options.shrink) if options.only in group.name]
  if not chosen:
    parser.error(f"no group's name has {options.only!r} in it: {', '.join(group.name for group in groups())}")
  rows = []
  for group in chosen:
    found = compare(group, options.rounds, options.dtype)
    print(table(found), flush=True)
    rows += found
  result = record(options, jax.devices()[0].device_kind, rows)
  write_json(options.output.with_suffix(".json"), result)
  print(f"written: {options.output.with_suffix('.json')}")
  return result


if __name__ == "__main__":
  main()
