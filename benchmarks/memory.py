"""What a training step takes in memory: by rematerialisation policy, and the largest batch that fits.

    python -m benchmarks.memory --model=coatnet_0_224[,...] [--size=224] [--batches=2,4,8] [--gib=8,16,24,40,80,141]
        [--remat=none,dots,block] [--dtype=float32|bfloat16] [--time] [--rounds=3] [--output=runs/memory]

Compiled, not run: the bytes are those of XLA's `memory_analysis` for the program of `benchmarks.programs` (forward,
gradient, AdamW). The first table has the largest of the batches: arguments (state and images), results that do not take
an argument's place, working space, and their sum; with --time also the seconds of a step, the lowest of so many rounds
in which the policies take turns. For the second a line, bytes = fixed + batch * per image, is laid through the
smallest and the largest batch; "off" is how far the batches between lie from it at most, so it says nothing about two.
The largest batch is the one whose line is still below so many GiB. What the runtime, other programs and fragmentation
take on top is not in it.

The program is the device's own. XLA for a CPU fuses, lays out and schedules otherwise than for a GPU, and undoes part
of the rematerialisation: figures from a CPU are those of the CPU's program, no estimate of a GPU's.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks import programs
from benchmarks.results import record, write_json

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Line:
  """bytes = fixed + batch * per_image; `off` is the largest relative distance of what it was not laid through."""

  fixed: float
  per_image: float
  off: float

  def largest_batch(self, limit: float) -> int | None:
    """That fits in so many bytes: 0 where none does, None where the batch costs nothing."""
    if self.per_image <= 0:
      return None
    return max(0, math.floor((limit - self.fixed) / self.per_image))


def fit(totals: dict[int, int]) -> Line:
  """Through the smallest and the largest batch of {batch: bytes}."""
  first, last = min(totals), max(totals)
  if first == last:
    raise ValueError(f"batches are {sorted(totals)}, but two are needed for a line.")
  per_image = (totals[last] - totals[first]) / (last - first)
  fixed = totals[first] - first * per_image
  return Line(fixed, per_image, max(abs(fixed + batch * per_image - total) / total for batch, total in totals.items()))


def sizes(compiled: jax.stages.Compiled) -> dict[str, int]:
  """Bytes of a compiled program on its device."""
  analysis: Any = compiled.memory_analysis()
  found = {
    "arguments": int(analysis.argument_size_in_bytes),
    "results": int(analysis.output_size_in_bytes) - int(analysis.alias_size_in_bytes),
    "working": int(analysis.temp_size_in_bytes),
  }
  return {**found, "total": sum(found.values())}


def measure(model: str, options: argparse.Namespace) -> list[dict[str, Any]]:
  """A row per policy of one model: its bytes at every batch, the line through them, and the seconds where asked for."""
  rows, runs = [], {}
  for remat in options.remat:
    found = {}
    for batch in options.batches:
      lowered, arguments, multiply_adds = programs.lower(
        model, batch_size=batch, task="train", size=options.size, dtype=options.dtype, remat=remat
      )
      if options.time and batch == max(options.batches):
        runs[remat] = programs.measured("train", lowered, arguments, multiply_adds)
        found[batch] = sizes(runs[remat].compiled)
      else:
        found[batch] = sizes(lowered.compile())
    line = fit({batch: size["total"] for batch, size in found.items()})
    rows.append(
      {
        "model": model,
        "remat": remat,
        "bytes": found,
        **dataclasses.asdict(line),
        "largest_batch": {str(gib): line.largest_batch(gib * GIB) for gib in options.gib},
      }
    )
  for row, seconds in zip(rows, alternate(list(runs.values()), options.rounds), strict=False):
    row["seconds"] = seconds
  return rows


def alternate(runs: Sequence[programs.Measured], rounds: int) -> list[list[float]]:
  """Seconds of a step of each in every round, after one that is not counted."""
  seconds: list[list[float]] = [[] for _ in runs]
  for _ in range(1 + rounds):
    for run, found in zip(runs, seconds, strict=True):
      started = time.perf_counter()
      run.step()
      found.append(time.perf_counter() - started)
  return [found[1:] for found in seconds]


def summary(rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> str:
  """The two printed tables."""
  batch = max(options.batches)
  names = [f"{row['model']}, {row['remat']}" for row in rows]
  width = max(map(len, names)) + 2
  lines = [f"{f'GiB, batch {batch}':{width}}{'arguments':>10}{'results':>10}{'working':>10}{'total':>10}{'s/step':>9}"]
  for name, row in zip(names, rows, strict=True):
    cells = "".join(f"{size / GIB:10.3f}" for size in row["bytes"][batch].values())
    lines.append(f"{name:{width}}{cells}{min(row['seconds']):9.3f}" if "seconds" in row else f"{name:{width}}{cells}")
  lines.append(
    f"\n{'largest batch in GiB':{width}}"
    + "".join(f"{gib:>8g}" for gib in options.gib)
    + f"{'fixed GiB':>12}{'MiB/image':>12}{'off':>8}"
  )
  for name, row in zip(names, rows, strict=True):
    cells = "".join(f"{'any' if found is None else found:>8}" for found in row["largest_batch"].values())
    numbers = f"{row['fixed'] / GIB:12.3f}{row['per_image'] / 2**20:12.1f}{row['off']:8.1%}"
    lines.append(f"{name:{width}}{cells}{numbers}")
  return "\n".join(lines)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--model", type=lambda text: text.split(","), default=["coatnet_0_224"])
  parser.add_argument("--size", type=int, default=224)
  parser.add_argument("--batches", type=_numbers(int), default=[2, 4, 8])
  parser.add_argument("--gib", type=_numbers(float), default=[8.0, 16.0, 24.0, 40.0, 80.0, 141.0])
  parser.add_argument("--remat", type=lambda text: text.split(","), default=["none", "dots", "block"])
  parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
  parser.add_argument("--time", action="store_true")
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--output", type=Path, default=Path("runs/memory"))
  options = parser.parse_args(arguments)
  if len(set(options.batches)) < 2:
    parser.error("--batches needs two different numbers at least")
  rows = []
  for model in options.model:
    rows += measure(model, options)
  result = record(options, jax.devices()[0].device_kind, rows)
  write_json(options.output.with_suffix(".json"), result)
  print(summary(rows, options))
  print(f"written: {options.output.with_suffix('.json')}")
  return result


def _numbers(kind: type) -> Any:
  return lambda text: [kind(part) for part in text.split(",")]


if __name__ == "__main__":
  main()
