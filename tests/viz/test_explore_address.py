"""An address brings back what it says, and says nothing that another page cannot show."""

import io

import numpy as np
import pytest

from convattn.viz import explore
from tests.viz import handmade
from tests.viz.handmade import address, settled

STATE = "convattn.app.state"


@pytest.fixture(scope="module")
def page():
  return handmade.page()


@pytest.fixture(scope="module")
def pair():
  return handmade.page(compare=handmade.page(maps=handmade.maps(1), title="Another"))


def test_a_pin_is_of_the_model_that_it_was_pinned_of(visit, pair):
  tab = visit(pair, "#model=1&layer=stage_1/strided&head=0&at=5,5&image=0")
  tab.get_by_role("button", name="Pin this map").click()
  tab.evaluate("convattn.app.set({ model: 0 })")
  tab.get_by_role("button", name="Pin this map").click()
  settled(tab)
  pins = tab.locator(".pins li")
  assert ["Another" in text for text in pins.all_inner_texts()] == [True, False]
  again = visit(pair, address(tab))
  settled(again)
  drawn = again.locator(".pins canvas").evaluate_all("all => all.map((canvas) => canvas.toDataURL())")
  assert drawn[0] != drawn[1]
  again.locator(".pinned").first.click()
  settled(again)
  assert again.evaluate(f"[{STATE}.model, {STATE}.layer]") == [1, "stage_1/strided"]


def test_a_pin_of_an_older_address_is_of_the_first_model(visit, pair):
  tab = visit(pair, "#pins=1;one;5%2C5;out;stage_1%2Fstrided;1;probabilities;1;")
  settled(tab)
  assert "By hand" in tab.locator(".pins li").inner_text()


def test_data_are_those_of_the_chosen_model(visit, pair):
  tab = visit(pair, "#model=1&layer=stage_1/strided&head=0&at=5,5&image=0")
  settled(tab)
  with tab.expect_download() as download:
    tab.get_by_role("button", name="data (npz)").click()
  arrays = np.load(io.BytesIO(download.value.path().read_bytes()))
  layer = handmade.maps(1)[0]
  query = layer.query_grid.cell_at(5.5, 5.5)
  expected = layer.probabilities[0, :, query].reshape(arrays["stage_1/strided"].shape)
  np.testing.assert_allclose(arrays["stage_1/strided"], expected, atol=1e-3)
  np.testing.assert_allclose(arrays["chosen/probabilities"], layer.probabilities[0, 0], atol=1e-3)


@pytest.mark.parametrize(
  ("words", "name", "expected"),
  [
    ("at=7,7,2,2", "at", [2, 2, 7, 7]),
    ("at=2,7,7,2", "at", [2, 2, 7, 7]),
    ("at=token:1", "at", {"token": 1}),
    ("sort=foo", "sort", "layer"),
    ("sort=entropy", "sort", "entropy"),
    ("overlay=foo", "overlay", "none"),
    ("overlay=head", "overlay", "head"),
    ("step=5", "step", None),
    ("step=10", "step", 10),
    ("layer=stage_2/pooled&weight=999", "weight", None),
    ("layer=stage_2/pooled&weight=9", "weight", None),
    ("layer=stage_2/pooled&weight=8", "weight", 8),
    ("layer=stage_2/pooled&direction=in&weight=9", "weight", 9),
    ("pins=0;one;1%2C1;out;gone;0;probabilities;1;", "pins", []),
    ("pins=0;one;1%2C1;out;stage_1%2Fstrided;0;probabilities;x;", "pins", []),
    ("pins=0;foo;1%2C1;out;stage_1%2Fstrided;0;probabilities;1;", "pins", []),
    ("pins=0;one;1%2C1;out;stage_1%2Fstrided;0.5;probabilities;1;", "pins", []),
    ("pins=9;one;1%2C1;out;stage_1%2Fstrided;0;probabilities;1;", "pins", []),
    ("pins=0;one;1%2C1;out;stage_1%2Fstrided;0;foo;1;", "pins", []),
    ("pins=0;one;1%2C1;out;stage_1%2Fstrided;9;probabilities;1;", "pins", []),
    ("pins=0;one;1%2C1;out;stage_1%2Fstrided;0;probabilities;1;5", "pins", []),
  ],
)
def test_what_makes_no_sense_is_put_right(timed, words, name, expected):
  timed.evaluate("hash => { convattn.app.read('#at=6,5'); convattn.app.read(hash); }", f"#{words}")
  assert timed.evaluate(f"{STATE}.{name}") == expected
  settled(timed)
  assert timed.locator("select").evaluate_all("all => all.every((select) => select.value !== '')")


@pytest.fixture(scope="module")
def timed(browser, tmp_path_factory):
  """A page with states of a training."""
  path = handmade.page(timeline=[(10, handmade.maps(2))]).write(tmp_path_factory.mktemp("page") / "page.html")
  context = browser.new_context()
  tab = context.new_page()
  tab.goto(path.as_uri())
  yield tab
  context.close()


def test_a_page_without_tokens_or_states_has_neither(visit):
  page = handmade.page(maps=handmade.maps()[:2])
  tab = visit(page, "#at=token:0&step=5&overlay=foo&sort=foo")
  settled(tab)
  assert tab.evaluate(f"{STATE}.at") == page.manifest["story"]["at"]
  written = address(tab)
  assert "step" not in written and "overlay" not in written and "sort=layer" in written


def test_a_token_that_no_layer_has_is_the_place_the_page_begins_with(visit, page):
  tab = visit(page, "#at=token:9")
  assert tab.evaluate(f"{STATE}.at") == page.manifest["story"]["at"]


def test_words_of_a_sequence_have_no_overlay(visit):
  tab = visit(explore([np.full((1, 2, 4, 3), 1 / 3)]), "#overlay=head&at=9,9")
  settled(tab)
  assert tab.evaluate(f"[{STATE}.overlay, {STATE}.at]") == ["none", [0, 3]]
