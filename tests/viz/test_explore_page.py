"""The page in use: what one clicks, types, saves and comes back to."""

import re

import numpy as np
import pytest

from tests.viz import handmade
from tests.viz.handmade import address, settled

STATE = "convattn.app.state"


@pytest.fixture(scope="module")
def page():
  return handmade.page()


def at(tab):
  return tab.evaluate(f"{STATE}.at")


def test_a_pixel_is_pointed_at_kept_and_left(visit, page):
  tab = visit(page)
  box = tab.locator("canvas.picture").bounding_box()
  side = box["width"] / handmade.IMAGE[1]
  before = tab.locator(".tile canvas").first.evaluate("canvas => canvas.toDataURL()")
  tab.mouse.move(box["x"] + 7.5 * side, box["y"] + 9.5 * side)
  settled(tab)
  assert at(tab) != [9, 7]
  hovered = tab.locator(".tile canvas").first.evaluate("canvas => canvas.toDataURL()")
  assert hovered != before
  tab.mouse.down()
  tab.mouse.up()
  settled(tab)
  assert at(tab) == [9, 7]
  tab.mouse.move(2, 2)
  settled(tab)
  assert tab.locator(".tile canvas").first.evaluate("canvas => canvas.toDataURL()") == hovered
  assert "at=9,7" in address(tab)
  tab.mouse.move(box["x"] + 0.5 * side, box["y"] + 0.5 * side)
  tab.mouse.down()
  tab.mouse.move(box["x"] + 4.5 * side, box["y"] + 2.5 * side, steps=3)
  tab.mouse.up()
  assert at(tab) == [0, 0, 2, 4]


def test_numbers_are_told_where_one_points(visit, page):
  layer = handmade.maps()[0]
  tab = visit(page, "#at=5,5&layer=stage_1/strided&head=1&image=2")
  box = tab.locator(".tile canvas").nth(1).bounding_box()
  tab.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.08)
  settled(tab)
  value = layer.probabilities[2, 1, layer.query_grid.cell_at(5.5, 5.5), 4]
  text = tab.locator(".tooltip").inner_text()
  assert text.startswith("row 0, column 4: ")
  assert float(text.split(": ")[1]) == pytest.approx(value, abs=1e-3)
  assert tab.locator("p.unseen").first.inner_text().startswith("Pixel 5, 5; stage_1/strided, head 1: largest 0.")


