"""One side of benchmarks.input: a process that carries batches when it is told to, and says how fast.

It prints {"library": ...} when it is ready; for each line "N" on stdin it carries N batches and prints
{"images_per_second": ...}. Torch is imported by its own side alone, convattn by ours.

    python -m benchmarks.input_side --side=ours --stage=decode --folder=DIR --batch=64 --workers=2 --size=224
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import dataclasses
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

IN_MEMORY = 64  # decoded pictures that the stage "augmentation" goes round
AHEAD = 2
AREA, LAYERS, MAGNITUDE = 0.08, 2, 15
Batches = Iterator[object]


def ours(options: argparse.Namespace) -> tuple[str, Batches]:
  """convattn's own functions, as a training calls them."""
  import PIL

  from convattn.data import HostAugmentation, load
  from convattn.data.host_augmentation import Rows
  from convattn.pretrained import open_picture

  library = f"convattn, Pillow {PIL.__version__}"
  dataset = load("folder", options.folder, image_size=options.size)
  if options.stage == "decode":
    return library, one_by_one(options, lambda file: open_picture(file).convert("RGB"), list(dataset.train.files))
  changes = HostAugmentation(AREA, LAYERS, MAGNITUDE)
  if options.stage == "augmentation":
    return library, one_by_one(
      options, Rows(decoded(dataset), changes, 0, 0), list(enumerate(range(min(IN_MEMORY, len(dataset.train)))))
    )
  return library, delivered(options, dataset, changes)


def decoded(dataset: Any) -> Any:
  """The data set with its first pictures in memory, as they come out of a decoder."""
  from convattn.data import FolderSource
  from convattn.pretrained import open_picture

  files = dataset.train.files[:IN_MEMORY]
  pictures = [open_picture(file).convert("RGB") for file in files]

  class Decoded(FolderSource):
    def example(self, index: int) -> tuple[Any, int]:
      return pictures[index], 0

  source = Decoded(files, dataset.train.labels[:IN_MEMORY], dataset.preprocessing)
  return dataclasses.replace(dataset, train=source)


def delivered(options: argparse.Namespace, dataset: Any, changes: Any) -> Batches:
  """Batches of the worker processes, AHEAD of them in the making."""
  from convattn.data import Workers

  workers = Workers(dataset, changes, options.workers)
  with concurrent.futures.ThreadPoolExecutor(AHEAD) as pool:
    ahead: collections.deque[concurrent.futures.Future[object]] = collections.deque()
    for step in itertools.count():
      ahead.append(pool.submit(workers.train_batch, batch_size=options.batch, seed=0, step=step))
      if len(ahead) > AHEAD:
        yield ahead.popleft().result()


def torch(options: argparse.Namespace) -> tuple[str, Batches]:
  """torchvision's transforms and torch's DataLoader."""
  import PIL
  import torch
  import torchvision
  from torchvision import transforms
  from torchvision.datasets import folder

  torch.set_num_threads(1)
  library = f"torch {torch.__version__}, torchvision {torchvision.__version__}, Pillow {PIL.__version__}"
  steps = [
    transforms.RandomResizedCrop(options.size, (AREA, 1.0), interpolation=transforms.InterpolationMode.BICUBIC),
    transforms.RandAugment(LAYERS, MAGNITUDE, fill=[128] * 3),
    transforms.PILToTensor(),
  ]
  pictures = folder.ImageFolder(os.path.join(options.folder, "train"), transforms.Compose(steps))
  files = [file for file, _ in pictures.samples]
  if options.stage == "decode":
    return library, one_by_one(options, folder.pil_loader, files)
  if options.stage == "augmentation":
    return library, one_by_one(
      options, transforms.Compose(steps), [folder.pil_loader(file) for file in files[:IN_MEMORY]]
    )
  endless = torch.utils.data.RandomSampler(pictures, replacement=True, num_samples=10**9)
  loader = torch.utils.data.DataLoader(
    pictures, options.batch, sampler=endless, num_workers=options.workers, prefetch_factor=AHEAD
  )
  return library, iter(loader)


def one_by_one(options: argparse.Namespace, function: Callable[[Any], Any], given: list[Any]) -> Batches:
  items = itertools.cycle(given)
  while True:
    yield [function(item) for item in itertools.islice(items, options.batch)]


SIDES = {"ours": ours, "torch": torch}


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--side", required=True, choices=sorted(SIDES))
  parser.add_argument("--stage", required=True, choices=("decode", "augmentation", "delivery"))
  parser.add_argument("--folder", required=True)
  for name in ("batch", "workers", "size"):
    parser.add_argument(f"--{name}", type=int, required=True)
  options = parser.parse_args(arguments)

  answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
  os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries may print; the answers' line stays clean
  library, batches = SIDES[options.side](options)
  next(batches)
  print(json.dumps({"library": library}), file=answers)
  uncounted = 2 * AHEAD * options.workers if options.stage == "delivery" else 1  # what was made while it stood still
  for line in sys.stdin:
    for _ in range(uncounted):
      next(batches)
    started = time.perf_counter()
    for _ in range(int(line)):
      next(batches)
    seconds = time.perf_counter() - started
    print(json.dumps({"images_per_second": int(line) * options.batch / seconds}), file=answers)


if __name__ == "__main__":
  main()
