"""Whether to believe overlays: insertion, deletion and the randomisation test of four of them, on the digits.

The experiment of configs/digits.py is trained twice, on its labels and on the same labels in a drawn order of images.
For images of the test part: the areas under insertion and deletion curves with three fills, beside drawn orders and a
Gaussian of the middle, and the rank correlation of each overlay with itself when the weights are drawn anew from the
classifier down, or come from the shuffled labels. All with bootstrap intervals over the images.

    python -m benchmarks.overlays [--images=64] [--seed=0] [--steps=0] [--workdir=runs/overlays]

Needs only what is installed with the project. A run that is in the workdir already is not trained again.
"""

import argparse
import contextlib
import dataclasses
import functools
import io
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from convattn import analysis, data, training
from convattn.training.config import Experiment

CONFIG = Path(__file__).parents[1] / "configs" / "digits.py"


def rolled_out(model: Any, variables: Any, images: np.ndarray) -> analysis.Overlay:
  return analysis.rollout_overlay(analysis.attention_maps(model, variables, images))


METHODS: dict[str, Callable[..., analysis.Overlay]] = {
  "class map": analysis.class_map,
  "Grad-CAM": analysis.grad_cam,
  "occlusion": functools.partial(analysis.occlusion, window=2),
  "rollout": rolled_out,
}


def experiment(seed: int, steps: int = 0) -> Experiment:
  """That of configs/digits.py; with `steps` so many, and a warm-up that is shorter in proportion."""
  chosen = dataclasses.replace(runpy.run_path(str(CONFIG))["get_config"](), seed=seed)
  if not steps:
    return chosen
  warmup = chosen.optimizer.warmup_steps * steps // chosen.num_steps
  return dataclasses.replace(
    chosen, num_steps=steps, optimizer=dataclasses.replace(chosen.optimizer, warmup_steps=warmup)
  )


def shuffled(dataset: data.Dataset, seed: int) -> data.Dataset:
  """The same images, trained on each other's labels; the other parts stay as they are."""
  train = dataset.labelled["train"]
  order = np.random.default_rng(seed).permutation(len(train))
  return dataclasses.replace(dataset, train=train.take(np.arange(len(train)), train.labels[order]))


def trained(chosen: Experiment, dataset: data.Dataset, workdir: Path) -> Any:
  """The run's model and variables as `training.restore` gives them; trained, unless that has been done."""
  with contextlib.redirect_stdout(io.StringIO()):
    training.run(chosen, workdir, task=training.ImageClassification(dataset, chosen))
  return training.restore(workdir)


def shown(interval: analysis.Interval | None) -> str:
  return "–" if interval is None else f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


COLUMNS = [(measure, fill) for measure in ("deletion", "insertion") for fill in analysis.FILLS]


def print_areas(model: Any, variables: Any, images: np.ndarray) -> None:
  """Areas of each overlay, of the drawn orders and of the centre; then what each overlay gains over the centre."""
  found = {
    name: analysis.faithfulness(model, variables, images, method(model, variables, images))
    for name, method in METHODS.items()
  }
  # These two are alike for all that have the same cells.
  others = [(name, found["class map"], name) for name in ("random", "centre")]
  rows = [(name, each, "overlay") for name, each in found.items()] + others
  print_table([(name, [each.score(*column, kind) for column in COLUMNS]) for name, each, kind in rows])
  gains = [(f"{name}, gain over the centre", each) for name, each in found.items()]
  print_table([(name, [each.gain(*column, over="centre") for column in COLUMNS]) for name, each in gains])


def print_table(rows: list[tuple[str, list[analysis.Interval | None]]], columns: list[str] | None = None) -> None:
  names = [", ".join(column) for column in COLUMNS] if columns is None else columns
  print("\n| | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 1) + "|")
  for name, cells in rows:
    print(f"| {name} | " + " | ".join(map(shown, cells)) + " |", flush=True)


def print_randomisation(model: Any, variables: Any, other: Any, images: np.ndarray) -> None:
  """A row of rank correlations for each overlay, and one of the Gaussian of the middle."""
  grid = analysis.grad_cam(model, variables, images).grid
  methods = METHODS | {"centre": lambda model, variables, images: analysis.centre_map(grid, len(images))}
  rows, steps = [], []
  for name, method in methods.items():
    found = analysis.randomisation(model, variables, images, method)
    labels = analysis.shuffled_labels(model, variables, other, images, method)
    steps = [*found.steps, *labels.steps]
    rows.append((name, [*map(found.interval, found.steps), *map(labels.interval, labels.steps)]))
  print_table(rows, steps)


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
  parser.add_argument("--images", type=int, default=64, help="the first so many of the test part")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--steps", type=int, default=0, help="of training; 0: as configs/digits.py")
  parser.add_argument("--workdir", type=Path, default=Path("runs/overlays"))
  options = parser.parse_args(arguments)
  dataset, chosen = data.load("digits"), experiment(options.seed, options.steps)
  model = trained(chosen, dataset, options.workdir / f"labels-{options.seed}")
  other = trained(chosen, shuffled(dataset, options.seed), options.workdir / f"shuffled-{options.seed}")
  pixels = np.stack([dataset.test[number]["image"] for number in range(options.images)])
  images = np.asarray(data.normalize(pixels, dataset.mean, dataset.std))
  print_areas(model.model, model.variables, images)
  print_randomisation(model.model, model.variables, other.variables, images)


if __name__ == "__main__":
  main()
