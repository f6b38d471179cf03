"""The model in a page: what one draws is one image more, whose maps are those of the analysis."""

import jax
import numpy as np
import pytest

from convattn.analysis import attention_maps
from convattn.models import CoAtNet, Spec
from convattn.viz import explore
from convattn.viz.page_model import describe, in_page_precision
from tests.viz.handmade import address
from tests.viz.small_models import disturbed, layout, preprocessing_for

SHAPE = (8, 8, 3)
NAMES = ("zero", "<b>one</b>", "two")
LAYER = "stage_2/block_0/attention"
MAP = """([head, selection]) => {
  const layer = convattn.app.layers(0).find(({ name }) => name === selection.layer);
  return Array.from(convattn.mapOf(layer, head, { s: 1, average: "one", direction: "out", ...selection }).values);
}"""


@pytest.fixture(scope="module")
def small():
  """(model, variables as the page has them, pixels [b, h, w, c], the page)."""
  model = CoAtNet(Spec(layout(("C", (6,), 2), ("T", (8,), 1)), (4,), stem_stride=1, head_size=4), len(NAMES))
  variables = jax.jit(lambda key, x: model.init(key, x, train=False))(jax.random.key(0), np.zeros((1, *SHAPE)))
  variables = disturbed(variables, 0)
  pixels = np.random.default_rng(0).integers(0, 256, (3, *SHAPE)).astype(np.uint8)
  pixels[:, [0, -1]] = pixels[:, :, [0, -1]] = 0  # paper
  preprocessing = preprocessing_for(SHAPE)
  maps = attention_maps(model, variables, preprocessing.normalize(pixels))
  described = describe(model, variables, SHAPE, preprocessing).as_json
  page = explore(maps, pixels, class_names=NAMES, model=described)
  return model, in_page_precision(variables), pixels, page


@pytest.fixture
def tab(visit, small):
  return visit(small[-1], "#image=1&at=3,4")


def settle(tab):
  for _ in range(3):
    tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def click_on_drawing(tab, row, column):
  drawing = tab.locator("canvas.live-drawing")
  box = drawing.bounding_box()
  drawing.click(position={"x": (column + 0.5) * box["width"] / SHAPE[1], "y": (row + 0.5) * box["height"] / SHAPE[0]})
  settle(tab)


def image(tab):
  return tab.evaluate("convattn.app.state.image")


def test_what_is_drawn_is_one_image_more_whose_maps_are_those_of_the_analysis(tab, small):
  model, variables, pixels, _ = small
  assert image(tab) == 1
  click_on_drawing(tab, 2, 5)
  assert image(tab) == len(pixels)
  drawn = pixels[1].copy()
  drawn[2, 5] = 255
  np.testing.assert_array_equal(np.reshape(tab.evaluate("Array.from(convattn.app.bytesOf(3))"), SHAPE), drawn)
  (expected,) = attention_maps(model, variables, preprocessing_for(SHAPE).normalize(drawn[None]))
  for head, mode in ((0, "probabilities"), (1, "logits"), (1, "content"), (0, "position"), (1, "norm_weighted")):
    found = tab.evaluate(MAP, [head, {"mode": mode, "layer": LAYER, "image": 3, "at": [3, 4]}])
    np.testing.assert_allclose(found, getattr(expected, mode)[0, head, 6], rtol=1e-3, atol=1e-4)  # of 4 x 4 cells
  logits = model.apply(variables, preprocessing_for(SHAPE).normalize(drawn[None]), train=False)[0]
  found = tab.evaluate("convattn.app.image().probabilities")
  np.testing.assert_allclose(found, jax.nn.softmax(logits), atol=1e-4)


def test_the_data_come_back_and_another_image_is_begun_with(tab, small):
  click_on_drawing(tab, 2, 5)
  tab.get_by_role("button", name="as it was").click()
  settle(tab)
  assert image(tab) == 1
  tab.locator(".thumbnail").nth(2).click()  # nothing is drawn: the drawing follows
  settle(tab)
  click_on_drawing(tab, 0, 0)
  assert image(tab) == 3
  drawn = small[2][2].copy()
  drawn[0, 0] = 255
  np.testing.assert_array_equal(np.reshape(tab.evaluate("Array.from(convattn.app.bytesOf(3))"), SHAPE), drawn)
  tab.locator(".thumbnail").nth(0).click()  # something is drawn: it stays
  settle(tab)
  assert image(tab) == 0
  tab.get_by_role("button", name="show what is drawn here in the maps").click()
  settle(tab)
  assert image(tab) == 3
  tab.locator(".thumbnail").nth(0).click()
  settle(tab)
  tab.get_by_role("button", name="begin anew with image 0").click()
  settle(tab)
  assert image(tab) == 0
  assert tab.locator(".live-status").text_content().startswith("As in the data.")
  assert not tab.get_by_role("button", name="begin anew with image 0").is_visible()


