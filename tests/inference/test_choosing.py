"""The images that are worth a look: mistakes and near ones first, of every class, out of those that can be read."""

import dataclasses

import jax
import numpy as np
import pytest

from convattn import pretrained, training
from convattn.analysis import margins
from convattn.data import ArraySource
from convattn.errors import UserError
from convattn.inference import choosing, logits_of, telling_examples


@pytest.fixture(scope="module")
def restored(toy):
  model = toy.Toy()
  variables = model.init(jax.random.key(0), np.zeros((1, 5, 7, 2), np.float32), train=False)
  preprocessing = pretrained.Preprocessing((5, 7), (0.3, 0.4), (0.2, 0.1))
  fields = (model, dict(variables), preprocessing, ("dark", "grey", "light"), toy.EXPERIMENT, 3, "here")
  return training.restoring.Classifier(*fields)


def margins_of(restored, source):
  ((logits, _),) = logits_of(restored, [(source.images, None)], len(source))
  return margins(logits, source.labels)


def with_test(toy, count, seed=1):
  draws = np.random.default_rng(seed)
  images = draws.integers(0, 256, (count, 5, 7, 2), np.uint8)
  return dataclasses.replace(toy.dataset(), test=ArraySource(images, draws.integers(0, 3, count)))


def test_the_first_is_the_worst_and_the_others_are_of_every_class(toy, restored):
  dataset = with_test(toy, 23)
  margin = margins_of(restored, dataset.test)
  advanced = []
  found = telling_examples(restored, dataset, 5, batch_size=4, advance=advanced.append)
  numbers = [int(name.removeprefix("test image ")) for name in found.names]
  np.testing.assert_array_equal(found.pixels, dataset.test.images[numbers])
  np.testing.assert_array_equal(found.labels, dataset.test.labels[numbers])
  assert numbers[0] == margin.argmin()
  assert set(found.labels[:3].tolist()) == {0, 1, 2}
  for number, label in zip(numbers[:3], found.labels, strict=False):
    assert margin[number] == margin[dataset.test.labels == label].min()
  assert len(set(numbers)) == 5
  assert sum(advanced) == choosing.num_looked_at(dataset, 5) == 23
  wrong = (margin < 0).sum()
  assert found.told.startswith(f"5 of 23 images of the test part that were looked at, {wrong} of them mistaken")


def test_of_a_large_part_evenly_spaced_images_are_looked_at(toy, restored, monkeypatch):
  monkeypatch.setattr(choosing, "MOST_PIXELS", 7 * 35)
  dataset = with_test(toy, 61)
  looked_at = np.arange(0, 61, 10)
  assert choosing.num_looked_at(dataset, 2) == len(looked_at)
  margin = margins_of(restored, dataset.test)
  found = telling_examples(restored, dataset, 2)
  numbers = [int(name.removeprefix("test image ")) for name in found.names]
  assert set(numbers) <= set(looked_at.tolist())
  assert numbers[0] == looked_at[margin[looked_at].argmin()]
  assert margin.argmin() not in looked_at  # which is why there is another first one


def test_where_there_is_no_test_part_another_is_looked_at(toy, restored):
  empty = ArraySource(np.zeros((0, 5, 7, 2), np.uint8), np.zeros(0, np.int32))
  dataset = dataclasses.replace(with_test(toy, 3), test=empty)
  assert telling_examples(restored, dataset, 1).names[0].startswith("validation image ")
  nothing = dataclasses.replace(dataset, train=empty, validation=empty)
  with pytest.raises(UserError, match="no images; name pictures with --images"):
    telling_examples(restored, nothing, 1)
