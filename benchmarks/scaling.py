"""docs/scaling.md: what large models take on 8, 256 and 1,024 chips: bytes, collectives, and an expected step time.

    python -m benchmarks.scaling [--output=docs/scaling.md] [--chips=8,256,1024]

Nothing is trained. Bytes come from the shapes of each device's part of every array; collectives are counted in the
program that XLA makes of a small model's training step for eight virtual CPU devices; times come from a model with
stated assumptions (`Chip`) and are no measurement.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh

import convattn
from benchmarks.children import ending_with_parent
from benchmarks.scaling_text import page
from convattn import analysis
from convattn.training.sharding import AXES, SMALLEST_SPLIT, state_shardings
from convattn.training.task import ALL_ROWS

MODELS = ("coatnet_4", "coatnet_7")
SIZE, CLASSES, BATCH, MOST_PER_PASS = 224, 21841, 4096, 16


@dataclasses.dataclass(frozen=True)
class Chip:
  """What is assumed of one: round numbers, of no product, measured nowhere.

  Attributes:
    peak: FLOP/s in bfloat16.
    utilisation: the share of it that a training step reaches while it computes.
    near, far: bytes/s that a chip sends and receives at once to the `host` chips of its host, and to other hosts.
    latency: seconds that each collective takes beside its bytes.
  """

  peak: float = 400e12
  utilisation: float = 0.4
  host: int = 8
  near: float = 200e9
  far: float = 25e9
  latency: float = 30e-6

  def gather(self, size: float, group: int) -> float:
    """Seconds until each of `group` neighbouring chips has all of an array of which it had an equal part.

    Between hosts each chip fetches a share, which it then passes on within its host. Scattering sums takes as long.
    """
    near = min(group, self.host)
    hosts = group // near
    return (hosts - 1) / hosts * size / near / self.far + (near - 1) / near * size / self.near

  def all_reduce_far(self, size: float, group: int) -> float:
    """Seconds in which `group` chips on different hosts add up an array."""
    return 2 * (group - 1) / group * size / self.far


@dataclasses.dataclass(frozen=True)
class Layout:
  """`chips`, of which groups of `fsdp` share one copy of the state; a batch passes in `micro_batches` parts."""

  chips: int
  fsdp: int

  @property
  def micro_batches(self) -> int:
    return max(1, BATCH // self.chips // MOST_PER_PASS)

  @property
  def images(self) -> int:
    """On each chip in each pass."""
    return BATCH // self.chips // self.micro_batches


def layouts(chips: int) -> list[Layout]:
  """One copy on each chip, on each host, and on as many chips as divide the models' widths."""
  return [Layout(chips, fsdp) for fsdp in (1, 8, 256) if fsdp <= chips]


@dataclasses.dataclass(frozen=True)
class Sizes:
  """A model as it trains: bfloat16 computation, float32 state, blocks recomputed in the backward pass."""

  variables: Any
  multiply_adds: int
  kept_per_image: int
  kept_once: int
  recomputed_per_image: int

  @property
  def num_batch_norms(self) -> int:
    return len(jax.tree.leaves(self.variables["batch_stats"])) // 2


@functools.cache
def sizes(name: str) -> Sizes:
  """Of the variant `name`, from shapes alone."""
  shape = (SIZE, SIZE, 3)
  model = convattn.create_model(name, num_classes=CLASSES, dtype=jax.numpy.bfloat16, remat="block")
  images = jax.ShapeDtypeStruct((1, *shape), np.float32)
  kept, single = analysis.memory(model, shape), analysis.memory(model.clone(remat="none"), shape)
  return Sizes(
    variables=jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images),
    multiply_adds=sum(row.multiply_adds for row in analysis.costs(model, shape)),
    kept_per_image=sum(row.kept_per_image for row in kept),
    kept_once=sum(row.kept_once for row in kept),
    recomputed_per_image=max(row.kept_per_image for row in single),
  )


