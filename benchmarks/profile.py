"""Where a step's time goes: per stage, forward and backward apart, per kind of operation, and the slowest operations.

    python -m benchmarks.profile --model=coatnet_0_224 --batch=8 --task=train|infer [--size=224]
        [--dtype=float32|bfloat16] [--steps=2] [--top=15] [--output=runs/profile]

The program is that of `benchmarks.programs`, the times are those of `jax.profiler` over so many steps, and the stages
come from the names that JAX gives to operations (see `benchmarks.instructions`). PREFIX.json holds every operation,
PREFIX.png the stages.

An instant counts once: where two operations run at the same time each gets half of it, and a loop gets what its body's
operations leave. So the sum is the time in which some operation runs. On a CPU operations run one after another, most
on all cores, and the sum is close to the step's time; both are printed, and the step's time under the profiler. A
fusion counts as one operation: as a matmul where it holds one, as the layer that its result belongs to. A depthwise
convolution is elementwise on a CPU, where it is lowered to shifted multiply-adds. On a GPU the kernels are read, which
is untested.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import re
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks import programs
from benchmarks.instructions import BACKWARD, FORWARD, KINDS, REST, Program
from benchmarks.results import write_json

WARM_UP = 2


@dataclasses.dataclass(frozen=True)
class Event:
  """One run of an operation on a thread or stream, in nanoseconds."""

  name: str
  start: float
  end: float
  line: str


def record(run: programs.Measured, steps: int, module: str) -> tuple[list[Event], float]:
  """The operations of so many steps, and the seconds of one step under the profiler."""
  options = jax.profiler.ProfileOptions()
  options.python_tracer_level = 0
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder, profiler_options=options):
      started = time.perf_counter()
      for _ in range(steps):
        run.step()
      seconds = (time.perf_counter() - started) / steps
    (path,) = Path(folder).rglob("*.xplane.pb")
    return events(jax.profiler.ProfileData.from_file(str(path)), module), seconds


def events(data: Any, module: str) -> list[Event]:
  """What names an instruction of the module. Where a device has a plane the host's, which launches, is left out."""
  found: dict[bool, list[Event]] = {True: [], False: []}
  for plane in data.planes:
    lines = list(plane.lines)
    if any(line.name == "XLA Ops" for line in lines):  # else the same operations again, by stream
      lines = [line for line in lines if line.name == "XLA Ops"]
    for line in lines:
      for event in line.events:
        facts = dict(event.stats)
        if "hlo_op" in facts and facts.get("hlo_module", module) == module:
          start, end = event.start_ns, event.start_ns + event.duration_ns
          found[plane.name.startswith("/device:")].append(Event(facts["hlo_op"], start, end, plane.name + line.name))
  return found[True] or found[False]


def times(found: Sequence[Event]) -> dict[str, float]:
  """{name: nanoseconds}: every instant goes to the innermost event of each line, in equal parts to all such lines."""
  edges = [(event.start, 1, -event.end, i) for i, event in enumerate(found) if event.end > event.start]
  edges += [(event.end, 0, 0.0, i) for i, event in enumerate(found) if event.end > event.start]
  total: dict[str, float] = {event.name: 0.0 for event in found}
  running: dict[str, list[int]] = {}
  now = 0.0
  for at, begins, _, i in sorted(edges):
    for stack in running.values():
      total[found[stack[-1]].name] += (at - now) / len(running)
    now = at
    stack = running.setdefault(found[i].line, [])
    if begins:
      stack.append(i)
    else:
      stack.remove(i)
    if not stack:
      del running[found[i].line]
  return total


def operations(program: Program, found: Sequence[Event], steps: int) -> list[dict[str, Any]]:
  """A row per instruction that ran, slowest first: times and runs of one step."""
  total = times(found)
  runs = collections.Counter(event.name for event in found)
  everything = sum(total.values()) or 1.0
  rows = []
  for name, nanoseconds in sorted(total.items(), key=lambda item: -item[1]):
    instruction = program.instructions.get(name)
    rows.append(
      {
        "name": name,
        "kind": program.kind(name),
        **dataclasses.asdict(program.place(name)),
        "shape": instruction.shape if instruction else "",
        "runs": runs[name] / steps,
        "ms": nanoseconds / steps / 1e6,
        "share": nanoseconds / everything,
      }
    )
  return rows


def grouped(rows: Iterable[dict[str, Any]], *by: str) -> dict[tuple[str, ...], dict[str, Any]]:
  """The sums of "ms" and "share", and {kind: ms}, of the rows that agree in the named columns."""
  found: dict[tuple[str, ...], dict[str, Any]] = {}
  for row in rows:
    key = tuple(row[name] for name in by)
    total = found.setdefault(key, {"ms": 0.0, "share": 0.0, "kinds": collections.defaultdict(float)})
    total["ms"] += row["ms"]
    total["share"] += row["share"]
    total["kinds"][row["kind"]] += row["ms"]
  return found