def test_a_head_switched_off_here_adds_nothing_above(tab):
  tab.get_by_role("button", name=f"head 1 of {LAYER}").click()
  settle(tab)
  weighted = [
    tab.evaluate(MAP, [head, {"mode": "norm_weighted", "layer": LAYER, "image": 3, "at": "all"}]) for head in (0, 1)
  ]
  assert np.min(weighted[0]) > 0 and not np.any(weighted[1])
  assert ["switched off" in text for text in tab.locator(".tile .caption").all_inner_texts()] == [False, True]
  assert "switched off" in tab.locator(".tile").nth(1).get_attribute("aria-label")
  tab.locator(".thumbnail").nth(0).click()  # an image of the data, with all heads
  settle(tab)
  assert tab.locator(".tile.off").count() == 0


def test_a_changed_image_keeps_its_name_and_another_picture_does_not(visit, small):
  page = small[-1]
  labelled = [{**each, "label": 2, "name": f"test image {i}"} for i, each in enumerate(page.manifest["images"])]
  tab = visit(type(page)({**page.manifest, "images": labelled}), "#image=1")
  click_on_drawing(tab, 2, 5)
  told = tab.locator(".prediction p").first
  assert told.inner_text() == "test image 1 · is two, changed"
  assert tab.evaluate("convattn.app.imageName(3)") == "test image 1, changed"
  tab.get_by_role("button", name="clear").click()
  settle(tab)
  assert told.inner_text() == "your picture"
  tab.get_by_role("button", name="undo").click()
  settle(tab)
  assert told.inner_text() == "test image 1 · is two, changed"


def test_a_finger_taps_and_kernels_have_a_heading_of_their_own(visit, small):
  page = small[-1]
  for touched, wanted, other in ((True, "Tap", "Hover"), (False, "Hover", "Tap")):
    tab = visit(page, "#image=1", has_touch=touched, is_mobile=touched, viewport={"width": 390, "height": 844})
    settle(tab)
    text = tab.locator("#picture-help").inner_text()
    assert wanted in text and other not in text
    assert ("a tap switches" in tab.locator(".live-switches").inner_text()) == touched
  assert "Switch kernels off" in tab.locator(".live-section h3").all_inner_texts()
  assert "Kernels of the convolutions" not in tab.locator(".live-section").inner_text()


def test_a_head_shows_here_what_the_pixel_sees_where_one_draws(tab):
  picture = "canvas => canvas.toDataURL()"
  head = tab.locator(".live-head canvas").first
  before = head.evaluate(picture)
  drawing = tab.locator("canvas.live-drawing")
  drawing.hover(position={"x": 3, "y": 3})
  settle(tab)
  assert head.evaluate(picture) != before
  tab.locator("h1").hover()
  settle(tab)
  assert head.evaluate(picture) == before


def test_names_are_text(tab):
  assert tab.locator(".live-name").all_text_contents() == list(NAMES)
  assert tab.locator(".live b").count() == 0


def test_a_page_whose_model_is_not_in_it_says_so(visit, small):
  *_, page = small
  lacks = {**page.manifest, "model": {"lacks": "The model has too many parameters."}}
  tab = visit(type(page)(lacks))
  assert "The model has too many parameters." in tab.locator(".live-section").inner_text()
  assert tab.locator("canvas.live-drawing").count() == 0
  without = visit(type(page)({**page.manifest, "model": None}))
  assert without.locator(".live-section").count() == 0


def test_the_address_of_a_drawing_is_that_of_the_image_it_began_as(tab, visit, small):
  click_on_drawing(tab, 2, 5)
  tab.get_by_role("button", name="Pin this map").click()
  settle(tab)
  assert image(tab) == 3
  assert tab.locator(".pins li").count() == 1
  words = address(tab)
  assert "image=1&" in words and "pins" not in words
  assert tab.evaluate("convattn.app.state.pins.length") == 1
  assert "not in the address" in tab.locator(".live-section").inner_text()
  again = visit(small[-1], words)
  settle(again)
  assert image(again) == 1
