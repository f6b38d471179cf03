import concurrent.futures
import dataclasses
import json
import multiprocessing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.data import ArraySource
from convattn.errors import UserError
from convattn.pretrained import Preprocessing
from convattn.training import ImageClassification, classification as training_task
from convattn.training.config import Augmentation, Data, Loss
from convattn.training.task import ALL_ROWS


@pytest.fixture
def task(toy):
  plain = dataclasses.replace(toy.EXPERIMENT, augmentation=Augmentation(), loss=Loss())
  return ImageClassification(toy.dataset(), plain)


def _with(task, **sections):
  return dataclasses.replace(task, experiment=dataclasses.replace(task.experiment, **sections))


def _draws(*shape):
  return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def test_softmax_loss_equals_its_formula(task):
  logits, targets = _draws(5, 3), np.abs(_draws(5, 3))
  wide = logits.astype(np.float64)
  log_probabilities = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
  np.testing.assert_allclose(
    task.losses(jnp.asarray(logits), targets), -(targets * log_probabilities).sum(-1), rtol=1e-5
  )


def test_sigmoid_loss_equals_its_formula_summed_over_classes(task):
  logits, targets = _draws(5, 3), np.abs(_draws(5, 3)) % 1
  probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
  expected = -(targets * np.log(probabilities) + (1 - targets) * np.log(1 - probabilities)).sum(-1)
  losses = _with(task, loss=Loss("sigmoid")).losses(jnp.asarray(logits), targets)
  np.testing.assert_allclose(losses, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_losses_of_narrow_logits_are_float32(task, kind):
  losses = _with(task, loss=Loss(kind)).losses(jnp.ones((5, 3), jnp.bfloat16), jnp.ones((5, 3)))
  assert losses.dtype == jnp.float32
  assert losses.shape == (5,)


def test_losses_refuse_outputs_that_do_not_fit_the_targets(task):
  wanted = "the model's last layer needs num_classes = 3 outputs"
  with pytest.raises(AssertionError, match=rf"\(5, 4\).*outputs and targets must be .* alike; {wanted}"):
    task.losses(jnp.ones((5, 4)), jnp.ones((5, 3)))
  with pytest.raises(AssertionError, match=rf"outputs must be logits \[b, classes\]; {wanted}"):
    task.losses(jnp.ones((5, 3, 1)), jnp.ones((5, 3)))


def test_smoothing_moves_its_share_evenly_and_only_in_training(task):
  smoothed = _with(task, loss=Loss(label_smoothing=0.3))
  batch = {"image": np.zeros((4, 5, 7, 2), np.uint8), "label": np.array([2, 0, 1, 1], np.int32)}
  one_hot = np.eye(3)[batch["label"]]
  np.testing.assert_allclose(smoothed.prepare_train(jax.random.key(0), batch)[1], 0.7 * one_hot + 0.1, rtol=1e-6)
  np.testing.assert_array_equal(smoothed.prepare_eval(batch)[1], one_hot)


def test_without_augmentation_training_and_evaluation_prepare_alike(task):
  batch = task.train_rows(0, ALL_ROWS)
  for ours, theirs in zip(task.prepare_train(jax.random.key(0), batch), task.prepare_eval(batch), strict=True):
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
  "setting", [{"crop_padding": 2}, {"flip": True}, {"erasing": 1.0}, {"mixup_alpha": 0.5}, {"cutmix_alpha": 0.5}]
)
def test_each_augmentation_changes_images_as_a_function_of_the_key(task, setting):
  augmented = _with(task, augmentation=Augmentation(**setting))
  batch = task.train_rows(0, ALL_ROWS)
  plain, _ = task.prepare_train(jax.random.key(0), batch)
  first, targets = augmented.prepare_train(jax.random.key(0), batch)
  again, _ = augmented.prepare_train(jax.random.key(0), batch)
  other, _ = augmented.prepare_train(jax.random.key(1), batch)
  np.testing.assert_array_equal(first, again)
  assert not np.array_equal(first, plain)
  assert not np.array_equal(first, other)
  np.testing.assert_allclose(targets.sum(-1), 1, rtol=1e-6)


def test_color_jitter_changes_pixels_before_they_are_normalised(grey):
  jittered = _with(grey, augmentation=Augmentation(color_jitter=0.4))
  batch = grey.train_rows(0, ALL_ROWS)
  plain, _ = grey.prepare_train(jax.random.key(0), batch)
  changed, _ = jittered.prepare_train(jax.random.key(0), batch)
  assert not np.array_equal(plain, changed)
  levels = np.asarray(changed) * grey.dataset.std[0] + grey.dataset.mean[0]
  np.testing.assert_allclose(levels * 255, np.round(levels * 255), atol=1e-3)