def test_the_colours_of_the_cells_are_those_of_the_scale(visit, page):
  tab = visit(page, "#at=5,5&scale=each&image=1&layer=stage_2/pooled&head=2")
  values = handmade.maps()[1].probabilities[1, 2, handmade.maps()[1].query_grid.cell_at(5.5, 5.5)]
  pixels = """(canvas, places) => {
    const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const starts = places.map(([x, y]) => (Math.floor(y * height) * width + Math.floor(x * width)) * 4);
    return starts.map((start) => Array.from(data.slice(start, start + 4)));
  }"""
  # A place in each cell, away from its lines; the last column and row are cut off at the border of 12 x 10.
  places = [[(cell % 3 * 4 + 0.6) / 10, (cell // 3 * 4 + 0.6) / 12] for cell in range(9)]
  colours = np.array(tab.locator('.tile[aria-checked="true"] canvas').evaluate(pixels, places))
  assert colours[values.argmax()].tolist() == [253, 231, 37, 255]
  green = colours[:, 1]
  assert (np.diff(green[values.argsort()]) >= 0).all()
  assert len(set(green.tolist())) > 5


def test_the_address_brings_everything_back(visit, page):
  words = (
    "#image=difference&of=2&at=1,2,5,6&direction=in&layer=stage_2/pooled&head=1&mode=content&scale=each"
    "&sort=entropy&overlay=head&s=0.5&weight=3"
  )
  tab = visit(page, words)
  settled(tab)
  state = tab.evaluate(STATE)
  expected = {"image": 2, "average": "difference", "at": [1, 2, 5, 6], "direction": "in", "layer": "stage_2/pooled"}
  expected |= {"head": 1, "mode": "content", "scale": "each", "sort": "entropy", "overlay": "head", "s": 0.5}
  assert {name: state[name] for name in expected} == expected
  assert address(tab) == words
  tab.get_by_role("button", name="Pin this map").click()
  tab.get_by_role("button", name="weights").click()
  tab.get_by_role("button", name="Pin this map").click()
  settled(tab)
  again = visit(page, address(tab))
  settled(again)
  assert again.evaluate(STATE) == tab.evaluate(STATE)
  assert again.locator(".pins li").count() == 2


@pytest.mark.parametrize(
  "hash",
  [
    "#at=99,99&head=77&image=40",
    "#layer=%E0%A4%A&mode=<b>",
    "#pins=;;;!1;one;0,0;out;no;0;x;1;",
    "#s=9&at=-1,x&&=&image",
  ],
)
def test_an_address_that_makes_no_sense_does_no_harm(visit, page, hash):
  tab = visit(page, hash)
  settled(tab)
  assert tab.locator('.tile[aria-checked="true"]').count() == 1
  assert tab.locator(".focus").is_visible()


def test_an_example_is_told_in_three_sentences(visit, page):
  tab = visit(page)
  settled(tab)
  sentences = tab.locator(".story p").all_inner_texts()
  assert len(sentences) == 3
  # The image that the model is wrong about; its pixel and its head are chosen already.
  assert sentences[0].startswith("The model takes this cat for dog, with probability 0.45.")
  story = page.manifest["story"]
  assert tab.evaluate(STATE)["image"] == 0
  assert at(tab) == story["at"]
  tab.evaluate("convattn.app.set({image: 2, layer: 'stage_1/strided', head: 0, mode: 'content'})")
  word = tab.locator(".story p").nth(2).locator(".word").first
  word.focus()
  assert tab.locator(".tile.lit").count() == 1
  word.press("Enter")
  settled(tab)
  assert tab.evaluate(STATE)["layer"] == story["layer"]
  assert tab.evaluate(STATE)["image"] == story["image"]
  assert tab.evaluate(STATE)["mode"] == "probabilities"


def test_a_weight_unfolds_its_arithmetic(visit, page):
  layer = handmade.maps()[0]
  query = layer.query_grid.cell_at(5.5, 5.5)
  row = layer.logits[1, 0, query]
  key = int(row.argsort()[-2])
  tab = visit(page, f"#at=5,5&layer=stage_1/strided&head=0&image=1&weight={key}")
  settled(tab)
  numbers = [float(text.removeprefix("= ").replace("−", "-")) for text in tab.locator(".sum b").all_inner_texts()]
  expected = [layer.content[1, 0, query, key], layer.position[1, 0, query, key], row[key], np.exp(row[key] - row.max())]
  expected += [layer.probabilities[1, 0, query, key], layer.norm_weighted[1, 0, query, key]]
  np.testing.assert_allclose(numbers, expected, atol=6e-3)
  tab.locator(".focus").click(position={"x": 3, "y": 3})
  settled(tab)
  assert tab.evaluate(STATE)["weight"] == 0
  assert "row 0, column 0" in tab.locator(".sums h4").inner_text()


def test_two_models_and_the_states_of_a_training(visit):
  where = {"digest": "0123abcdef", "model": "m", "step": 3000, "dataset": None}
  later = handmade.page(maps=handmade.maps(1), title="Another", checkpoint=where)
  page = handmade.page(timeline=[(10, handmade.maps(2)), (20, handmade.maps(3))], compare=later)
  tab = visit(page, "#step=20&layer=stage_1/strided&head=0&at=5,5&image=0")
  settled(tab)
  row = "which => Array.from(convattn.app.map(convattn.app.layers(which)[0], 0).values)"
  query = handmade.maps()[0].query_grid.cell_at(5.5, 5.5)
  np.testing.assert_allclose(tab.evaluate(row, 0), handmade.maps(3)[0].probabilities[0, 0, query], atol=1e-3)
  np.testing.assert_allclose(tab.evaluate(row, 1), handmade.maps(1)[0].probabilities[0, 0, query], atol=1e-3)
  assert tab.locator(".model h2").all_inner_texts() == [
    "First model (By hand) step 20",
    "Second model (Another) checkpoint 0123abcd, step 3,000",
  ]
  assert tab.locator(".prediction p").all_inner_texts()[1:] == ["First model (By hand)", "Second model (Another)"]
  assert tab.locator(".prediction .class").count() == 6
  assert "first model (By hand)" in tab.locator(".convolutions h2").inner_text()
  slider = tab.get_by_label("training")
  slider.focus()
  slider.press("End")
  settled(tab)
  np.testing.assert_allclose(tab.evaluate(row, 0), handmade.maps()[0].probabilities[0, 0, query], atol=1e-3)
  assert tab.evaluate(STATE)["step"] is None
  tab.locator(".model").nth(1).locator(".tile").nth(3).click()
  settled(tab)
  assert tab.locator('.tile[aria-checked="true"]').count() == 1
  assert tab.locator(".detail h3").inner_text() == "stage_2/pooled, head 1 · second model (Another)"
  again = visit(page, address(tab))
  assert again.evaluate(f"[{STATE}.model, {STATE}.layer, {STATE}.head]") == [1, "stage_2/pooled", 1]


def test_heads_are_sorted_by_a_metric(visit, page):
  tab = visit(page, "#sort=entropy")
  settled(tab)
  entropies = [
    float(re.search(r"entropy ([\d.]+)", text)[1])
    for text in tab.locator(".tile").evaluate_all("tiles => tiles.map((tile) => tile.getAttribute('aria-label'))")
  ]
  assert len(entropies) == sum(layer.num_heads for layer in handmade.maps())
  assert entropies == sorted(entropies, reverse=True)
  assert entropies[0] > entropies[-1]
