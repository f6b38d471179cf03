"""A CoAtNet as the backbone of a model of one's own, on a task of one's own, through the loop of convattn.training.

Which pixel is which digit? The pictures are scans of handwritten digits that lie about on a noisy ground, and the masks
say of each pixel which digit it belongs to. The backbone's weights come from a classifier: a run of ours (`make train`
leaves one in runs/digits) or, with the network, a tag of timm's such as coatnet_nano_rw_224.sw_in1k.

    make train
    python examples/segmentation.py --weights=runs/digits --workdir=runs/segmentation
    python examples/segmentation.py --weights=coatnet_nano_rw_224.sw_in1k --size=192 --workdir=runs/photographs

The run is one like any other: killed, the same command continues it; finished, it prints its result; its checkpoints
are ranked by the task's own score. What is left to do here is what only this task knows.
"""

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from convattn import inference, pretrained, training
from convattn.data import ArraySource, load, normalize
from convattn.models import CoAtNet
from convattn.training import Checkpoint, Experiment, Optimizer, Ranking

GROUND, NUM_CLASSES = 0, 11  # class 1 + d: digit d


class Segmenter(nn.Module):
  """images [b, h, w, c] -> logits [b, h, w, classes]: each map of the backbone, at one width and size, added up."""

  backbone: CoAtNet
  num_classes: int = NUM_CLASSES
  width: int = 48

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    maps = self.backbone.features(images, train=train)
    total: Any = 0.0
    for i, features in enumerate(maps):
      projected = nn.Dense(self.width, name=f"project_{i}")(nn.LayerNorm(name=f"norm_{i}")(features))
      total = total + jax.image.resize(projected, (len(projected), *maps[0].shape[1:3], self.width), "bilinear")
    logits = nn.Dense(self.num_classes, name="logits")(nn.gelu(total)).astype(jnp.float32)
    return jax.image.resize(logits, (*images.shape[:3], self.num_classes), "bilinear")


