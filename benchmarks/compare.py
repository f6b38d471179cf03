"""convattn beside timm: the same architecture, batch and dtype on the same machine, in alternation.

    python -m benchmarks.compare --model=coatnet_0_224 --batch=8 --task=train|infer [--rounds=5] [--steps=2]
        [--size=224] [--dtype=float32|bfloat16] [--sides=ours,timm-eager,timm-compile] [--peer-python=PATH]
        [--output=runs/compare]

Every side is a process of its own that warms up first; then they take turns, A B C A B C ..., while the others stand
still. One of them, "limits", measures what the device can do at most: a large matrix product and a copy. Printed are
images per second (median of the rounds), the ratio of ours to the fastest side of the peer (median of the rounds'
ratios, lowest and highest), memory, compile time, and what share of the limits ours reaches. OUTPUT.json and OUTPUT.png
hold the same.

float32 on a CPU and bfloat16 on a GPU unless told otherwise; on a GPU the peer runs under autocast. The peer is not
needed for anything else: `pip install '.[peer]'` from a checkout, or an interpreter that has timm and torch.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import write_json
from benchmarks.turns import Side

OURS, PEER = "ours", ("timm-eager", "timm-compile")


def seconds(side: Side, steps: int) -> list[float]:
  """Of each of so many steps, after one that is not counted."""
  return list(side.ask(1 + steps)["seconds"])[1:]


def alternate(sides: Sequence[Side], rounds: int, steps: int, images: int) -> dict[str, list[float]]:
  """{side: images per second in each round}, every side once per round."""
  speeds: dict[str, list[float]] = {side.name: [] for side in sides}
  for _ in range(rounds):
    for side in sides:
      speeds[side.name].append(steps * images / sum(seconds(side, steps)))
  return speeds


def ratios(speeds: dict[str, list[float]]) -> tuple[str, list[float]]:
  """(fastest side of the peer, ours over it in each round)."""
  fastest = max((name for name in speeds if name.startswith("timm")), key=lambda name: statistics.median(speeds[name]))
  return fastest, [ours / peer for ours, peer in zip(speeds[OURS], speeds[fastest], strict=True)]


def summary(result: dict[str, Any]) -> str:
  """The printed table."""
  lines = [f"{'':14}images/s  lowest highest  peak memory  compile  library"]
  for name, speeds in result["images_per_second"].items():
    facts = result["facts"][name]
    compiling = facts["lower_seconds"] + facts["compile_seconds"]
    lines.append(
      f"{name:14}{statistics.median(speeds):8.2f} {min(speeds):7.2f} {max(speeds):7.2f} "
      f"{facts['peak_bytes'] / 2**30:8.2f} GiB {compiling:6.1f} s  {facts['library']}"
    )
  if result["ratios"]:
    middle, lowest, highest = (f(result["ratios"]) for f in (statistics.median, min, max))
    lines.append(f"ours / {result['fastest_peer']}: {middle:.2f} ({lowest:.2f} to {highest:.2f})")
  for name, unit, amount in (
    ("matrix product", "GFLOP/s", "flops_per_second"),
    ("copy", "GB/s by XLA's count, a loop's body once", "bytes_per_second"),
  ):
    reached, most = result[amount] / 1e9, result["limits"][amount] / 1e9
    lines.append(f"ours: {reached:,.0f} {unit}; {reached / most:.0%} of a {name}'s {most:,.0f}")
  return "\n".join(lines)


def draw(result: dict[str, Any], path: Path) -> None:
  """A bar per side: the median, and a dot per round."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(6, 1 + 0.5 * len(result["images_per_second"])), layout="constrained")
  axes = figure.subplots()
  for row, speeds in enumerate(result["images_per_second"].values()):
    axes.barh(row, statistics.median(speeds), color="tab:blue" if row == 0 else "tab:gray", alpha=0.6)
    axes.plot(speeds, [row] * len(speeds), "k.", markersize=4)
  axes.set_yticks(range(len(result["images_per_second"])), list(result["images_per_second"]))
  axes.invert_yaxis()
  options = result["options"]
  axes.set_xlabel(f"images/s: {options['model']}, {options['task']}, batch {options['batch']}, {result['device']}")
  figure.savefig(path, dpi=150)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--model", default="coatnet_0_224")
  parser.add_argument("--task", choices=("infer", "train"), default="infer")
  parser.add_argument("--batch", type=int, default=8)
  parser.add_argument("--size", type=int, default=224)
  parser.add_argument("--dtype", choices=("float32", "bfloat16"))
  parser.add_argument("--sides", default=",".join((OURS, *PEER)))
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--steps", type=int, default=2)
  parser.add_argument("--peer-python", default=sys.executable)
  parser.add_argument("--output", type=Path, default=Path("runs/compare"))
  options = parser.parse_args(arguments)
  options.dtype = options.dtype or ("bfloat16" if _has_gpu() else "float32")
  shared = [f"--{name}={getattr(options, name)}" for name in ("model", "task", "batch", "size", "dtype")]

  result = compare(options, shared)
  write_json(options.output.with_suffix(".json"), result)
  draw(result, options.output.with_suffix(".png"))
  print(summary(result))
  print(f"written: {options.output.with_suffix('.json')}, {options.output.with_suffix('.png')}")
  return result


def compare(options: argparse.Namespace, shared: list[str]) -> dict[str, Any]:
  """Starts every side, lets them take turns, and returns what they said."""
  names = [*options.sides.split(","), "limits"]
  sides: list[Side] = []
  try:
    for name in names:  # one after another: two that compile at once would not fit some machines
      python = options.peer_python if name.startswith("timm") else sys.executable
      sides.append(Side(name, [python, "-m", "benchmarks.worker", f"--side={name}", *shared]))
      print(f"{name} is ready", file=sys.stderr)
    speeds = alternate(sides, options.rounds, options.steps, options.batch)
    facts = {side.name: side.facts for side in sides}
  finally:
    for side in sides:
      side.__exit__()
  del speeds["limits"]
  limits = facts.pop("limits")
  per_image = statistics.median(speeds[OURS]) / options.batch
  fastest, found = ratios(speeds) if any(name.startswith("timm") for name in speeds) else ("", [])
  return {
    "options": {name: str(value) for name, value in vars(options).items()},
    "device": facts[OURS]["device"],
    "images_per_second": speeds,
    "fastest_peer": fastest,
    "ratios": found,
    "flops_per_second": facts[OURS]["flops"] * per_image,
    "bytes_per_second": facts[OURS]["bytes"] * per_image,
    "limits": {name: limits[name] for name in ("flops_per_second", "bytes_per_second")},
    "facts": facts,
  }


def _has_gpu() -> bool:
  """Asked of nvidia-smi: this process itself must not hold a GPU's memory."""
  try:
    return subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, check=False).returncode == 0
  except FileNotFoundError:
    return False


if __name__ == "__main__":
  main()
