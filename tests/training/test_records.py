"""The examples with the largest scores are those of the whole split, however it is cut, padded or divided."""

import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest

from convattn.training import ImageClassification, Loss, evaluation as evaluation_room, make_mesh, workdir as files
from convattn.training.evaluation import evaluate
from convattn.training.records import Largest, array_from_json, as_json, largest, merged, records_of, shrunk
from convattn.training.task import ALL_ROWS

SCORES = np.array([0.5, -np.inf, 0.9, 0.5, np.nan, 0.9, 0.1, 0.7, 0.5, -np.inf, 0.9], np.float32)
BEST_FIRST = [2, 5, 10, 7, 0, 3, 8, 6]
"""Of equals the first; those without a score are left out."""


@pytest.mark.parametrize("number", [1, 4, 6, 16])
@pytest.mark.parametrize("batch_size", [1, 3, 11])
def test_of_a_split_in_batches_the_largest_are_those_of_the_whole(number, batch_size):
  parts = []
  for start in range(0, len(SCORES), batch_size):
    rows = slice(start, start + batch_size)
    place = np.arange(len(SCORES))[rows]
    parts.append((start, {"x": largest(SCORES[rows], {"place": place, "pair": np.stack([place, -place], 1)}, number)}))
  cuts = range(len(parts) + 1)
  in_two = [[*([(0, merged(parts[:cut]))] if cut else []), *parts[cut:]] for cut in cuts]
  for found in (merged(each)["x"] for each in in_two):
    wanted = BEST_FIRST[:number]
    assert found.row.tolist() == found.values["place"].tolist() == wanted
    assert found.values["pair"].tolist() == [[place, -place] for place in wanted]
    np.testing.assert_array_equal(found.score, SCORES[wanted])


def test_of_nothing_there_is_none():
  assert merged([]) == {}
  empty = merged([(0, {"x": largest(np.full(3, -np.inf, np.float32), {"y": np.zeros((3, 2))})})])["x"]
  assert len(empty.score) == len(empty.row) == len(empty.values["y"]) == 0


@pytest.fixture(scope="module")
def scored(toy, finished):
  """(task, program, state): the final weights of a run, and 130 images to score in batches of 4 over four devices."""
  task = ImageClassification(toy.dataset(test=130), toy.EXPERIMENT)
  return task, toy.shared_build(toy.EXPERIMENT, toy.Toy(), task, make_mesh()), finished[1]


def by_hand(task, model, state, probability=jax.nn.softmax):
  """(row, true, predicted, probability) of the mistakes, the most confident first."""
  source = task.dataset.test
  inputs, _ = task.prepare_eval({"image": source.images, "label": source.labels})
  logits = model.apply({"params": state.params, **state.model_state}, inputs, train=False)
  chances = np.asarray(probability(logits))
  wrong = [row for row, label in enumerate(source.labels) if chances[row].argmax() != label]
  wrong.sort(key=lambda row: -chances[row].max())
  return [(row, source.labels[row], chances[row].argmax(), chances[row].max()) for row in wrong]


@pytest.mark.parametrize("at_once", [2, 64])
def test_the_mistakes_are_the_most_confident_of_all_on_several_devices(toy, scored, monkeypatch, at_once):
  task, program, state = scored
  monkeypatch.setattr(evaluation_room, "_AT_ONCE", at_once)
  found = evaluate(program, task, state.params, state.model_state, "test")[1]["mistakes"]
  wanted = by_hand(task, toy.Toy(), state)
  assert len(wanted) > len(found.row) == 16
  row, true, predicted, probability = zip(*wanted[:16], strict=True)
  np.testing.assert_allclose(found.score, probability, rtol=1e-5)
  assert {*found.row.tolist()} == {*row}  # in this order, but for scores that are equal to rounding
  labels = task.dataset.test.labels
  assert found.values["true"].tolist() == labels[found.row].tolist() and sorted(true) == sorted(labels[found.row])
  assert sorted(found.values["predicted"].tolist()) == sorted(predicted)
  assert (found.values["predicted"] != found.values["true"]).all()


class Late:
  """A sum that tells when it is waited for."""

  def __init__(self, value, waits):
    self.value, self.waits = np.asarray(value), waits

  def __add__(self, other):
    return Late(self.value + other.value, self.waits)

  def block_until_ready(self):
    self.waits.append(self)
    return self

  def __array__(self, *_, **__):
    return self.value


