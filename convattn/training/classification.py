"""The task of classifying images."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from convattn.data import (
  ArraySource,
  Dataset,
  HostAugmentation,
  Source,
  Workers,
  adapt,
  augmented_batch,
  color_jitter,
  evaluation_batches,
  load,
  mixup_or_cutmix,
  normalize,
  random_crop,
  random_erasing,
  random_flip,
  train_batch,
)
from convattn.errors import UserError
from convattn.pretrained import Preprocessing
from convattn.training.config import Augmentation, Experiment
from convattn.training.records import largest
from convattn.training.task import SKIPPED_PICTURES, Batch

PROBABILITIES = {"softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid}
"""Of each class, as each loss.kind has it."""

LOSSES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
  "softmax": optax.softmax_cross_entropy,
  "sigmoid": lambda logits, targets: optax.sigmoid_binary_cross_entropy(logits, targets).sum(-1),
}
"""What each loss.kind is."""


@dataclasses.dataclass(frozen=True, eq=False)
class ImageClassification:
  """The task of telling which of the data set's classes an image belongs to.

  Attributes:
    dataset: sources, class names, image shape and pixel statistics.
    experiment: seed, batch sizes, augmentation, loss and the number of workers are taken from it.

  Batches may be asked for from several threads. With data.workers processes are started for the first of them; `close`
  ends them.
  """

  dataset: Dataset
  experiment: Experiment
  metric_names: tuple[str, ...] = ("loss", "accuracy")
  evaluation_splits: tuple[str, ...] = ("validation", "test")
  _workers: Workers | None = dataclasses.field(init=False, repr=False)

  @property
  def num_classes(self) -> int:
    return self.dataset.num_classes

  @property
  def metadata(self) -> dict[str, Any]:
    splits = {name: getattr(self.dataset, name) for name in ("train", "validation", "test")}
    return {
      "num_examples": {name: len(source) for name, source in splits.items()},
      "class_names": list(self.dataset.class_names),
      "image_shape": [int(size) for size in self.dataset.image_shape],
      "mean": [float(value) for value in self.dataset.mean],
      "std": [float(value) for value in self.dataset.std],
      "preprocessing": self.dataset.preprocessing.as_json(),
    }

  @property
  def example_inputs(self) -> jax.Array:
    return jnp.zeros((1, *self.dataset.image_shape), jnp.float32)

  def __post_init__(self) -> None:
    _check_augmentation(self.experiment.augmentation, self.dataset.image_shape)
    count = self.experiment.data.workers
    # Images in memory are there: to send them back and forth would only cost.
    idle = self._changes.is_identity and isinstance(self.dataset.train, ArraySource)
    workers = Workers(self.dataset, self._changes, count) if count and not idle else None
    object.__setattr__(self, "_workers", workers)

  @property
  def _changes(self) -> HostAugmentation:
    settings = self.experiment.augmentation
    return HostAugmentation(settings.resized_crop_area, settings.randaugment_layers, settings.randaugment_magnitude)

  def close(self) -> None:
    """Ends the processes of data.workers, if there are any. Another batch would start them again."""
    if self._workers is not None:
      self._workers.close()

  def host_numbers(self) -> dict[str, float]:
    """With data.broken "skip": how many pictures could not be read so far."""
    return {SKIPPED_PICTURES: self.dataset.skipped()} if self.experiment.data.broken == "skip" else {}

  def train_rows(self, step: int, rows: slice) -> Batch:
    """{"image": uint8 [b, h, w, c], "label": int32 [b]}; see data.train_batch, data.augmented_batch."""
    seed, batch_size = self.experiment.seed, self.experiment.batch_size
    place: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "step": step, "rows": rows}
    if self._workers is not None:
      return self._checked(self._workers.train_batch(**place))
    if self._changes.is_identity:
      return self._checked(train_batch(self.dataset.train, **place))
    return self._checked(augmented_batch(self.dataset, self._changes, **place))

  @property
  def evaluation_batch_size(self) -> int:
    return self.experiment.eval_batch_size

  def evaluation_rows(self, split: str, rows: slice) -> Iterator[Batch]:
    """{"image", "label", "mask"}, the last batch padded; see data.evaluation_batches."""
    source = self._source(split)
    if self._workers is not None and not isinstance(source, ArraySource):
      return map(self._checked, self._workers.evaluation_batches(split, self.evaluation_batch_size, rows))
    return map(self._checked, evaluation_batches(source, self.evaluation_batch_size, rows))

  def pictures(self, split: str, rows: Sequence[int]) -> np.ndarray:
    """uint8 [k, h, w, c], the images at these places of a split."""
    source = self._source(split)
    return np.array([source[row]["image"] for row in rows], np.uint8).reshape(-1, *self.dataset.image_shape)

  def _source(self, split: str) -> Source:
    return {"validation": self.dataset.validation, "test": self.dataset.test}[split]

  def _checked(self, batch: Batch) -> Batch:
    # One-hot targets are made by comparison, which would turn a label outside the classes into no class at all.
    lowest, highest = batch["label"].min(), batch["label"].max()
    if lowest < 0 or highest >= self.num_classes:
      raise UserError(
        f"labels must be at least 0 and below {self.num_classes}, the number of class names, got "
        f"{lowest if lowest < 0 else highest}; number the classes from 0 and name each in Dataset.class_names."
      )
    if batch["image"].shape[1:] != tuple(self.dataset.image_shape):
      raise UserError(f"images must be {self.dataset.image_shape} (image_shape), got {batch['image'].shape[1:]}.")
    return batch

  def prepare_train(self, key: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Crop and flip the pixels, change their colours, erase some, normalise, then mix images and smoothed targets.

    Cropping comes before normalisation, so that the padding is black.
    """
    settings = self.experiment.augmentation
    crop_key, flip_key, mix_key, color_key, erasing_key = jax.random.split(key, 5)  # the first four whatever follows
    images = random_crop(crop_key, batch["image"], settings.crop_padding)
    images = random_flip(flip_key, images) if settings.flip else images
    images = color_jitter(color_key, images, settings.color_jitter)
    images = random_erasing(erasing_key, images, settings.erasing)
    images = normalize(images, self.dataset.mean, self.dataset.std)
    targets = optax.smooth_labels(self._one_hot(batch["label"]), self.experiment.loss.label_smoothing)
    return mixup_or_cutmix(mix_key, images, targets, settings.mixup_alpha, settings.cutmix_alpha)

  def prepare_eval(self, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Normalised images and one-hot targets, not smoothed."""
    return normalize(batch["image"], self.dataset.mean, self.dataset.std), self._one_hot(batch["label"])

  def _one_hot(self, labels: jax.Array) -> jax.Array:
    return (labels[:, None] == jnp.arange(self.num_classes, dtype=labels.dtype)[None]).astype(jnp.float32)

  def losses(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Per example, [b], in promote_types(dtype, float32), for logits and soft targets [b, classes].

    'softmax': -sum_c target_c log softmax(logits)_c. 'sigmoid': the sum over classes of
    -target_c log sigmoid(logit_c) - (1 - target_c) log sigmoid(-logit_c).
    """
    wanted = f"the model's last layer needs num_classes = {targets.shape[-1]} outputs"
    chex.assert_rank(outputs, 2, custom_message=f"outputs must be logits [b, classes]; {wanted}")
    alike = "outputs and targets must be [b, classes] alike"
    chex.assert_equal_shape((outputs, targets), custom_message=f"{alike}; {wanted}")
    logits = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
    return LOSSES[self.experiment.loss.kind](logits, targets)

  def metric_sums(self, outputs: jax.Array, targets: jax.Array, mask: jax.Array) -> dict[str, Any]:
    """Sums of loss and hits ("accuracy"), "count", and "confusion" [true class, predicted class], over rows of mask 1.

    "mistakes": the rows taken for a wrong class with the largest probability of that class, "true" and "predicted".
    Under mixup the true class is the one with the largest target.
    """
    chex.assert_shape(mask, outputs.shape[:1], custom_message="mask must be [b]")
    true, predicted = jnp.argmax(targets, -1), jnp.argmax(outputs, -1)
    # where, not a product: a masked row may hold anything, even nan.
    losses = jnp.where(mask > 0, self.losses(outputs, targets), 0)
    logits = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
    certain = PROBABILITIES[self.experiment.loss.kind](logits).max(-1)
    rows, columns = self._one_hot(true) * mask[:, None], self._one_hot(predicted)
    return {
      "loss": losses.sum(),
      "accuracy": (mask * (true == predicted)).sum(),
      "count": mask.sum(),
      "confusion": jnp.einsum("bt,bp->tp", rows, columns, precision="highest"),
      "mistakes": largest(
        jnp.where((mask > 0) & (true != predicted), certain, -jnp.inf), {"true": true, "predicted": predicted}
      ),
    }


def _check_augmentation(settings: Augmentation, image_shape: tuple[int, int, int]) -> None:
  """Images of a single row or column must not be changed by what works on both axes alike.

  Raises:
    UserError: a setting that would shift, cut or turn what they show out of sight; one line.
  """
  height, width = image_shape[:2]
  if min(height, width) > 1:
    return
  for name, off in (("crop_padding", 0), ("resized_crop_area", 1.0), ("randaugment_layers", 0)):
    value = getattr(settings, name)
    if value != off:
      raise UserError(
        f"augmentation.{name} is {value}, but must be {off} for images of {height} x {width}, of which it would leave "
        "nothing to see."
      )


def load_dataset(experiment: Experiment, preprocessing: Preprocessing | None = None) -> Dataset:
  """`data.load` with the settings of `experiment.data`; `preprocessing` is of a model that was trained before.

  With `adapt_channels` the images keep their number of channels, and the preprocessing is made for that.

  Raises:
    UserError: as `data.load`; one line.
  """
  settings = experiment.data
  dataset = load(
    settings.name,
    settings.dir,
    classes=settings.classes,
    images_per_class=settings.images_per_class,
    subset_seed=settings.subset_seed,
    image_size=settings.image_size,
    broken=settings.broken,
    exif=settings.exif,
    preprocessing=None if experiment.adapt_channels else preprocessing,
  )
  if preprocessing is None or not experiment.adapt_channels:
    return dataset
  its_own = preprocessing.with_channels(len(dataset.mean))
  return adapt(dataset, image_size=settings.image_size, exif=settings.exif, preprocessing=its_own)
