"""The text of docs/scaling.md around the numbers of `benchmarks.scaling`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

GIB = 2**30


def page(*, memory: Any, times: Any, compiled: dict[int, Any], models: dict[str, Any], chip: Any) -> str:
  """The whole document."""
  sections = (_HEAD, memory_section(memory), collectives_section(compiled), times_section(times, models, chip))
  return "\n\n".join((*sections, _TAIL))


def memory_section(rows: Sequence[tuple[str, Any, dict[str, int]]]) -> str:
  names = ("parameters", "moments", "average", "gradients", "activations", "total", "collected")
  table = [("model", "chips", "fsdp", "images", *names[:-1], "weights collected")]
  for model, layout, row in rows:
    images = f"{layout.micro_batches} x {layout.images}"
    table.append((model, layout.chips, layout.fsdp, images, *(f"{row[name] / GIB:.2f}" for name in names)))
  return f"{_MEMORY}\n\n{_table(table)}"


def collectives_section(compiled: dict[int, Any]) -> str:
  table = [("fsdp", "collective", "number", "bytes of results", "over bytes of parameters")]
  for fsdp, found in compiled.items():
    for kind, (count, size) in found["collectives"].items():
      table.append((fsdp, kind, count, f"{size:,}", f"{size / found['parameters']:.3f}"))
  one = compiled[1]
  facts = _COLLECTIVES.format(
    version=jax.__version__, parameters=f"{one['parameters']:,}", norms=one["batch_norms"], divided=one["divided"]
  )
  return f"{facts}\n\n{_table(table)}\n\n{_COUNTS}"


def times_section(rows: Sequence[tuple[str, Any, dict[str, float]]], models: dict[str, Any], chip: Any) -> str:
  table = [("model", "chips", "fsdp", "computing, s", "sending, s", "at the same time, s", "one after the other, s")]
  for model, layout, row in rows:
    cells = (f"{row[name]:.3f}" for name in ("compute", "sending", "overlapped", "added"))
    table.append((model, layout.chips, layout.fsdp, *cells))
  work = "; ".join(f"{name}: {model.multiply_adds / 1e9:.1f} G" for name, model in models.items())
  facts = _TIMES.format(
    peak=f"{chip.peak / 1e12:.0f}", utilisation=f"{chip.utilisation:.0%}", host=chip.host,
    near=f"{chip.near / 1e9:.0f}", far=f"{chip.far / 1e9:.0f}", latency=f"{chip.latency * 1e6:.0f}", work=work,
  )  # fmt: skip
  return f"{facts}\n\n{_table(table)}"


def _table(rows: Sequence[Sequence[Any]]) -> str:
  head, *body = [f"| {' | '.join(map(str, row))} |" for row in rows]
  rule = "|" + "---|" * len(rows[0])
  return "\n".join((head, rule, *body))


_HEAD = """# Many devices, many hosts

`python train.py` uses every device that JAX sees, on this host and on those that it was started on together with it
([launch](launch.md)). Three settings say how:

- `compute.fsdp`: so many neighbouring devices share one copy of parameters, moments and averages. 1: each device has a
  whole one. Each array of 4,096 numbers or more is divided along the largest of its dimensions that `fsdp` divides.
- `micro_batches`: a batch passes in so many parts, one after another, and keeps the activations of one part only.
  The update is that of the whole batch wherever examples do not see each other; BatchNorm sees one part at a time.
- `compute.remat=block`: activations inside a block are computed again in the backward pass.

Nothing on this page but the counted collectives has been run: `python -m benchmarks.scaling` writes it, from shapes and
from assumptions that it states. The settings are those of pre-training on ImageNet-21k: 224 pixels, 21,841 classes,
4,096 images an update, bfloat16 computation, float32 state, AdamW, a running average, `remat=block`."""

_MEMORY = """## GiB on each device

Parameters, moments and average from the shapes of a device's part of each array; gradients as much as parameters.
Activations are what automatic differentiation asks to keep for the images of one pass ("2 x 16": two passes of 16
images on each device), plus those of the block that is computed again; XLA's working space is not in them. "Weights
collected", not in the total, is one whole copy of the weights in bfloat16: what is needed on top of it if the compiler
collects all of them before it starts, as XLA for a CPU does in front of the loop over micro-batches, rather than one
block's at a time."""

_COLLECTIVES = """## Collectives in a step

Counted in the training step of coatnet_mini_32 that XLA (jax {version}) compiles for eight virtual CPU devices, in
float32 without rematerialisation: {parameters} bytes of parameters, {norms} BatchNorms, {divided} arrays of parameters
that are divided."""

_COUNTS = """So a step without `fsdp` sums the gradients once, and numbers per channel of each BatchNorm twice in the
forward and twice in the backward pass: 4 all-reduces for each BatchNorm, and 2. With `fsdp` each divided array is
collected once as well (some in several pieces), and its gradient is a sum of its own. Images are not sent, but by
mixup, which mixes each with its neighbour in the batch. XLA for a CPU sums whole gradients and then keeps a part;
where a compiler turns that into scattered sums, half of those bytes are saved. That has not been looked at on any
accelerator.

With m `micro_batches` all sums, of the gradients too, are formed in each of the m parts: m times as many.
Rematerialised blocks collect their weights, and sum their BatchNorms' numbers, once more."""

_TIMES = """## Expected seconds of a step

A model, not a measurement. Assumed of a chip, in round numbers that are those of no product: {peak} TFLOP/s in bfloat16
of which a step reaches {utilisation} while it computes; {host} chips in a host that send each other {near} GB/s, and
{far} GB/s to other hosts; {latency} microseconds for each collective beside its bytes. Then

- computing: 8 FLOP a multiply-add (forward, forward again in rematerialised blocks, backward twice) and image
  (multiply-adds of an image: {work});
- sending, without `fsdp`: the sum of 4-byte gradients, scattered and collected, first in a host, then between hosts;
  with it: weights of 2 bytes collected twice, gradients of 4 bytes scattered within a group, and the parts summed over
  the groups; in both, latency times the number of collectives above; all of it once for each micro-batch.

A compiler that sends while it computes comes close to the larger of the two, one that does not to their sum."""

_TAIL = """## What follows

- One copy of the state on each host (`compute.fsdp=8`) leaves most of a chip's memory to activations at every size
  here; more than that saves little.
- `micro_batches` costs a sum of all gradients for each part: on few chips take as few parts as memory allows.
- 256 divides the large arrays of both models, 1,024 does not divide the widths of coatnet_4 (192 to 1,536): its
  classifier's weights would stay whole.
"""