def scenes(digits: ArraySource, count: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """(pixels uint8 [count, size, size, 1], masks int32 [count, size, size]): two digits each, size / 3 pixels wide."""
  rng = np.random.default_rng(seed)
  scale = size // 24
  pixels = rng.integers(0, 60, (count, size, size, 1), np.uint8)
  masks = np.full((count, size, size), GROUND, np.int32)
  for scene, mask in zip(pixels, masks, strict=True):
    left = 0
    for index in rng.integers(0, len(digits), 2):
      digit = np.kron(digits.images[index, :, :, 0], np.ones((scale, scale), np.uint8))
      top, left = rng.integers(0, size - len(digit)), left + rng.integers(0, size // 2 - len(digit))
      place = slice(top, top + len(digit)), slice(left, left + len(digit))
      scene[(*place, 0)] = np.maximum(scene[(*place, 0)], digit)
      mask[place] = np.where(digit > 100, 1 + digits.labels[index], mask[place])
      left = size // 2  # the second one lies in the right half
  return pixels, masks


@dataclasses.dataclass(frozen=True, eq=False)
class Segmentation:
  """The task (see training.Task): of each pixel, which digit it belongs to."""

  experiment: Experiment
  preprocessing: pretrained.Preprocessing
  size: int
  metric_names: tuple[str, ...] = ("loss", "accuracy", "digits")
  evaluation_splits: tuple[str, ...] = ("validation", "test")
  num_classes: int = NUM_CLASSES
  ranking: Ranking = Ranking("validation/digits")

  def __post_init__(self) -> None:
    digits = load("digits")
    made = {"train": (digits.train, 2000), "validation": (digits.validation, 200), "test": (digits.test, 200)}
    found = {name: scenes(*row, self.size, seed) for seed, (name, row) in enumerate(made.items())}
    object.__setattr__(self, "scenes", found)

  @property
  def metadata(self) -> dict[str, Any]:
    return {"size": self.size, "preprocessing": self.preprocessing.as_json()}

  @property
  def evaluation_batch_size(self) -> int:
    return self.experiment.eval_batch_size

  @property
  def example_inputs(self) -> jax.Array:
    return jnp.zeros((1, self.size, self.size, len(self.preprocessing.mean)))

  def train_rows(self, step: int, rows: slice) -> dict[str, np.ndarray]:
    pixels, masks = self.scenes["train"]
    drawn = np.random.default_rng((self.experiment.seed, step)).integers(0, len(pixels), self.experiment.batch_size)
    return {"pixels": pixels[drawn[rows]], "classes": masks[drawn[rows]]}

  def evaluation_rows(self, split: str, rows: slice) -> Iterator[dict[str, np.ndarray]]:
    pixels, masks = self.scenes[split]
    for start in range(0, len(pixels), self.evaluation_batch_size):
      part = slice(start, start + self.evaluation_batch_size)
      batch = {"pixels": pixels[part], "classes": masks[part], "mask": np.ones(len(pixels[part]), np.float32)}
      missing = self.evaluation_batch_size - len(batch["mask"])
      yield {n: np.pad(a, [(0, missing)] + [(0, 0)] * (a.ndim - 1))[rows] for n, a in batch.items()}

  def prepare_eval(self, batch: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
    return self.inputs(batch["pixels"]), batch["classes"]

  def prepare_train(self, key: jax.Array, batch: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
    return self.prepare_eval(batch)

  def inputs(self, pixels: Any) -> jax.Array:
    """What the weights expect: their channels, mean and standard deviation."""
    mean, std = self.preprocessing.mean, self.preprocessing.std
    return normalize(jnp.repeat(pixels, len(mean), -1), mean, std)

  def losses(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean((1, 2))

  def metric_sums(self, outputs: jax.Array, targets: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    """Beside the scalars "pixels": counts[true class][predicted class], which the run leaves in pixels.json."""
    found = outputs.argmax(-1)
    right, on_digits = (found == targets).astype(jnp.float32), (targets != GROUND).astype(jnp.float32)
    share = (right * on_digits).sum((1, 2)) / jnp.maximum(on_digits.sum((1, 2)), 1)
    one_hot = jax.nn.one_hot(targets, self.num_classes) * mask[:, None, None, None]
    return {
      "loss": (mask * self.losses(outputs, targets)).sum(),
      "accuracy": (mask * right.mean((1, 2))).sum(),
      "digits": (mask * share).sum(),
      "count": mask.sum(),
      "pixels": jnp.einsum("bhwt,bhwp->tp", one_hot, jax.nn.one_hot(found, self.num_classes)),
    }


def mean_iou(counts: np.ndarray) -> float:
  """Intersection over union of each class's pixels, averaged over the classes that there are."""
  both, either = np.diag(counts), counts.sum(0) + counts.sum(1) - np.diag(counts)
  return float((both[either > 0] / either[either > 0]).mean())


def first_variables(model: Segmenter, task: Segmentation, weights: inference.Classifier) -> dict[str, Any]:
  """Drawn ones, but the backbone's are the classifier's, its bias tables fitted to the size of the scenes."""
  drawn = jax.jit(lambda key: model.init(key, task.example_inputs, train=False))(jax.random.key(0))
  trained = pretrained.resize(weights.model, weights.variables, task.size)
  return {
    name: {**tree, "backbone": {part: trained[name][part] for part in tree["backbone"]}} if "backbone" in tree else tree
    for name, tree in drawn.items()
  }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
  """Trains or goes on, evaluates, and draws what it predicts as text; returns the numbers."""
  parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
  parser.add_argument("--weights", default="runs/digits", help="a run's workdir, a checkpoint, or a tag of timm's")
  parser.add_argument("--workdir", default="runs/segmentation", type=Path)
  parser.add_argument("--steps", type=int, default=200)
  parser.add_argument("--size", type=int, default=24, help="pixels per side, a multiple of 24")
  options = parser.parse_args(arguments)
  if options.size < 24 or options.size % 24:
    parser.error(f"--size must be a multiple of 24, got {options.size}.")

  weights = inference.restore_classifier(options.weights)
  experiment = Experiment(
    num_steps=options.steps,
    batch_size=16,
    eval_batch_size=40,
    eval_every=50,
    optimizer=Optimizer(2e-3, warmup_steps=options.steps // 10, freeze="backbone/stem,backbone/stage_1"),
    checkpoint=Checkpoint(every=50),
  )
  task = Segmentation(experiment, weights.preprocessing, options.size)
  model = Segmenter(weights.model.clone(num_classes=0, parent=None))
  variables = first_variables(model, task, weights)
  training.run(experiment, options.workdir, model, task, variables=variables)

  restored = inference.restore(options.workdir, model=model)
  numbers, sums = inference.evaluate(restored, task, "test")
  numbers["mean_iou"] = mean_iou(sums["pixels"])
  print(f"test: {numbers['digits']:.1%} of the digits' pixels, mean IoU {numbers['mean_iou']:.3f}")
  scene = task.scenes["test"][0][:1]
  mask = restored.model.apply(restored.variables, task.inputs(scene), train=False).argmax(-1)[0]
  print("\n".join("".join(".0123456789"[c] for c in row) for row in mask[:: options.size // 24, :: options.size // 24]))
  return numbers


if __name__ == "__main__":
  main()