def bytes_of(tree: Any, layout: Layout) -> int:
  """On one device."""
  places = state_shardings(tree, AbstractMesh((layout.chips // layout.fsdp, layout.fsdp), AXES))
  return sum(
    math.prod(place.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf, place in zip(jax.tree.leaves(tree), jax.tree.leaves(places), strict=True)
  )


def memory_row(name: str, layout: Layout) -> dict[str, int]:
  """Bytes on each device."""
  model = sizes(name)
  parameters = bytes_of(model.variables["params"], layout)
  row = {
    "parameters": parameters,
    "moments": 2 * parameters,
    "average": bytes_of(model.variables, layout),
    "gradients": parameters,
    "activations": layout.images * (model.kept_per_image + model.recomputed_per_image) + model.kept_once,
  }
  collected = 2 * sum(leaf.size for leaf in jax.tree.leaves(model.variables["params"])) if layout.fsdp > 1 else 0
  return {**row, "total": sum(row.values()), "collected": collected}


def time_row(name: str, layout: Layout, chip: Chip) -> dict[str, float]:
  """Seconds of a step by the model of docs/scaling.md."""
  model = sizes(name)
  size = sum(leaf.size for leaf in jax.tree.leaves(model.variables["params"]))
  # Forward, once more forward for the blocks that are recomputed, and twice as much backward; 2 FLOP a multiply-add.
  compute = 4 * 2 * model.multiply_adds * BATCH / layout.chips / (chip.peak * chip.utilisation)
  if layout.fsdp == 1:
    weights, gradients = 0.0, 2 * chip.gather(4 * size, layout.chips)
  else:
    weights = 2 * chip.gather(2 * size, layout.fsdp)
    rest = layout.chips // layout.fsdp
    gradients = chip.gather(4 * size, layout.fsdp) + chip.all_reduce_far(4 * size / layout.fsdp, rest)
  divided = sum(leaf.size >= SMALLEST_SPLIT for leaf in jax.tree.leaves(model.variables["params"]))
  number = 6 * model.num_batch_norms + 2 + (0 if layout.fsdp == 1 else 3 * divided)
  sending = layout.micro_batches * (weights + gradients + number * chip.latency)
  return {"compute": compute, "sending": sending, "overlapped": max(compute, sending), "added": compute + sending}


def collectives(text: str) -> dict[str, tuple[int, int]]:
  """{kind: (how many of them there are in the text of a program, bytes of their results)}."""
  found: dict[str, tuple[int, int]] = {}
  kinds = "all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute"
  for shapes, kind in re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", text):
    size = sum(
      int(bits) // 8 * math.prod(int(each) for each in dims.split(",") if each)
      for bits, dims in re.findall(r"\b[a-z]+(\d+)\[([\d,]*)\]", shapes)
    )
    count, total = found.get(kind, (0, 0))
    found[kind] = (count + 1, total + size)
  return dict(sorted(found.items()))


def compile_step(fsdp: int) -> dict[str, Any]:
  """Collectives in the training step of coatnet_mini_32 over all devices of this process; its parameters' bytes."""
  from convattn.data import ArraySource, Dataset
  from convattn.training import Compute, Experiment, ImageClassification, Model, build, make_mesh
  from convattn.training.program import make_model

  experiment = Experiment(batch_size=64, eval_batch_size=64, model=Model("coatnet_mini_32"), compute=Compute(fsdp=fsdp))
  images = ArraySource(np.zeros((64, 32, 32, 3), np.uint8), np.arange(64) % 10)
  dataset = Dataset(images, images, images, tuple("0123456789"), (32, 32, 3), (0.5,) * 3, (0.5,) * 3)
  task = ImageClassification(dataset, experiment)
  program = build(experiment, make_model(experiment, 10), task, make_mesh(fsdp=fsdp))
  batch = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in task.train_rows(0, ALL_ROWS).items()}
  key = jax.eval_shape(lambda: jax.random.key(0))
  text = program.train_step.lower(program.template, batch, key).compile().as_text()
  state = program.template
  return {
    "collectives": collectives(text),
    "parameters": sum(leaf.size * 4 for leaf in jax.tree.leaves(state.params)),
    "batch_norms": len(jax.tree.leaves(state.model_state)) // 2,
    "divided": sum(leaf.size >= SMALLEST_SPLIT for leaf in jax.tree.leaves(state.params)),
  }


def compiled_apart(fsdp: int) -> dict[str, Any]:
  """`compile_step` in a process of its own, with eight virtual CPU devices."""
  flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
  done = subprocess.run(
    ending_with_parent([sys.executable, "-m", "benchmarks.scaling", f"--compile={fsdp}"]),
    env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
    cwd=Path(__file__).parents[1],
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  return json.loads(done.stdout.splitlines()[-1])


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--output", type=Path, default=Path("docs/scaling.md"))
  parser.add_argument("--chips", type=lambda text: [int(each) for each in text.split(",")], default=[8, 256, 1024])
  parser.add_argument("--compile", type=int, help=argparse.SUPPRESS)
  options = parser.parse_args(arguments)
  if options.compile:
    print(json.dumps(compile_step(options.compile)))
    return
  places = [layout for chips in options.chips for layout in layouts(chips)]
  chip = Chip()
  text = page(
    memory=[(name, layout, memory_row(name, layout)) for name in MODELS for layout in places],
    times=[(name, layout, time_row(name, layout, chip)) for name in MODELS for layout in places],
    compiled={fsdp: compiled_apart(fsdp) for fsdp in (1, 8)},
    models={name: sizes(name) for name in MODELS},
    chip=chip,
  )
  options.output.write_text(text)
  print(f"written: {options.output}")


if __name__ == "__main__":
  main()