def test_a_batch_is_computed_when_the_one_before_it_has_been(scored):
  """Several in flight on devices that share a core wait for each other's collectives without end."""
  task, program, state = scored
  waits, seen = [], []

  def eval_step(*arguments):
    seen.append(len(waits))
    found = program.eval_step(*arguments)
    return {name: Late(found[name], waits) for name in (*task.metric_names, "count")}

  slow = dataclasses.replace(program, eval_step=eval_step)
  found, _ = evaluate(slow, task, state.params, state.model_state, "test")
  assert found["count"] == 130
  assert len(seen) == 33 and all(before < now for before, now in itertools.pairwise(seen))


def test_a_run_leaves_its_mistakes_with_their_pictures(toy, finished):
  folder, state = finished
  task = ImageClassification(toy.dataset(), toy.EXPERIMENT)
  kept = files.read_json(folder / files.MISTAKES)
  wanted = by_hand(task, toy.Toy(), state)
  assert 0 < len(wanted) < 16  # the padding of the last batch is none
  np.testing.assert_allclose(kept["score"], [each[3] for each in wanted], rtol=1e-5)
  assert sorted(kept["row"]) == sorted(each[0] for each in wanted)
  np.testing.assert_array_equal(array_from_json(kept["pictures"]), task.dataset.test.images[kept["row"]])
  assert kept["class_names"] == ["dark", "grey", "light"]
  counts = np.array(files.read_json(folder / files.CONFUSION)["counts"])
  assert counts.sum() - counts.trace() == len(kept["row"])


def mistakes_of(task, logits, targets, mask=(1, 1)):
  found = task.metric_sums(logits, targets, np.array(mask, np.float32))["mistakes"]
  return merged([(0, {"mistakes": found})])["mistakes"]


def test_the_probability_is_that_of_the_loss(toy):
  experiment = dataclasses.replace(toy.EXPERIMENT, loss=Loss("sigmoid"))
  logits, targets = np.array([[2.0, 1.0, -3.0], [0.5, 0.0, 0.0]], np.float32), np.eye(3, dtype=np.float32)[[1, 0]]
  for each, of_two in ((experiment, 1 / (1 + np.exp(-2))), (toy.EXPERIMENT, 1 / (1 + np.exp(-1) + np.exp(-5)))):
    task = ImageClassification(toy.dataset(), each)
    found = mistakes_of(task, logits, targets)
    np.testing.assert_allclose(found.score, [of_two], rtol=1e-6)
    assert (found.row.tolist(), found.values["true"].tolist(), found.values["predicted"].tolist()) == ([0], [1], [0])
    assert len(mistakes_of(task, np.full_like(logits, np.nan), targets).row) == 0
    assert mistakes_of(task, logits, targets[::-1]).row.tolist() == [1]
    assert len(mistakes_of(task, logits, targets[::-1], mask=(1, 0)).row) == 0  # padding is none


def test_a_task_without_pictures_or_classes_leaves_the_lists():
  class Plain:
    metadata = {}  # noqa: RUF012

  top = Largest(np.array([0.5, 0.25], np.float32), np.array([3, 1]), {"width": np.array([7.0, np.nan])})
  assert records_of(Plain(), {"worst": top}) == {
    "worst": {"score": [0.5, 0.25], "row": [3, 1], "width": [7.0, pytest.approx(np.nan, nan_ok=True)]}
  }


def test_pictures_become_small_by_the_mean_of_blocks_and_come_back_from_json():
  draws = np.random.default_rng(0)
  small = draws.integers(0, 256, (3, 5, 96, 2)).astype(np.uint8)
  np.testing.assert_array_equal(shrunk(small), small)
  np.testing.assert_array_equal(array_from_json(json.loads(json.dumps(as_json(small)))), small)
  large = draws.integers(0, 256, (2, 9, 197, 3)).astype(np.uint8)  # in blocks of 3 × 3
  found = shrunk(large)
  assert found.shape == (2, 3, 65, 3)
  for place in ((0, 0, 0, 0), (1, 2, 64, 1), (0, 1, 17, 2)):
    picture, row, column, channel = place
    block = large[picture, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3, channel]
    assert found[place] == round(block.mean())
  line = shrunk(draws.integers(0, 256, (1, 1, 500, 1)).astype(np.uint8))
  assert line.shape == (1, 1, 83, 1)
  assert shrunk(np.zeros((0, 300, 200, 3), np.uint8)).shape[0] == 0


def test_a_tasks_pictures_are_those_of_the_split(toy):
  task = ImageClassification(toy.dataset(), toy.EXPERIMENT)
  whole = [batch["image"] for batch in task.evaluation_rows("validation", ALL_ROWS)]
  np.testing.assert_array_equal(task.pictures("validation", [7, 2]), np.concatenate(whole)[[7, 2]])
  assert task.pictures("test", []).shape == (0, 5, 7, 2)
