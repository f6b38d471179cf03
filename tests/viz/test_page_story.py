"""Which example a page begins with."""

import numpy as np
import pytest

from convattn.analysis.attention_map import AttentionMap, Grid
from convattn.viz.packing import pack_as
from convattn.viz.page_story import hardest, story, telling_heads
from tests.viz import handmade


def image(probabilities, label, pixels=None):
  return {"name": "x", "label": label, "probabilities": probabilities, "pixels": pixels}


@pytest.mark.parametrize(
  ("images", "expected"),
  [
    ([image([0.6, 0.4], 0), image([0.4, 0.6], 0), image([0.3, 0.7], 0)], 2),  # the most confident mistake
    ([image([0.9, 0.1], 0), image([0.55, 0.45], 0)], 1),  # none is wrong: the nearest to it
    ([image([0.9, 0.1], None), image([0.45, 0.55], None)], 1),
    ([image(None, 1), image(None, 0)], 0),
    ([image([1.0], 0), image([1.0], 0)], 0),
  ],
)
def test_the_image_is_the_one_the_model_is_most_wrong_about(images, expected):
  assert hardest(images) == expected


def head(distance, content):
  return {"distance": distance, "content_dependence": content}


def words(found):
  return ["".join(part if isinstance(part, str) else part["text"] for part in parts) for parts in found["sentences"]]


def alike(grid, heads):
  return np.full((1, heads, grid.cells, grid.cells), 1 / grid.cells, np.float32)


@pytest.mark.parametrize(
  ("probabilities", "label", "expected"),
  [
    ([0.2, 0.76, 0.04], None, "The model takes this picture for dog, with probability 0.76. From"),
    ([0.2, 0.76, 0.04], 0, "The model takes this cat for dog, with probability 0.76. From"),
    ([0.2, 0.76, 0.04], 1, "The model gives this dog probability 0.76, and 0.20 to cat. From"),
    (None, None, "This is x. From"),
    ([1.0], 0, "This is x. From"),
  ],
)
def test_the_first_sentence_is_one_whatever_is_known_of_the_image(probabilities, label, expected):
  grid = Grid(2, 3, image=(2, 3))
  found = story(
    [AttentionMap("a", grid, grid, alike(grid, 2))],
    [[head(0.5, 0), head(1.2, 0)]],
    [image(probabilities, label)],
    ["cat", "dog", "fox"],
  )
  assert words(found)[0].startswith(expected)


def test_heads_that_hardly_differ_are_not_called_local_and_global():
  line = Grid(1, 4, (2.0, 2.0), image=(2, 8))  # all keys alike: 2 * (3 * 2 + 2 * 4 + 6) * 2 / 16 = 2.5
  maps = [AttentionMap("a/attention", line, line, alike(line, 3))]
  apart, near = ([head(1.0, 0), head(1.3, 0), head(1.2, 0)], [head(1.0, 0), head(1.24, 0), head(1.2, 0)])
  assert words(story(maps, [apart], [image(None, None)], None))[1] == (
    "Head 0 of a is the most local one, looking 1.0 pixels away on average, and head 1 of a the most global one, "
    "looking 1.3 pixels away (all keys alike: 2.5)."
  )
  assert words(story(maps, [near], [image(None, None)], None))[1] == (
    "Heads hardly differ in how far they look: head 0 of a 1.0 pixels away on average, and head 1 of a 1.2 pixels "
    "away (all keys alike: 2.5)."
  )


def test_each_of_two_layers_has_a_distance_of_all_keys_alike_that_it_sees():
  fine, coarse = Grid(1, 4, image=(1, 4)), Grid(1, 2, (1.0, 2.0), image=(1, 4))
  logits = np.zeros((1, 1, 4, 4), np.float32)
  logits[..., :2, 2:] = logits[..., 2:, :2] = -np.inf  # pairs that see each other alone
  halves = np.exp(logits) / 2
  maps = [
    AttentionMap("a", fine, fine, halves, logits=logits),
    AttentionMap("b", coarse, coarse, alike(coarse, 1)),
  ]
  assert words(story(maps, [[head(0.2, 0)], [head(0.9, 0)]], [image(None, None)], None))[1] == (
    "Head 0 of a is the most local one, looking 0.2 pixels away on average (all keys alike: 0.5), and head 0 of b the "
    "most global one, looking 0.9 pixels away (all keys alike: 1.0)."
  )


