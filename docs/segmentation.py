"""A CoAtNet as the backbone of somebody else's model, in somebody else's training loop: which pixel is which digit?

The pictures are scans of handwritten digits that lie about on a noisy ground, and the masks say of each pixel which
digit it belongs to. The backbone's weights come from a classifier: a run of ours (`make train` leaves one in
runs/digits) or, with the network, a tag of timm's such as coatnet_nano_rw_224.sw_in1k.

    make train
    python docs/segmentation.py --weights=runs/digits
    python docs/segmentation.py --weights=coatnet_nano_rw_224.sw_in1k --size=192
"""

import argparse
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import convattn
from convattn import pretrained, training
from convattn.data import ArraySource, load

FROZEN = ("stem", "stage_1")
GROUND, NUM_CLASSES = 0, 11  # class 1 + d: digit d


class SegmentationHead(nn.Module):
  """Feature maps of several resolutions -> logits [b, *size, classes].

  Each map is projected to one width and stretched to the first map's size; their sum is classified pixel by pixel.
  """

  num_classes: int
  width: int = 48

  @nn.compact
  def __call__(self, maps: list[jax.Array], size: tuple[int, int]) -> jax.Array:
    finest = maps[0].shape[1:3]
    total: Any = 0.0
    for i, features in enumerate(maps):
      projected = nn.Dense(self.width, name=f"project_{i}")(nn.LayerNorm(name=f"norm_{i}")(features))
      total = total + jax.image.resize(projected, (len(projected), *finest, self.width), "bilinear")
    logits = nn.Dense(self.num_classes, name="logits")(nn.gelu(total)).astype(jnp.float32)
    return jax.image.resize(logits, (len(logits), *size, self.num_classes), "bilinear")


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


def mean_iou(true: np.ndarray, predicted: np.ndarray) -> float:
  """Intersection over union of each class's pixels, averaged over the classes that there are."""
  counts = np.bincount((true * NUM_CLASSES + predicted).ravel(), minlength=NUM_CLASSES**2)
  counts = counts.reshape(NUM_CLASSES, NUM_CLASSES)
  both, either = np.diag(counts), counts.sum(0) + counts.sum(1) - np.diag(counts)
  return float((both[either > 0] / either[either > 0]).mean())


def make_functions(backbone: convattn.models.CoAtNet, head: SegmentationHead, optimizer: optax.GradientTransformation):
  """(predict, train_step), jitted."""

  @jax.jit
  def predict(params, batch_stats, images):
    variables = {"params": params["backbone"], "batch_stats": batch_stats}
    maps = backbone.apply(variables, images, train=False, method="features")
    return head.apply({"params": params["head"]}, maps, images.shape[1:3]).argmax(-1)

  def loss(params, batch_stats, images, masks, key):
    # In training mode BatchNorm normalises by the batch and returns its new running averages; the frozen stages' too,
    # which are no parameters: they follow the new pictures.
    maps, updated = backbone.apply(
      {"params": params["backbone"], "batch_stats": batch_stats},
      images,
      train=True,
      mutable=["batch_stats"],
      rngs={"dropout": key},
      method="features",
    )
    logits = head.apply({"params": params["head"]}, maps, images.shape[1:3])
    return optax.softmax_cross_entropy_with_integer_labels(logits, masks).mean(), updated["batch_stats"]

  @jax.jit
  def train_step(params, batch_stats, optimizer_state, images, masks, key):
    (value, batch_stats), gradients = jax.value_and_grad(loss, has_aux=True)(params, batch_stats, images, masks, key)
    updates, optimizer_state = optimizer.update(gradients, optimizer_state, params)
    return optax.apply_updates(params, updates), batch_stats, optimizer_state, value

  return predict, train_step


def make_optimizer(steps: int) -> optax.GradientTransformation:
  """AdamW: the head learns fast, the backbone slowly, and its FROZEN parts not at all and without moments."""

  def labels(params):
    return {
      "head": jax.tree.map(lambda _: "head", params["head"]),
      "backbone": {
        part: jax.tree.map(lambda _, part=part: "frozen" if part in FROZEN else "backbone", tree)
        for part, tree in params["backbone"].items()
      },
    }

  def adamw(rate):
    return optax.adamw(optax.warmup_cosine_decay_schedule(0.0, rate, steps // 10, steps))

  return optax.partition({"head": adamw(3e-3), "backbone": adamw(3e-4), "frozen": optax.set_to_zero()}, labels)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
  """Trains and prints; returns the numbers and the parameters before and after."""
  parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
  parser.add_argument("--weights", default="runs/digits", help="a run's workdir, a checkpoint, or a tag of timm's")
  parser.add_argument("--steps", type=int, default=200)
  parser.add_argument("--size", type=int, default=24, help="pixels per side, a multiple of 24")
  options = parser.parse_args(arguments)
  if options.size < 24 or options.size % 24:
    parser.error(f"--size must be a multiple of 24, got {options.size}.")

  restored = training.restore(options.weights)
  backbone = restored.model.clone(num_classes=0)
  variables = pretrained.resize(restored.model, restored.variables, options.size)
  trunk = {part: tree for part, tree in variables["params"].items() if part != "classifier"}
  batch_stats = variables.get("batch_stats", {})

  def inputs(pixels):  # what the weights expect: their channels, mean and standard deviation
    return restored.preprocessing.normalize(np.repeat(pixels, len(restored.preprocessing.mean), -1))

  digits = load("digits")
  pixels, masks = scenes(digits.train, 2000, options.size, seed=0)
  test_pixels, test_masks = scenes(digits.test, 200, options.size, seed=1)

  head = SegmentationHead(NUM_CLASSES)
  key = jax.random.key(0)
  shapes = jax.eval_shape(
    lambda images: backbone.apply(
      {"params": trunk, "batch_stats": batch_stats}, images, train=False, method="features"
    ),
    inputs(pixels[:1]),
  )
  zeros = [jnp.zeros(shape.shape, shape.dtype) for shape in shapes]
  params = {"backbone": trunk, "head": head.init(key, zeros, (options.size, options.size))["params"]}
  optimizer = make_optimizer(options.steps)
  predict, train_step = make_functions(backbone, head, optimizer)

  def score():
    found = [predict(params, batch_stats, inputs(part)) for part in np.split(test_pixels, 4)]
    return mean_iou(test_masks, np.concatenate(found))

  start, before, optimizer_state = params, score(), optimizer.init(params)
  print(f"mean IoU on {len(test_masks)} test scenes before training: {before:.3f}")
  order = np.random.default_rng(0)
  for step in range(options.steps):
    chosen = order.integers(0, len(pixels), 16)
    params, batch_stats, optimizer_state, value = train_step(
      params, batch_stats, optimizer_state, inputs(pixels[chosen]), masks[chosen], jax.random.fold_in(key, step)
    )
    if (step + 1) % 50 == 0:
      print(f"step {step + 1}/{options.steps}, loss {value:.3f}")
  after = score()
  print(f"mean IoU after {options.steps} steps: {after:.3f}")
  return {"before": before, "after": after, "params": (start, params)}


if __name__ == "__main__":
  main()