@pytest.fixture
def grey(toy):
  """The task on the first channel of the images alone, which Pillow can handle."""
  data = toy.dataset()
  parts = {
    name: ArraySource(getattr(data, name).images[..., :1], getattr(data, name).labels)
    for name in ("train", "validation", "test")
  }
  data = dataclasses.replace(data, **parts, image_shape=(5, 7, 1), mean=data.mean[:1], std=data.std[:1])
  return ImageClassification(data, dataclasses.replace(toy.EXPERIMENT, augmentation=Augmentation()))


@pytest.mark.parametrize(
  "base, change",
  [
    ({}, {"resized_crop_area": 0.3}),
    ({}, {"randaugment_layers": 2}),
    ({"randaugment_layers": 2}, {"randaugment_magnitude": 3.0}),
    ({"randaugment_layers": 2}, {"resized_crop_area": 0.3}),
  ],
)
def test_each_change_on_the_host_is_seen_in_the_batch_and_in_no_evaluation(grey, base, change):
  before = _with(grey, augmentation=Augmentation(**base))
  after = _with(grey, augmentation=Augmentation(**base, **change))
  one, other, again = before.train_rows(3, ALL_ROWS), after.train_rows(3, ALL_ROWS), after.train_rows(3, ALL_ROWS)
  np.testing.assert_array_equal(one["label"], other["label"])
  assert not np.array_equal(one["image"], other["image"])
  np.testing.assert_array_equal(other["image"], again["image"])
  for split in ("validation", "test"):
    batches = (task.evaluation_rows(split, ALL_ROWS) for task in (before, after))
    for plain, changed in zip(*batches, strict=True):
      np.testing.assert_array_equal(plain["image"], changed["image"])


def test_without_changes_on_the_host_no_image_passes_through_its_augmentation(grey, monkeypatch):
  monkeypatch.setattr(training_task, "augmented_batch", lambda *_, **__: pytest.fail("it was called"))
  grey.train_rows(0, ALL_ROWS)


def test_the_preprocessing_of_its_pictures_is_kept_with_the_task(task):
  data = dataclasses.replace(task.dataset, crop_fraction=0.9, crop_mode="center", interpolation="bilinear")
  stored = json.loads(json.dumps(dataclasses.replace(task, dataset=data).metadata))
  assert Preprocessing.from_json(stored["preprocessing"]) == data.preprocessing
  assert data.preprocessing == Preprocessing((5, 7), (0.45, 0.25), (0.25, 0.15), 0.9, "center", "bilinear")


def test_crop_pads_with_black(task):
  cropped = _with(task, augmentation=Augmentation(crop_padding=3))
  white = {"image": np.full((8, 5, 7, 2), 255, np.uint8), "label": np.zeros(8, np.int32)}
  images, _ = cropped.prepare_train(jax.random.key(0), white)
  black = -np.array(task.dataset.mean) / task.dataset.std
  np.testing.assert_allclose(images.min((0, 1, 2)), black, rtol=1e-6)


def test_metric_sums_count_only_rows_of_the_mask_even_beside_nan(task):
  logits = _draws(5, 3)
  labels, mask = np.array([0, 1, 2, 2, 0]), np.array([1, 1, 0, 1, 0], np.float32)
  targets = np.eye(3, dtype=np.float32)[labels]
  dirty = np.where(mask[:, None] > 0, logits, np.nan)
  sums = task.metric_sums(jnp.asarray(dirty), jnp.asarray(targets), jnp.asarray(mask))
  kept = mask > 0
  predicted = logits.argmax(-1)
  np.testing.assert_allclose(sums["loss"], np.asarray(task.losses(jnp.asarray(logits), targets))[kept].sum(), rtol=1e-6)
  assert sums["accuracy"] == (predicted == labels)[kept].sum()
  assert sums["count"] == 3
  confusion = np.zeros((3, 3))
  np.add.at(confusion, (labels[kept], predicted[kept]), 1)
  np.testing.assert_array_equal(sums["confusion"], confusion)


def test_batches_are_a_function_of_seed_and_step(task):
  first, again = task.train_rows(3, ALL_ROWS), task.train_rows(3, ALL_ROWS)
  np.testing.assert_array_equal(first["image"], again["image"])
  assert not np.array_equal(first["image"], task.train_rows(4, ALL_ROWS)["image"])
  assert not np.array_equal(first["image"], _with(task, seed=1).train_rows(3, ALL_ROWS)["image"])
  assert first["image"].shape == (8, 5, 7, 2)