def test_heads_without_a_distance_have_no_example():
  grid, text = Grid(2, 3, image=(2, 3)), Grid(1, 4)
  across = AttentionMap("a", grid, text, np.full((1, 2, 6, 4), 0.25, np.float32))
  assert story([across], [[head(None, 1), head(None, 2)]], [image(None, None)], None) is None


def test_the_heads_are_the_most_local_the_most_global_and_of_the_others_the_most_content_dependent():
  heads = [[head(2, 0.1), head(5, 9.0)], [head(1, 8.0), head(3, 0.5), head(4, 0.2)]]
  places = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
  assert telling_heads(heads, places) == ((1, 0), (0, 1), (1, 1))
  # A single image: nothing is known of content.
  unknown = [[head(2, None), head(5, None), head(3, None)]]
  assert telling_heads(unknown, [(0, 0), (0, 1), (0, 2)]) == ((0, 0), (0, 1), None)


def test_the_pixel_lies_on_what_is_drawn_and_the_weight_is_the_largest_from_there():
  grid = Grid(4, 5, (2.0, 2.0), image=(8, 10))
  pixels = np.zeros((8, 10, 3), np.uint8)
  pixels[4:6, 2:8] = 255  # cells 11, 12, 13
  weights = np.full((1, 3, 20, 20), 1e-4, np.float32)
  weights[0, 1, 0, 7] = 0.9  # from the background
  weights[0, 1, 12, 12] = 0.8  # to itself
  weights[0, 1, 12, 3] = 0.5
  weights[0, 1, 13, 4] = 0.4
  found = story(
    [AttentionMap("a/attention", grid, grid, weights)],
    [[head(1, 0.1), head(2, 0.9), head(3, 0.1)]],
    [image([0.2, 0.8], 0, pack_as(pixels, "uint8"))],
    ["cat", "dog"],
  )
  assert (found["image"], found["layer"], found["head"]) == (0, "a/attention", 1)
  assert found["at"] == [5, 5]
  assert grid.cell_at(*found["at"]) == 12
  told = words(found)
  assert len(told) == 3
  assert told[0] == (
    "The model takes this cat for dog, with probability 0.80. From the outlined pixel in row 5, column 5 of the "
    "picture, each map shows where a head looks."
  )
  assert told[1] == (
    "Head 0 of a is the most local one, looking 1.0 pixels away on average, and head 2 of a the most global one, "
    "looking 3.0 pixels away (all keys alike: 4.6)."
  )
  assert told[2] == (
    "Head 1 of a depends most on what is in the picture: here the outlined cell gives the cell in row 0, column 3 "
    "of the map the largest weight, 0.50."
  )


def test_grids_with_padding_and_windows_have_an_example_too():
  maps = handmade.maps()
  for one in (maps[2], maps[4]):
    heads = [[head(1, 0.1), head(2, 0.9), head(3, 0.1)][: one.num_heads]]
    pixels = pack_as(handmade.pictures()[0], "uint8")
    found = story([one], heads, [image(None, None, pixels)] * 3, None)
    if one.num_heads < 2:
      assert found is None
      continue
    assert len(found["sentences"]) == 2
    assert one.query_grid.cell_at(*found["at"]) is not None


def test_tokens_have_no_example():
  tokens = Grid(1, 4)
  weights = np.full((1, 2, 4, 4), 0.25, np.float32)
  assert (
    story([AttentionMap("a", tokens, tokens, weights)], [[head(1, 1), head(2, 2)]], [image(None, None)], None) is None
  )
