"""Heads that attend by position alone: products along rows and columns beside N x N weights, in milliseconds.

    python -m benchmarks.position_heads [--sides=8,14,28,56] [--heads=9] [--channels=64] [--batch=4] [--rounds=7]

For every side n, images of N = n x n pixels: Gaussian heads (a product along each axis) and heads with a table over a
3 x 3 window (a sum of three), applied by `attend_row_column` (2 n N multiplications per head, channel and term) and by
`attend_pairs` with weights already made (N^2); "N^2 / products" is what that saves in multiplications. Then a 3 x 3
convolution of lax, channels to channels. Compiled, then in turns A B A B ...; the median of the turns, float32.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.lowering_groups import Group
from benchmarks.lowerings import compare
from benchmarks.results import record, write_json
from convattn.ops import attend_pairs, attend_row_column

TERMS = {"Gaussian": 1, "table 3x3": 3}


def group(side: int, heads: int, terms: int, channels: int, batch: int) -> Group:
  """The two ways, as functions of the same three arrays; N x N weights come as a fourth."""
  shapes = ((heads, terms, side, side),) * 2 + ((batch, side, side, channels), (heads, side**2, side**2))

  def row_column(rows: jax.Array, columns: jax.Array, x: jax.Array, pairs: jax.Array) -> jax.Array:
    return attend_row_column(rows, columns, x)

  def n_by_n(rows: jax.Array, columns: jax.Array, x: jax.Array, pairs: jax.Array) -> jax.Array:
    return attend_pairs(pairs, x.reshape(batch, side**2, channels)).reshape(batch, side, side, heads, channels)

  lowerings = {"row x column": row_column, "N x N": n_by_n}
  return Group(f"{side}x{side}", shapes, lowerings, "row x column", approximate=("N x N",))


def convolution(side: int, channels: int, batch: int) -> Group:
  conv = functools.partial(jax.lax.conv_general_dilated, window_strides=(1, 1), padding="SAME")
  named = functools.partial(conv, dimension_numbers=("NHWC", "HWIO", "NHWC"))
  shapes = ((batch, side, side, channels), (3, 3, channels, channels))
  return Group(f"{side}x{side}", shapes, {"conv": lambda x, kernel: jnp.asarray(named(x, kernel))}, "conv")


def main(arguments: list[str] | None = None) -> dict[str, Any]:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--sides", default="8,14,28,56")
  for name, default in (("heads", 9), ("channels", 64), ("batch", 4), ("rounds", 7)):
    parser.add_argument(f"--{name}", type=int, default=default)
  parser.add_argument("--output", type=Path, default=Path("runs/position_heads"))
  options = parser.parse_args(arguments)
  rows = []
  print("| image | heads | row x column, ms | N x N, ms | N x N / row x column | N^2 / products | 3x3 conv, ms |")
  print("|---|---|---|---|---|---|---|")
  for side in map(int, options.sides.split(",")):
    (conv,) = compare(convolution(side, options.channels, options.batch), options.rounds)
    for kind, terms in TERMS.items():
      found = compare(group(side, options.heads, terms, options.channels, options.batch), options.rounds)
      fast, slow = (row["median_ms"] for row in found)
      saved = side / (2 * terms)
      cells = f"{fast:.2f} | {slow:.2f} | {slow / fast:.1f} | {saved:.1f} | {conv['median_ms']:.2f}"
      print(f"| {side}x{side} | {options.heads} {kind} | {cells} |", flush=True)
      rows.append({"side": side, "kind": kind, "row_column_ms": fast, "pairs_ms": slow, "conv_ms": conv["median_ms"]})
  result = record(options, jax.devices()[0].device_kind, rows)
  write_json(options.output.with_suffix(".json"), result)
  print(f"written: {options.output.with_suffix('.json')}")
  return result


if __name__ == "__main__":
  main()
