"""What fine-tuning is worth: ten images per class, from trained weights or from drawn ones, everything else the same.

For each seed a small model learns the digits 0 to 4 at 8x8 pixels. Then two runs learn 5 to 9 at 12x12 pixels from the
same ten images of each class in the same order, for the same number of steps: one from those weights, one from drawn
ones. Both parts are the experiments of configs/finetune.py. Each kind of run has the learning rate of its lowest
loss on the validation images, with seeds that the table does not use (`--tune` shows them); the table's accuracies are
those of the test images of 5 to 9 with the weights of the last step.

    python benchmarks/transfer.py [--seeds=0,1,2,3,4] [--steps=30] [--workdir=runs/transfer] [--tune]

Needs only what is installed with the project. A run that is in the workdir already is not trained again.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import runpy
from pathlib import Path

import numpy as np

from convattn import training
from convattn.training.config import Experiment

CONFIG = Path(__file__).parents[1] / "configs" / "finetune.py"
RATES = {"trained": 2e-3, "drawn": 1e-3}
"""Peak learning rates, of `TRIED` those of the lowest loss on the validation images, averaged over `TUNING_SEEDS`."""

TRIED = (5e-4, 1e-3, 2e-3, 4e-3)
TUNING_SEEDS = (10, 11)


def experiments(seed: int, root: Path, rates: dict[str, float], steps: int = 0) -> dict[str, Experiment]:
  """ "pretrain", and "trained" and "drawn", called after the weights they start from; `steps` of these two."""
  get_config = runpy.run_path(str(CONFIG))["get_config"]
  pretrain = dataclasses.replace(get_config("pretrain"), seed=seed)
  finetune = get_config("finetune")
  finetune = dataclasses.replace(
    finetune,
    seed=seed,
    num_steps=steps or finetune.num_steps,
    data=dataclasses.replace(finetune.data, subset_seed=seed),
  )

  def at(rate: float, init_from: str) -> Experiment:
    chosen = dataclasses.replace(finetune.optimizer, peak_learning_rate=rate)
    return dataclasses.replace(finetune, init_from=init_from, optimizer=chosen)

  return {
    "pretrain": pretrain,
    "trained": at(rates["trained"], str(root / f"pretrain-{seed}")),
    "drawn": at(rates["drawn"], ""),
  }


def score(experiment: Experiment, workdir: Path) -> dict[str, float]:
  """Trains, unless that has been done, and returns the last line of metrics.jsonl."""
  with contextlib.redirect_stdout(io.StringIO()):
    training.run(experiment, workdir)
  return json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])


def pair(seed: int, root: Path, rates: dict[str, float], steps: int = 0) -> dict[str, dict[str, float]]:
  """The numbers of the runs "trained" and "drawn" of one seed."""
  chosen = experiments(seed, root, rates, steps)
  score(chosen["pretrain"], root / f"pretrain-{seed}")
  return {
    name: score(chosen[name], root / f"{name}-{chosen[name].num_steps}-{rates[name]:g}-{seed}")
    for name in ("trained", "drawn")
  }


def tune(root: Path, steps: int = 0) -> None:
  """Prints what each rate reaches on the validation images."""
  print("| peak learning rate | from trained weights | from drawn ones |\n|---|---|---|")
  for rate in TRIED:
    numbers = [pair(seed, root, {"trained": rate, "drawn": rate}, steps) for seed in TUNING_SEEDS]
    cells = [
      f"{np.mean([each[name]['validation/accuracy'] for each in numbers]):.2%}, "
      f"loss {np.mean([each[name]['validation/loss'] for each in numbers]):.3f}"
      for name in ("trained", "drawn")
    ]
    print(f"| {rate:g} | {' | '.join(cells)} |", flush=True)


def table(seeds: list[int], root: Path, steps: int = 0) -> np.ndarray:
  """Prints a row for each seed, and returns the gains in percentage points."""
  print("| seed | from trained weights | from drawn ones | gain |\n|---|---|---|---|")
  rows = []
  for seed in seeds:
    numbers = pair(seed, root, RATES, steps)
    trained, drawn = (100 * numbers[name]["test/accuracy"] for name in ("trained", "drawn"))
    rows.append([trained, drawn])
    print(f"| {seed} | {trained:.2f} % | {drawn:.2f} % | {trained - drawn:+.2f} |", flush=True)
  trained, drawn = np.mean(rows, axis=0)
  print(f"| mean | {trained:.2f} % | {drawn:.2f} % | {trained - drawn:+.2f} |")
  return np.array([trained - drawn for trained, drawn in rows])


def main() -> None:
  parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
  parser.add_argument("--seeds", default="0,1,2,3,4")
  parser.add_argument(
    "--steps", type=int, default=0, help="of fine-tuning, with either weights; 0: as configs/finetune.py"
  )
  parser.add_argument("--workdir", type=Path, default=Path("runs/transfer"))
  parser.add_argument("--tune", action="store_true", help="compare learning rates on the validation images instead")
  options = parser.parse_args()
  if options.tune:
    tune(options.workdir, options.steps)
  else:
    table([int(seed) for seed in options.seeds.split(",")], options.workdir, options.steps)


if __name__ == "__main__":
  main()
