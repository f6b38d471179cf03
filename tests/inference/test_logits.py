"""Logits in batches: the model's own, whatever the division, from one compiled program."""

import dataclasses

import jax
import numpy as np
import pytest

from convattn import pretrained, training
from convattn.inference import logits as inference
from convattn.inference.logits import logits_of


@pytest.fixture(scope="module")
def restored(toy):
  """The toy with drawn weights, and images of its shape."""
  model = toy.Toy()
  variables = model.init(jax.random.key(0), np.zeros((1, 5, 7, 2), np.float32), train=False)
  preprocessing = pretrained.Preprocessing((5, 7), (0.3, 0.4), (0.2, 0.1))
  return training.Restored(model, dict(variables), preprocessing, ("a", "b", "c"), toy.EXPERIMENT, 3, "here")


@pytest.fixture(scope="module")
def pixels():
  return np.random.default_rng(0).integers(0, 256, (11, 5, 7, 2), np.uint8)


def batches(pixels, sizes):
  ends = np.cumsum(sizes)
  return [(pixels[end - size : end], (size, end)) for size, end in zip(sizes, ends, strict=True)]


def joined(restored, pieces, batch_size):
  return np.concatenate([logits for logits, _ in logits_of(restored, pieces, batch_size)])


def test_they_are_the_models_own(restored, pixels):
  inputs = np.stack([restored.preprocessing.normalize(each) for each in pixels])
  wanted = restored.model.apply(restored.variables, inputs, train=False)
  found = joined(restored, batches(pixels, [4, 4, 3]), 4)
  assert found.shape == (11, 3)
  np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6)
  assert np.ptp(found, axis=0).min() > 1e-3


@pytest.mark.parametrize("sizes", [[4, 4, 3], [1, 4, 2, 4], [3, 3, 3, 2]])
def test_the_division_into_batches_changes_nothing(restored, pixels, sizes):
  np.testing.assert_array_equal(
    joined(restored, batches(pixels, sizes), 4), joined(restored, batches(pixels, [1] * 11), 4)
  )


@pytest.mark.parametrize("batch_size", [3, 6, 8])
def test_the_size_of_a_batch_need_not_fit_the_devices(restored, pixels, batch_size):
  assert jax.device_count() == 4
  np.testing.assert_allclose(
    joined(restored, [(pixels[:3], None)], batch_size), joined(restored, [(pixels[:3], None)], 4), rtol=0, atol=2e-6
  )


def test_what_belongs_to_a_batch_stays_with_it_and_nothing_is_fetched_far_ahead(restored, pixels):
  fetched = []

  def pieces():
    for piece in batches(pixels, [4, 2, 4, 1]):
      fetched.append(piece[1])
      yield piece

  for i, (logits, (size, end)) in enumerate(logits_of(restored, pieces(), 4)):
    assert (size, end) == [(4, 4), (2, 6), (4, 10), (1, 11)][i]
    assert len(logits) == size
    assert len(fetched) <= i + 2
  assert len(fetched) == 4
  assert list(logits_of(restored, [], 4)) == []


def test_one_program_serves_all(restored, pixels, monkeypatch):
  traced = []
  apply = type(restored.model).__call__

  def counted(self, x, *, train):
    traced.append(x.shape)
    return apply(self, x, train=train)

  monkeypatch.setattr(type(restored.model), "__call__", counted)
  joined(restored, batches(pixels, [4, 1, 2, 4]), 4)
  assert traced == [(4, 5, 7, 2)]


@pytest.mark.parametrize("precision", ["high", "highest", None])
def test_products_have_the_precision_of_the_training_or_the_highest(restored, pixels, monkeypatch, precision):
  seen = []
  apply = type(restored.model).__call__

  def spied(self, x, *, train):
    seen.append(jax.config.jax_default_matmul_precision)
    return apply(self, x, train=train)

  monkeypatch.setattr(type(restored.model), "__call__", spied)
  experiment = restored.experiment
  if precision is None:
    experiment = None
  else:
    compute = dataclasses.replace(experiment.compute, matmul_precision=precision)
    experiment = dataclasses.replace(experiment, compute=compute)
  joined(dataclasses.replace(restored, experiment=experiment), [(pixels[:1], None)], 4)
  assert seen == [precision or "highest"]


def test_what_is_no_batch_is_refused(restored, pixels):
  for count in (0, 5):
    with pytest.raises(ValueError, match=rf"a batch must have 1 to 4 images \(batch_size\), got {count}"):
      joined(restored, [(pixels[:count], None)], 4)
  with pytest.raises(AssertionError, match=r"pixels must be \[n, h, w, c\]"):
    joined(restored, [(pixels[0], None)], 4)
  with pytest.raises(AssertionError, match="must be uint8"):
    joined(restored, [(pixels[:1].astype(np.float32), None)], 4)


def test_numbers_that_are_not_finite_are_no_answer(restored, pixels):
  broken = jax.tree.map(lambda leaf: leaf * np.nan, restored.variables)
  with pytest.raises(FloatingPointError, match="the model of here gives logits that are not finite"):
    joined(dataclasses.replace(restored, variables=broken), [(pixels[:1], None)], 4)


@pytest.mark.parametrize(
  "size, pixels_per_group, group", [(6, 70, 2), (6, 160, 3), (5, 70, 1), (6, 1000, 6), (4, 10, 1)]
)
def test_groups_give_the_same_numbers_and_hold_as_many_images_as_fit(size, pixels_per_group, group, monkeypatch):
  monkeypatch.setattr(inference, "PIXELS_PER_GROUP", pixels_per_group)
  seen = []

  def total(variables, images):
    seen.append(images.shape[0])
    return variables["scale"] * images.sum((1, 2))

  images = np.random.default_rng(0).standard_normal((size, 5, 7, 2)).astype(np.float32)
  variables = {"scale": np.float32(3)}
  found = jax.jit(inference.in_groups(total))(variables, images)
  np.testing.assert_allclose(found, 3 * images.sum((1, 2)), rtol=1e-5)
  assert min(seen) == group


@pytest.mark.parametrize("platform, loop", [("cpu", True), ("cuda", False), ("tpu", False)])
def test_only_a_cpu_computes_in_groups(platform, loop, monkeypatch):
  monkeypatch.setattr(inference, "PIXELS_PER_GROUP", 70)
  function = jax.jit(inference.in_groups(lambda variables, images: images.sum((1, 2)) + variables))
  traced = function.trace(np.float32(1), np.zeros((6, 5, 7, 2), np.float32))
  assert ("stablehlo.while" in traced.lower(lowering_platforms=(platform,)).as_text()) == loop


def test_a_batch_of_unknown_size_is_computed_in_one_piece(monkeypatch):
  monkeypatch.setattr(inference, "PIXELS_PER_GROUP", 70)
  function = jax.jit(inference.in_groups(lambda variables, images: images.sum((1, 2)) + variables))
  images = jax.ShapeDtypeStruct(jax.export.symbolic_shape("b, 5, 7, 2"), np.float32)
  exported = jax.export.export(function)(jax.ShapeDtypeStruct((), np.float32), images)
  assert "stablehlo.while" not in exported.mlir_module()
