"""One side of a comparison: a process that is ready, runs when told to, and says how long it took.

A worker prints a line of JSON with some facts when it has warmed up. Then, for each line "N" on stdin, it runs N steps
and prints the facts with {"seconds": [...], "peak_bytes": n}. It ends when stdin does. What libraries print goes to
stderr.

    python -m benchmarks.worker --side=ours --model=coatnet_0_224 --task=train --batch=8 --size=224 --dtype=float32
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

WARM_UP = 2
Started = tuple[Callable[[], None], Callable[[], int], dict[str, Any]]
"""One step, the most bytes held so far, and facts."""


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--side", required=True, choices=sorted(SIDES))
  parser.add_argument("--model", required=True)
  parser.add_argument("--task", required=True, choices=("infer", "train"))
  parser.add_argument("--batch", type=int, required=True)
  parser.add_argument("--size", type=int, required=True)
  parser.add_argument("--dtype", required=True, choices=("float32", "bfloat16"))
  options = parser.parse_args(arguments)

  answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
  os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries may print; the answers' line stays clean
  step, peak_bytes, facts = SIDES[options.side](options)
  started = time.perf_counter()
  for _ in range(WARM_UP):
    step()
  facts["warm_up_seconds"] = time.perf_counter() - started
  print(json.dumps(facts), file=answers)
  for line in sys.stdin:
    seconds = []
    for _ in range(int(line)):
      started = time.perf_counter()
      step()
      seconds.append(time.perf_counter() - started)
    print(json.dumps({"seconds": seconds, "peak_bytes": peak_bytes(), **facts}), file=answers)


def ours(options: argparse.Namespace) -> Started:
  """convattn's program, as its commands run it."""
  import jax

  from benchmarks import programs

  started = time.perf_counter()
  lowered, arguments, multiply_adds = programs.lower(
    options.model, batch_size=options.batch, task=options.task, size=options.size, dtype=options.dtype
  )
  lowering = time.perf_counter() - started
  started = time.perf_counter()
  lowered.compile()
  compiling = time.perf_counter() - started
  run = programs.measured(options.task, lowered, arguments, multiply_adds)
  analysis = run.compiled.cost_analysis() or {}
  device = jax.devices()[0]

  def peak_bytes() -> int:
    statistics = device.memory_stats()
    return int(statistics["peak_bytes_in_use"]) if statistics else process_peak()

  facts = {
    "library": f"jax {jax.__version__}",
    "device": device.device_kind,
    "platform": device.platform,
    "lower_seconds": lowering,
    "compile_seconds": compiling,
    "flops": 2 * multiply_adds,
    "bytes": analysis.get("bytes accessed"),
  }
  return run.step, peak_bytes, facts


def timm(options: argparse.Namespace, *, compiled: bool) -> Started:
  """timm's model of the same name: channels last, on a GPU under autocast where bfloat16 is asked for."""
  import timm as library
  import torch

  device = "cuda" if torch.cuda.is_available() else "cpu"
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
  torch.backends.cudnn.benchmark = True
  torch.manual_seed(0)
  model = library.create_model(options.model, **({"img_size": options.size} if options.size != 224 else {}))
  model = model.to(device, memory_format=torch.channels_last)
  images = torch.randn(options.batch, 3, options.size, options.size).to(device, memory_format=torch.channels_last)
  labels = torch.randint(1000, (options.batch,)).to(device)
  autocast = torch.autocast(device, torch.bfloat16, enabled=options.dtype == "bfloat16")
  model.train(options.task == "train")
  forward = torch.compile(model) if compiled else model
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05, fused=True)

  def infer() -> None:
    with torch.inference_mode(), autocast:
      forward(images)

  def train() -> None:
    optimizer.zero_grad(set_to_none=True)
    with autocast:
      loss = torch.nn.functional.cross_entropy(forward(images), labels)
    loss.backward()
    optimizer.step()

  call = {"infer": infer, "train": train}[options.task]

  def step() -> None:
    call()
    if device == "cuda":
      torch.cuda.synchronize()

  started = time.perf_counter()
  step()
  facts = {
    "library": f"timm {library.__version__}, torch {torch.__version__}",
    "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    "platform": device,
    "lower_seconds": 0.0,
    "compile_seconds": time.perf_counter() - started if compiled else 0.0,
  }
  return step, lambda: torch.cuda.max_memory_allocated() if device == "cuda" else process_peak(), facts


def limits(options: argparse.Namespace) -> Started:
  """What the device can do: a step is one product of two 4096 x 4096 matrices (8192 on a GPU) and one copy."""
  import jax
  import jax.numpy as jnp

  platform = jax.devices()[0].platform
  size = 4096 if platform == "cpu" else 8192
  length = 2**26 if platform == "cpu" else 2**29
  left, right = (jax.random.normal(jax.random.key(k), (size, size), options.dtype) for k in range(2))
  held = [jnp.zeros(length, options.dtype)]
  matmul, add_one = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1, donate_argnums=0)
  best = {"flops_per_second": 0.0, "bytes_per_second": 0.0}

  def timed(name: str, amount: int, call: Callable[[], Any]) -> None:
    started = time.perf_counter()
    jax.block_until_ready(call())
    best[name] = max(best[name], amount / (time.perf_counter() - started))

  def in_place() -> Any:  # a new array would be paged in first, which is not what a copy costs
    held[0] = add_one(held[0])
    return held[0]

  def step() -> None:
    timed("flops_per_second", 2 * size**3, lambda: matmul(left, right))
    timed("bytes_per_second", 2 * held[0].nbytes, in_place)

  return step, process_peak, best


def process_peak() -> int:
  """Most bytes that this process has had in memory."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


SIDES = {
  "ours": ours,
  "timm-eager": lambda options: timm(options, compiled=False),
  "timm-compile": lambda options: timm(options, compiled=True),
  "limits": limits,
}

if __name__ == "__main__":
  main()
