"""Which attention layers of a trained CoAtNet behave like convolutions? A table and a figure, beside untrained ones.

A convolution has its weight on few shifts near itself, the same for every query and every image. The heads of each
layer are measured on the first test images (`analysis.head_report`), for runs that differ in their seed, and again with
the parameters that each run began with.

    for seed in 0 1 2; do
      python train.py --config=configs/digits_8x8.py --workdir=runs/digits_8x8_$seed --config.seed=$seed
    done
    python examples/convolution_stages.py runs/digits_8x8_0 runs/digits_8x8_1 runs/digits_8x8_2 --out=stages.png

A number of a layer is the mean over its heads, so that heads of different seeds need not be matched; it is given as
mean ± sample standard deviation over the seeds. The last row is what a head that attends to all keys alike would have.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convattn import analysis, training, viz
from convattn.analysis import AttentionMap, HeadReport
from convattn.data import normalize
from convattn.training.classification import load_dataset
from convattn.training.program import run_keys


@dataclasses.dataclass(frozen=True)
class Measured:
  """The heads of one model, and how far each part of the logits spreads over the keys: {part: float [layers]}."""

  reports: list[HeadReport]
  spreads: dict[str, np.ndarray]


def measured(model: Any, variables: Any, images: np.ndarray) -> Measured:
  """What `head_report` says of a model on images as it takes them."""
  maps = analysis.attention_maps(model, variables, images)
  spreads = {part: np.array([spread(each, part) for each in maps]) for part in ("position", "content")}
  return Measured(analysis.head_report(maps), spreads)


def spread(attention: AttentionMap, part: str) -> float:
  """Standard deviation over the keys of one part of the logits, the mean over images, heads and queries."""
  return float(attention.dense(part).astype(np.float64).std(-1).mean())


def alike(report: HeadReport) -> HeadReport:
  """The report of a head that attends to all keys alike, on the grids of another."""
  weights = np.full((2, 1, report.query_grid.cells, report.key_grid.cells), 1 / report.key_grid.cells, np.float32)
  (found,) = analysis.head_report([AttentionMap("all keys alike", report.query_grid, report.key_grid, weights)])
  return found


COLUMNS = {
  "most weight on one shift": lambda report: report.peak,
  "weight on 3 × 3": lambda report: report.local_mass,
  "consistency R²": lambda report: report.consistency,
  "content, nats": lambda report: report.content_dependence,
  "distance, pixels": lambda report: report.distance,
  "entropy": lambda report: report.entropy,
}


def table(groups: dict[str, list[Measured]]) -> str:
  """A row for each layer and group, in Markdown."""
  parts = {"position": "spread of position", "content": "spread of content"}
  head = ["layer", "model", *COLUMNS, *parts.values()]
  lines = [head, ["---", "---", *["---:"] * (len(head) - 2)]]
  first = next(iter(groups.values()))[0].reports
  for i, report in enumerate(first):
    for name, seeds in groups.items():
      numbers = [[float(np.nanmean(column(each.reports[i]))) for each in seeds] for column in COLUMNS.values()]
      numbers += [[float(each.spreads[part][i]) for each in seeds] for part in parts]
      lines.append([report.layer.removesuffix("/attention"), name, *map(told, numbers)])
  even = alike(first[0])
  lines.append([even.layer, "–", *(f"{float(column(even)[0]):.3f}" for column in COLUMNS.values()), "0", "0"])
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def told(numbers: Sequence[float]) -> str:
  """Mean ± sample standard deviation."""
  deviation = f" ± {statistics.stdev(numbers):.3f}" if len(numbers) > 1 else ""
  return f"{statistics.fmean(numbers):.3f}{deviation}"


def compare(workdirs: Sequence[str], num_images: int) -> dict[str, list[Measured]]:
  """{"trained", "untrained": of each run}: its last weights as `restore` takes them, and those that it began with."""
  groups: dict[str, list[Measured]] = {"trained": [], "untrained": []}
  for workdir in workdirs:
    run = training.restore_classifier(workdir)
    assert run.experiment is not None
    dataset = load_dataset(run.experiment)
    pixels = np.stack([dataset.test.images[i] for i in range(num_images)])
    images = np.asarray(normalize(jnp.asarray(pixels), dataset.mean, dataset.std))
    begun = jax.jit(lambda key, run=run, x=images[:1]: run.model.init(key, x, train=False))
    groups["trained"].append(measured(run.model, run.variables, images))
    groups["untrained"].append(measured(run.model, begun(run_keys(run.experiment.seed)[0]), images))
  return groups


def main(arguments: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("workdirs", nargs="+", help="runs that differ in their seed")
  parser.add_argument("--images", type=int, default=100, help="test images to measure on")
  parser.add_argument("--out", default="stages.png", help="the figure: .pdf, .svg or .png")
  given = parser.parse_args(arguments)
  groups = compare(given.workdirs, given.images)
  print(table(groups))
  reports = {name: [each.reports for each in seeds] for name, seeds in groups.items()}
  print(viz.save_figure(viz.convolution_likeness_figure(reports), given.out))


if __name__ == "__main__":
  main()