def test_a_label_without_a_class_name_is_refused(task):
  source = ArraySource(np.zeros((4, 5, 7, 2), np.uint8), np.array([0, 3, 1, 2]))
  broken = dataclasses.replace(task, dataset=dataclasses.replace(task.dataset, train=source))
  with pytest.raises(ValueError, match="labels must be at least 0 and below 3, .* got 3; number the classes from 0"):
    broken.train_rows(0, ALL_ROWS)


def test_a_negative_label_is_refused(task):
  class Source:  # an ArraySource refuses it itself
    def __len__(self):
      return 3

    def __getitem__(self, index):
      return {"image": np.zeros((5, 7, 2), np.uint8), "label": index - 1}

  broken = dataclasses.replace(task, dataset=dataclasses.replace(task.dataset, validation=Source()))
  with pytest.raises(ValueError, match="labels must be at least 0 and below 3, .* got -1;"):
    next(broken.evaluation_rows("validation", ALL_ROWS))


def test_images_of_another_shape_than_declared_are_refused(task):
  broken = dataclasses.replace(task, dataset=dataclasses.replace(task.dataset, image_shape=(7, 5, 2)))
  with pytest.raises(ValueError, match=r"images must be \(7, 5, 2\) .* got \(5, 7, 2\)"):
    next(broken.evaluation_rows("test", ALL_ROWS))


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(resized_crop_area=0.4, randaugment_layers=1)])
def test_rows_are_those_of_the_whole_batch_also_from_several_threads(grey, augmentation):
  task = _with(grey, augmentation=augmentation)
  places = [(step, rows) for step in range(4) for rows in (slice(0, 3), slice(3, 8), slice(0, 8), slice(7, 8))]
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    found = list(pool.map(lambda place: task.train_rows(*place), places))
  for (step, rows), batch in zip(places, found, strict=True):
    whole = task.train_rows(step, ALL_ROWS)
    for name, array in whole.items():
      np.testing.assert_array_equal(batch[name], array[rows])


def test_evaluation_rows_are_those_of_the_whole_batches(grey):
  task = _with(grey)
  for rows in (slice(0, 1), slice(1, 64)):
    parts = task.evaluation_rows("test", rows)
    for part, batch in zip(parts, task.evaluation_rows("test", ALL_ROWS), strict=True):
      assert len(batch["mask"]) == task.evaluation_batch_size
      for name, array in batch.items():
        np.testing.assert_array_equal(part[name], array[rows])


def test_workers_make_the_same_batches_in_processes_of_their_own(grey):
  changes = Augmentation(resized_crop_area=0.4, randaugment_layers=1)
  alone, helped = (_with(grey, augmentation=changes, data=Data(workers=count)) for count in (0, 2))
  for step in range(2):
    one, other = alone.train_rows(step, ALL_ROWS), helped.train_rows(step, slice(None))
    for name in one:
      np.testing.assert_array_equal(one[name], other[name])
  pids = [child.pid for child in multiprocessing.active_children()]
  assert len(pids) == 2
  helped.close()
  alone.close()
  assert not multiprocessing.active_children()


def test_images_in_memory_that_nothing_changes_need_no_workers(grey):
  plain = _with(grey, data=Data(workers=2))
  plain.train_rows(0, ALL_ROWS)
  list(plain.evaluation_rows("test", ALL_ROWS))
  assert not multiprocessing.active_children()


@pytest.mark.parametrize("shape", [(1, 7), (7, 1)])
def test_images_of_one_row_refuse_what_would_leave_nothing_of_them(toy, shape):
  source = ArraySource(np.zeros((3, *shape, 1), np.uint8), np.arange(3))
  rows = dataclasses.replace(toy.dataset(), train=source, image_shape=(*shape, 1), mean=(0.5,), std=(0.5,))

  def task(**settings):
    return ImageClassification(rows, dataclasses.replace(toy.EXPERIMENT, augmentation=Augmentation(**settings)))

  task(flip=True, erasing=0.5, mixup_alpha=0.2, cutmix_alpha=0.2, color_jitter=0.1)
  for name, value, off in (("crop_padding", 1, "0"), ("resized_crop_area", 0.5, "1.0"), ("randaugment_layers", 2, "0")):
    wanted = f"augmentation.{name} is {value}, but must be {off} for images of {shape[0]} x {shape[1]}, of which"
    with pytest.raises(UserError, match=wanted) as raised:
      task(**{name: value})
    assert "\n" not in str(raised.value)