def stages(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  """The sums per stage and direction, in the order of the model."""
  sums = grouped(rows, "stage", "direction")
  directions = (FORWARD, BACKWARD, REST)
  order = sorted(sums, key=lambda key: (*_rank(key[0]), directions.index(key[1])))
  return [{"stage": stage, "direction": direction, **sums[stage, direction]} for stage, direction in order]


def _rank(stage: str) -> tuple[int, int]:
  number = re.fullmatch(r"stage_(\d+)", stage)
  return (1, int(number[1])) if number else ({"stem": 0, "classifier": 2, "loss": 3}.get(stage, 4), 0)


def summary(result: dict[str, Any], top: int) -> str:
  """The printed tables."""
  lines = [
    f"step: {result['step_ms']:.1f} ms, under the profiler {result['profiled_step_ms']:.1f} ms",
    f"sum of the operations: {result['operations_ms']:.1f} ms",
    f"\n{'ms per step':24}{FORWARD:>16}{BACKWARD:>16}{REST:>16}",
  ]
  cells = {(row["stage"], row["direction"]): row for row in result["stages"]}
  for stage in dict.fromkeys(row["stage"] for row in result["stages"]):
    found = [cells.get((stage, direction)) for direction in (FORWARD, BACKWARD, REST)]
    lines.append(f"{stage:24}" + "".join(f"{row['ms']:9.2f} {row['share']:6.1%}" if row else " " * 16 for row in found))
  lines.append("")
  for row in result["kinds"]:
    lines.append(f"{row['kind']:24}{row['ms']:9.2f} {row['share']:6.1%}")
  lines.append(f"\n{'ms':>9} {'share':>6} {'runs':>6} kind, direction, layer: operation, shape, instruction")
  for row in result["operations"][:top]:
    layer = "/".join(filter(None, (row["stage"], row["layer"])))
    lines.append(
      f"{row['ms']:9.2f} {row['share']:6.1%} {row['runs']:6.0f} {row['kind']}, {row['direction']}, {layer}: "
      f"{row['primitive']}, {row['shape'][:60]}, {row['name']}"
    )
  return "\n".join(lines)


def draw(result: dict[str, Any], path: Path) -> None:
  """A bar per stage and direction, stacked by kind."""
  from matplotlib.figure import Figure

  rows = result["stages"]
  figure = Figure(figsize=(8, 1.5 + 0.3 * len(rows)), layout="constrained")
  axes = figure.subplots()
  left = [0.0] * len(rows)
  for column, kind in enumerate(row["kind"] for row in result["kinds"]):
    widths = [row["kinds"].get(kind, 0.0) for row in rows]
    axes.barh(range(len(rows)), widths, left=left, label=kind, color=f"C{column}")
    left = [sum(pair) for pair in zip(left, widths, strict=True)]
  labels = (row["stage"] if row["direction"] == REST else f"{row['stage']}, {row['direction']}" for row in rows)
  axes.set_yticks(range(len(rows)), list(labels))
  axes.invert_yaxis()
  options = result["options"]
  axes.set_xlabel(f"ms per step: {options['model']}, {options['task']}, batch {options['batch']}, {result['device']}")
  axes.legend()
  figure.savefig(path, dpi=150)


def profile(options: argparse.Namespace) -> dict[str, Any]:
  """Compiles, warms up, runs the steps without the profiler and with it, and adds up."""
  lowered = programs.lower(
    options.model, batch_size=options.batch, task=options.task, size=options.size, dtype=options.dtype
  )
  run = programs.measured(options.task, *lowered)
  program = Program(run.compiled.as_text())
  seconds = []
  for _ in range(WARM_UP + options.steps):
    started = time.perf_counter()
    run.step()
    seconds.append(time.perf_counter() - started)
  found, profiled = record(run, options.steps, program.module)
  rows = operations(program, found, options.steps)
  kinds = {kind: total for (kind,), total in grouped(rows, "kind").items()}
  return {
    "options": {name: str(value) for name, value in vars(options).items()},
    "device": jax.devices()[0].device_kind,
    "step_ms": 1e3 * statistics.median(seconds[WARM_UP:]),
    "profiled_step_ms": 1e3 * profiled,
    "operations_ms": sum(row["ms"] for row in rows),
    "stages": stages(rows),
    "kinds": [
      {"kind": kind, "ms": kinds[kind]["ms"], "share": kinds[kind]["share"]} for kind in KINDS if kind in kinds
    ],
    "operations": rows,
  }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--model", default="coatnet_0_224")
  parser.add_argument("--batch", type=int, default=8)
  parser.add_argument("--task", choices=programs.TASKS, default="train")
  parser.add_argument("--size", type=int, default=224)
  parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
  parser.add_argument("--steps", type=int, default=2)
  parser.add_argument("--top", type=int, default=15)
  parser.add_argument("--output", type=Path, default=Path("runs/profile"))
  options = parser.parse_args(arguments)
  result = profile(options)
  write_json(options.output.with_suffix(".json"), result)
  draw(result, options.output.with_suffix(".png"))
  print(summary(result, options.top))
  print(f"written: {options.output.with_suffix('.json')}, {options.output.with_suffix('.png')}")
  return result


if __name__ == "__main__":
  main()
