"""How many images per second the data's way can carry, stage by stage, beside PyTorch's DataLoader.

    python -m benchmarks.input [--pictures=256] [--batch=64] [--batches=8] [--rounds=5] [--workers=CORES] [--size=224]
        [--peer-python=PATH] [--out=runs/input.json]

The pictures are made here: JPEGs of 500 x 375 at quality 90, smooth with grain. Stages:

- decode: a file to RGB pixels, in one thread
- augmentation: decoded pixels to `--size`, by a random resized crop (8 % to 100 % of the area, bicubic) and RandAugment
  of 2 layers of magnitude 15, in one thread
- delivery: files to batches in the process that trains, all of the above, by `--workers` processes, two batches ahead

The peer does the same with torchvision's ImageFolder, RandomResizedCrop and RandAugment (14 operations too, whose
ranges differ) and torch's DataLoader. Both decode with Pillow. Sides are processes of their own that take turns.
Printed: images per second, median of the rounds, lowest and highest, and the ratio of ours to the peer's in each round.
The peer is needed for nothing else: `pip install '.[peer]'` from a checkout, or an interpreter that has torch and
torchvision.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.children import ending_with_parent
from benchmarks.results import record, write_json
from benchmarks.turns import Side

STAGES = ("decode", "augmentation", "delivery")
CLASSES = 4


def make_pictures(folder: Path, count: int) -> int:
  """Writes `count` JPEGs in class folders below FOLDER/train and FOLDER/val; returns their mean size in bytes."""
  import numpy as np
  from PIL import Image

  sizes = []
  for i in range(count):
    rng = np.random.default_rng(i)
    smooth = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((500, 375), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 15, (375, 500, 1))
    pixels = np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)
    path = folder / "train" / f"class_{i % CLASSES}" / f"{i}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=90)
    sizes.append(path.stat().st_size)
  (folder / "val").symlink_to(folder / "train")
  return round(statistics.mean(sizes))


def measure(options: argparse.Namespace, folder: Path, stage: str, sides: dict[str, str]) -> dict[str, Any]:
  """{"stage", "cores", "images_per_second": {side: of each round}, "libraries"}; each side once per round."""
  shared = [f"--{name}={getattr(options, name)}" for name in ("batch", "workers", "size")]
  arguments = [*shared, f"--stage={stage}", f"--folder={folder}"]
  started: list[Side] = []
  try:
    for name, python in sides.items():
      started.append(Side(name, [python, "-m", "benchmarks.input_side", f"--side={name}", *arguments]))
    speeds: dict[str, list[float]] = {side.name: [] for side in started}
    for _ in range(options.rounds):
      for side in started:
        speeds[side.name].append(side.ask(options.batches)["images_per_second"])
  finally:
    for side in started:
      side.__exit__()
  cores = options.workers if stage == "delivery" else 1
  libraries = {side.name: side.facts["library"] for side in started}
  return {"stage": stage, "cores": cores, "images_per_second": speeds, "libraries": libraries}


def table(rows: list[dict[str, Any]]) -> str:
  """Markdown: a line per stage and side."""
  lines = ["| stage | side | images/s | lowest to highest | per core | ours / peer |", "|---|---|---|---|---|---|"]
  for row in rows:
    speeds = row["images_per_second"]
    for name, found in speeds.items():
      middle = statistics.median(found)
      ratio = "–"
      if name == "ours" and "torch" in speeds:
        each = [ours / peer for ours, peer in zip(found, speeds["torch"], strict=True)]
        ratio = f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"
      lines.append(
        f"| {row['stage']} | {row['libraries'][name]} | {middle:.0f} | {min(found):.0f} to {max(found):.0f} "
        f"| {middle / row['cores']:.0f} | {ratio} |"
      )
  return "\n".join(lines)


def has_peer(python: str) -> bool:
  found = subprocess.run(
    ending_with_parent([python, "-c", "import torch, torchvision"]), capture_output=True, check=False
  )
  return found.returncode == 0


def main(arguments: list[str] | None = None) -> dict[str, Any]:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--pictures", type=int, default=256)
  parser.add_argument("--batch", type=int, default=64)
  parser.add_argument("--batches", type=int, default=8)
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
  parser.add_argument("--size", type=int, default=224)
  parser.add_argument("--peer-python", default=sys.executable)
  parser.add_argument("--out", type=Path, default=Path("runs/input.json"))
  options = parser.parse_args(arguments)

  sides = {"ours": sys.executable}
  if has_peer(options.peer_python):
    sides["torch"] = options.peer_python
  else:
    print(f"{options.peer_python} has no torch and torchvision: no peer", file=sys.stderr)
  with tempfile.TemporaryDirectory() as folder:
    size = make_pictures(Path(folder), options.pictures)
    print(f"{options.pictures} pictures of 500 x 375, {size:,} bytes on average", file=sys.stderr)
    rows = [measure(options, Path(folder), stage, sides) for stage in STAGES]
  result = record(options, f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores", rows)
  write_json(options.out, result)
  print(table(rows))
  print(f"written: {options.out}")
  return result


if __name__ == "__main__":
  main()
