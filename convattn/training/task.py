"""A task supplies batches, losses and metric sums; the loop knows nothing else about the data."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from convattn.data import (
  ArraySource,
  Dataset,
  HostAugmentation,
  Workers,
  augmented_batch,
  color_jitter,
  evaluation_batches,
  mixup_or_cutmix,
  normalize,
  random_crop,
  random_flip,
  train_batch,
)
from convattn.training.config import Experiment
from convattn.training.validation import SettingsError

Batch = dict[str, Any]


class Task(Protocol):
  """What the loop asks of a task. Methods that take jax arrays are traced into the steps; the others run on the host.

  A task may also have `train_rows(step, rows: slice)`, the rows `rows` of `train_batch(step)` without the others, and
  `evaluation_rows(split, rows: slice)`, those of each of `evaluation_batches(split)`, with `evaluation_batch_size`;
  then each host makes only the rows that its own devices hold.

  Attributes:
    metric_names: keys of the scalar sums of `metric_sums`, "loss" among them; not "count", "steps",
      "learning_rate", "gradient_norm", "update_norm" or "parameter_norm", which the loop reports itself.
    evaluation_splits: "test" is scored once, with the final weights, the others at each validation. Checkpoints
      are ranked by "accuracy" of "validation", where there is one.
    metadata: what it takes to use the model later, such as class names and preprocessing; must be JSON. A run is
      continued only with equal metadata and data. "class_names" are needed where "confusion" is counted.
  """

  @property
  def metric_names(self) -> tuple[str, ...]: ...

  @property
  def evaluation_splits(self) -> tuple[str, ...]: ...

  @property
  def num_classes(self) -> int:
    """Width of the model's output, for a model that `run` creates by name."""
    ...

  @property
  def metadata(self) -> dict[str, Any]: ...

  @property
  def example_inputs(self) -> Any:
    """Model inputs of the right shape and dtype, [1, ...]: the model is initialised with them."""
    ...

  def train_batch(self, step: int) -> dict[str, np.ndarray]:
    """The whole batch of update `step` (from 0), each array [b, ...]. A pure function of its argument."""
    ...

  def evaluation_batches(self, split: str) -> Iterator[dict[str, np.ndarray]]:
    """Batches of one shape, each with "mask" [b], 0 for padding. All hosts see the same."""
    ...

  def prepare_train(self, key: jax.Array, batch: Batch) -> tuple[Any, Any]:
    """(model inputs, targets); here is where augmentation happens."""
    ...

  def prepare_eval(self, batch: Batch) -> tuple[Any, Any]:
    """(model inputs, targets), with nothing random."""
    ...

  def losses(self, outputs: Any, targets: Any) -> jax.Array:
    """One loss per example, [b]. Training minimises their mean over the batch."""
    ...

  def metric_sums(self, outputs: Any, targets: Any, mask: jax.Array) -> dict[str, jax.Array]:
    """Sums over the examples with mask 1: a scalar for each of `metric_names`, and "count"; arrays may be added."""
    ...


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

  def train_batch(self, step: int) -> dict[str, np.ndarray]:
    """{"image": uint8 [b, h, w, c], "label": int32 [b]}; see data.train_batch, data.augmented_batch."""
    return self.train_rows(step, slice(None))

  def train_rows(self, step: int, rows: slice) -> dict[str, np.ndarray]:
    """The rows `rows` of `train_batch(step)`, without making the others."""
    seed, batch_size = self.experiment.seed, self.experiment.batch_size
    place: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "step": step, "rows": rows}
    if self._workers is not None:
      return self._checked(self._workers.train_batch(**place))
    if self._changes.is_identity:
      return self._checked(train_batch(self.dataset.train, **place))
    return self._checked(augmented_batch(self.dataset, self._changes, **place))

  def evaluation_batches(self, split: str) -> Iterator[dict[str, np.ndarray]]:
    """{"image", "label", "mask"}, the last one padded; see data.evaluation_batches."""
    return self.evaluation_rows(split, slice(None))

  @property
  def evaluation_batch_size(self) -> int:
    """Rows of each of `evaluation_batches`."""
    return self.experiment.eval_batch_size

  def evaluation_rows(self, split: str, rows: slice) -> Iterator[dict[str, np.ndarray]]:
    """The rows `rows` of each of `evaluation_batches(split)`, without making the others."""
    source = {"validation": self.dataset.validation, "test": self.dataset.test}[split]
    if self._workers is not None and not isinstance(source, ArraySource):
      return map(self._checked, self._workers.evaluation_batches(split, self.evaluation_batch_size, rows))
    return map(self._checked, evaluation_batches(source, self.evaluation_batch_size, rows))

  def _checked(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    # One-hot targets are made by comparison, which would turn a label outside the classes into no class at all.
    lowest, highest = batch["label"].min(), batch["label"].max()
    if lowest < 0 or highest >= self.num_classes:
      raise SettingsError(
        f"labels must be at least 0 and below {self.num_classes}, the number of class names, got "
        f"{lowest if lowest < 0 else highest}; number the classes from 0 and name each in Dataset.class_names."
      )
    if batch["image"].shape[1:] != tuple(self.dataset.image_shape):
      raise ValueError(f"images must be {self.dataset.image_shape} (image_shape), got {batch['image'].shape[1:]}.")
    return batch

  def prepare_train(self, key: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Crop and flip the pixels, change their colours, normalise, then mix images and smoothed one-hot targets.

    Cropping comes before normalisation, so that the padding is black.
    """
    settings = self.experiment.augmentation
    crop_key, flip_key, mix_key, color_key = jax.random.split(key, 4)
    images = random_crop(crop_key, batch["image"], settings.crop_padding)
    images = random_flip(flip_key, images) if settings.flip else images
    images = color_jitter(color_key, images, settings.color_jitter)
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
    match self.experiment.loss.kind:
      case "softmax":
        return optax.softmax_cross_entropy(logits, targets)
      case "sigmoid":
        return optax.sigmoid_binary_cross_entropy(logits, targets).sum(-1)
      case unknown:
        raise ValueError(f"loss.kind must be 'softmax' or 'sigmoid', got {unknown!r}.")

  def metric_sums(self, outputs: jax.Array, targets: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    """Sums of loss and hits ("accuracy"), "count", and "confusion" [true class, predicted class], over rows of mask 1.

    Under mixup the true class is the one with the largest target.
    """
    chex.assert_shape(mask, outputs.shape[:1], custom_message="mask must be [b]")
    true, predicted = jnp.argmax(targets, -1), jnp.argmax(outputs, -1)
    # where, not a product: a masked row may hold anything, even nan.
    losses = jnp.where(mask > 0, self.losses(outputs, targets), 0)
    rows, columns = self._one_hot(true) * mask[:, None], self._one_hot(predicted)
    return {
      "loss": losses.sum(),
      "accuracy": (mask * (true == predicted)).sum(),
      "count": mask.sum(),
      "confusion": jnp.einsum("bt,bp->tp", rows, columns, precision="highest"),
    }
