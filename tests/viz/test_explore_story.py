"""The worked example: what its words mean lights up, and they lead back to it."""

import re

import pytest

from tests.viz import handmade
from tests.viz.handmade import settled

STATE = "convattn.app.state"
ORANGE = """canvas => {
  const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  const { data, width } = context.getImageData(0, 0, canvas.width, canvas.height);
  const found = [];
  for (let i = 0; i < data.length; i += 4) {
    if (data[i] === 255 && data[i + 1] === 154 && data[i + 2] === 77) found.push([i / 4 / width | 0, i / 4 % width]);
  }
  const along = (axis) => found.map((at) => at[axis]);
  const middle = (axis) => (Math.min(...along(axis)) + Math.max(...along(axis)) + 1) / 2;
  return found.length ? [middle(0) / canvas.height, middle(1) / canvas.width] : null;
}"""


@pytest.fixture(scope="module")
def page():
  return handmade.page()


def cell_word(page, tab):
  """The word that names a cell, that cell, its layer, and the head."""
  story = page.manifest["story"]
  layer = next(each for each in handmade.maps() if each.layer == story["layer"])
  word = tab.locator(".story .word", has_text="column")
  row, column = map(int, re.findall(r"\d+", word.inner_text()))
  return word, row * layer.key_grid.width + column, layer, story["head"]


def test_the_word_of_a_cell_lights_up_the_cell(visit, page):
  tab = visit(page)
  settled(tab)
  word, cell, layer, _ = cell_word(page, tab)
  tile = tab.locator('.tile[aria-checked="true"] canvas')
  assert tile.evaluate(ORANGE) is None
  word.hover()
  settled(tab)
  top, left, bottom, right = layer.key_grid.boxes()[cell]
  height, width = handmade.IMAGE
  middle = [(top + min(bottom, height)) / 2 / height, (left + min(right, width)) / 2 / width]
  assert tile.evaluate(ORANGE) == pytest.approx(middle, abs=0.03)
  assert tab.locator(".focus").evaluate(ORANGE) == pytest.approx(middle, abs=0.02)
  assert tab.locator(".tile.lit").count() == 0
  tab.locator("h1").hover()
  settled(tab)
  assert tile.evaluate(ORANGE) is None


def test_the_word_of_a_cell_leads_back_to_its_weight(visit, page):
  tab = visit(page)
  settled(tab)
  hint = tab.locator(".story h2 span")
  assert not hint.is_visible()
  tab.evaluate("convattn.app.set({ at: [11, 0], image: 2, direction: 'in' })")
  settled(tab)
  assert "shown now is something else" in hint.inner_text()
  word, cell, layer, head = cell_word(page, tab)
  word.click()
  settled(tab)
  story = page.manifest["story"]
  assert tab.evaluate(f"[{STATE}.image, {STATE}.at, {STATE}.weight]") == [story["image"], story["at"], cell]
  assert not hint.is_visible()
  place = layer.query_grid.cell_at(*(each + 0.5 for each in story["at"]))
  prefix = layer.prefix_tokens
  weight = layer.probabilities[story["image"], head, place + prefix, cell + prefix]
  told = tab.locator(".sum b").all_inner_texts()[-2 if layer.norm_weighted is not None else -1]
  assert float(told.removeprefix("= ")) == pytest.approx(weight, abs=6e-3)


def test_pointing_at_the_taps_of_a_convolution_tells_their_number(visit, page):
  tab = visit(page)
  tab.locator(".kernels canvas").nth(1).hover(position={"x": 3, "y": 3})
  settled(tab)
  assert tab.locator(".tooltip").inner_text().startswith("tap 0, 0: ")
