"""What a start of a program costs, with an empty compilation cache and with a full one.

    python -m benchmarks.compile_time [--model=coatnet_0_224] [--batch=8] [--size=224] [--task=train|infer]
        [--dtype=float32] [--output=FILE.json]

Two fresh processes one after the other, which share a temporary cache: the first compiles, the second loads. The user's
own cache is not touched, and every program is kept, however fast it compiles. Printed are the seconds of

  imports          of JAX and convattn
  device           starting it
  lowering         tracing the program to StableHLO
  compiling        by XLA, or loading from the cache
  arguments        parameters and images; cold, their small programs are compiled too
  first execution  until its result is there
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.children import ending_with_parent
from benchmarks.results import write_json

ROOT = Path(__file__).parents[1]
STAGES = ("imports", "device", "lowering", "compiling", "arguments", "first execution")
_HIT = "/jax/compilation_cache/cache_hits"
_CACHE = {
  "JAX_ENABLE_COMPILATION_CACHE": "true",
  "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def stages(model: str, batch: int, size: int, task: str, dtype: str) -> dict[str, Any]:
  """Carries out every stage in this process, which must be fresh: {"seconds", "from_cache", "device", "jax"}."""
  seconds: dict[str, float] = {}

  def timed(stage: str, call: Callable[[], Any]) -> Any:
    started = time.perf_counter()
    result = call()
    seconds[stage] = time.perf_counter() - started
    return result

  def imports() -> Any:
    from benchmarks import programs

    return programs

  programs = timed("imports", imports)
  import jax

  hits: list[str] = []
  jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if event == _HIT else None)
  device = timed("device", jax.devices)[0]
  lowered, arguments, multiply_adds = timed(
    "lowering", lambda: programs.lower(model, batch_size=batch, task=task, size=size, dtype=dtype)
  )
  hits.clear()
  timed("compiling", lowered.compile)
  from_cache = bool(hits)
  run = timed("arguments", lambda: programs.measured(task, lowered, arguments, multiply_adds))
  timed("first execution", run.step)
  return {"seconds": seconds, "from_cache": from_cache, "device": device.device_kind, "jax": jax.__version__}


def fresh(cache: Path, options: dict[str, Any]) -> dict[str, Any]:
  """`stages` in a process of its own, which keeps what it compiles in `cache`."""
  child = [sys.executable, "-m", "benchmarks.compile_time", "--child", *(f"--{k}={v}" for k, v in options.items())]
  environment = {**os.environ, **_CACHE, "JAX_COMPILATION_CACHE_DIR": str(cache)}
  settings: dict[str, Any] = {"cwd": ROOT, "env": environment}
  done = subprocess.run(ending_with_parent(child), **settings, capture_output=True, text=True, check=False)
  if done.returncode:
    raise SystemExit(f"the measured process stopped:\n{done.stderr[-2000:]}")
  return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(options: dict[str, Any]) -> dict[str, Any]:
  """{"options", "cold", "warm"}: the `stages` of the two processes."""
  with tempfile.TemporaryDirectory() as cache:
    cold = fresh(Path(cache), options)
    warm = fresh(Path(cache), options)
  return {"options": options, "cold": cold, "warm": warm}


def table(result: dict[str, Any]) -> str:
  """The printed lines: every stage and the sum, cold and warm."""
  options, cold = result["options"], result["cold"]
  columns = [cold["seconds"], result["warm"]["seconds"]]
  request = f"{options['model']}, {options['task']}, batch {options['batch']}, {options['size']} px, {options['dtype']}"
  lines = [f"{request}, {cold['device']}, jax {cold['jax']}", f"{'seconds':<22}{'cold':>8}{'warm':>8}"]
  for stage in STAGES:
    title = "compiling / loading" if stage == "compiling" else stage
    lines.append(f"{title:<22}" + "".join(f"{column[stage]:8.2f}" for column in columns))
  lines.append(f"{'total':<22}" + "".join(f"{sum(column.values()):8.2f}" for column in columns))
  if result["cold"]["from_cache"] or not result["warm"]["from_cache"]:
    lines.append("the warm process did not load the program: jax does not keep it, see JAX_EXPLAIN_CACHE_MISSES=1")
  return "\n".join(lines)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--model", default="coatnet_0_224")
  parser.add_argument("--batch", type=int, default=8)
  parser.add_argument("--size", type=int, default=224)
  parser.add_argument("--task", choices=("train", "infer"), default="train")
  parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
  parser.add_argument("--output", type=Path)
  parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
  options = vars(parser.parse_args(arguments))
  output, child = options.pop("output"), options.pop("child")
  if child:
    result = stages(**options)
    print(json.dumps(result))
    return result
  result = measure(options)
  print(table(result))
  if output is not None:
    write_json(output, result)
    print(f"written: {output}")
  return result


if __name__ == "__main__":
  main()
