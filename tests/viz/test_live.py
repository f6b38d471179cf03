"""The panel of the live model, as one uses it: what it computes is what JAX computes for what one sees."""

import io
import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

from convattn.models import CoAtNet, Spec
from convattn.viz.assembly import FOLDER
from convattn.viz.page_model import describe, in_page_precision
from tests.viz.served import served
from tests.viz.small_models import disturbed, layout, preprocessing_for

SHAPE = (6, 8, 1)
NAMES = ("<b>zero</b>", "one", "<img src=x onerror=alert(1)>")
ATTENTION = "stage_2/block_0/attention"
PAGE = """<!doctype html><html lang="en"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>live</title><style>%s</style><main></main><script type="application/json">%s</script><script type="module">
import { livePanel } from "./live_panel.js";
import { floats } from "./unpack.js";
const { model, bytes, names } = JSON.parse(document.querySelector("script").textContent);
window.result = null;
const panel = livePanel({ description: model, floats, bytes: Uint8Array.from(bytes), nameOf: (label) => names[label],
  onResult: (result) => { window.result = result; }, drawHead: () => {}, point: (pixel) => { window.pixel = pixel; } });
document.querySelector("main").append(panel.element);
window.show = (bytes) => panel.show(Uint8Array.from(bytes));
</script>"""


@pytest.fixture(scope="module")
def small():
  """(model, variables as the page has them, PageModel, example [h, w])."""
  model = CoAtNet(
    Spec(layout(("C", (6,), 2), ("T", (8,), 1)), (4,), stem_stride=1, head_size=4, head="plain"), len(NAMES)
  )
  variables = jax.jit(lambda key, x: model.init(key, x, train=False))(jax.random.key(0), np.zeros((1, *SHAPE)))
  variables = disturbed(variables, 0)
  example = np.zeros(SHAPE[:2], np.uint8)
  example[2:4, 1:6] = 200
  described = describe(model, variables, SHAPE, preprocessing_for(SHAPE))
  return model, in_page_precision(variables), described, example


def page(described, example):
  data = {"model": described, "bytes": np.repeat(example[..., None], 3, -1).ravel().tolist(), "names": NAMES}
  style = (FOLDER / "style.css").read_text() + (FOLDER / "live.css").read_text()
  return PAGE % (style, json.dumps(data).replace("<", "\\u003c"))


@pytest.fixture
def tab(browser, small):
  _, _, described, example = small
  with served(browser, page(described.as_json, example), viewport={"width": 390, "height": 800}) as tab:
    tab.wait_for_function("window.result !== null")
    yield tab


@pytest.fixture(scope="module")
def logits(small):
  """bytes [h, w] and variables -> logits in JAX."""
  model, variables, _, _ = small
  apply = jax.jit(lambda variables, x: model.apply(variables, x, train=False)[0])

  def run(pixels, variables=variables):
    return apply(variables, preprocessing_for(SHAPE).normalize(np.asarray(pixels, np.uint8).reshape(1, *SHAPE)))

  return run


def found(tab):
  """(logits, bytes [h, w], changed) of the newest result, as soon as it is there."""
  tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
  logits, pixels, changed = tab.evaluate("[Array.from(result.logits), Array.from(result.bytes), result.changed]")
  return logits, np.reshape(pixels, (*SHAPE[:2], 3))[..., 0], changed


def press(tab, name):
  tab.get_by_role("button", name=name, exact=True).click()


def centre(tab, row, column):
  tab.locator("canvas.live-drawing").scroll_into_view_if_needed()
  box = tab.locator("canvas.live-drawing").bounding_box()
  return box["x"] + (column + 0.5) * box["width"] / SHAPE[1], box["y"] + (row + 0.5) * box["height"] / SHAPE[0]


def status(tab):
  return tab.locator(".live-status").text_content()


def test_it_begins_with_the_picture_it_was_given(tab, logits, small):
  values, pixels, changed = found(tab)
  np.testing.assert_array_equal(pixels, small[-1])
  np.testing.assert_allclose(values, logits(pixels), rtol=1e-4, atol=1e-4)
  assert not changed and status(tab).startswith("As in the data.")
  assert tab.locator(".live-classes .live-name").all_text_contents() == list(NAMES)
  assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_stroke_of_the_pen_is_undone_in_one_piece(tab, logits, small):
  tab.mouse.move(*centre(tab, 0, 1))
  tab.mouse.down()
  tab.mouse.move(*centre(tab, 0, 5), steps=3)
  tab.mouse.up()
  values, pixels, changed = found(tab)
  expected = small[-1].copy()
  expected[0, 1:6] = 255
  np.testing.assert_array_equal(pixels, expected)
  np.testing.assert_allclose(values, logits(expected), rtol=1e-4, atol=1e-4)
  assert changed and status(tab).startswith("5 pixels changed.")
  press(tab, "undo")
  values, pixels, changed = found(tab)
  np.testing.assert_array_equal(pixels, small[-1])
  assert not changed


def test_by_keyboard_one_draws_erases_and_fills(tab, small):
  tab.locator("canvas.live-drawing").focus()
  for key in ("ArrowUp", "ArrowLeft", "Space", "Shift+ArrowLeft"):  # from the middle, row 3, column 4
    tab.keyboard.press(key)
  expected = small[-1].copy()
  expected[2, 2:4] = 255
  np.testing.assert_array_equal(found(tab)[1], expected)
  assert tab.locator(".live-spoken").text_content() == "row 2, column 2: 255"
  assert tab.evaluate("window.pixel") == [2, 2]
  press(tab, "eraser")
  tab.locator("canvas.live-drawing").focus()
  tab.keyboard.press("Space")
  expected[2, 2] = 0
  np.testing.assert_array_equal(found(tab)[1], expected)
  press(tab, "grey out")
  tab.locator("canvas.live-drawing").focus()
  tab.keyboard.press("Space")
  expected[2, 2] = 64  # a quarter, the preprocessing's mean
  np.testing.assert_array_equal(found(tab)[1], expected)
  press(tab, "clear")
  assert not found(tab)[1].any()
  press(tab, "as it was")
  np.testing.assert_array_equal(found(tab)[1], small[-1])


def test_heads_and_kernels_are_switched_off_and_on(tab, logits, small):
  _, variables, _, example = small
  before = found(tab)[0]
  press(tab, f"head 1 of {ATTENTION}")
  assert tab.get_by_role("button", name=f"head 1 of {ATTENTION}").get_attribute("aria-pressed") == "false"
  assert tab.get_by_role("button", name=f"all heads of {ATTENTION}").get_attribute("aria-pressed") == "false"
  off = jax.tree.map(np.array, variables)
  off["params"]["stage_2"]["block_0"]["attention"]["out"]["kernel"][1] = 0
  np.testing.assert_allclose(found(tab)[0], logits(example, off), rtol=1e-4, atol=1e-4)
  assert status(tab).startswith("1 head off.")
  press(tab, f"all heads of {ATTENTION}")
  np.testing.assert_allclose(found(tab)[0], before)
  name = "stage_1/block_0/depthwise"
  tab.get_by_text(f"{name}: 24 kernels").click()
  press(tab, f"kernel 23 of {name}")
  press(tab, f"kernel 2 of {name}")
  off = jax.tree.map(np.array, variables)
  off["params"]["stage_1"]["block_0"]["depthwise"]["kernel"][..., [2, 23]] = 0
  np.testing.assert_allclose(found(tab)[0], logits(example, off), rtol=1e-4, atol=1e-4)
  assert status(tab).startswith("2 kernels off.")
  press(tab, "all on")
  np.testing.assert_allclose(found(tab)[0], before)


def test_cells_are_hidden_from_attention_as_a_whole(tab):
  before, pixels, _ = found(tab)
  press(tab, "hide")
  tab.mouse.click(*centre(tab, 2, 3))
  after, same, changed = found(tab)
  np.testing.assert_array_equal(same, pixels)
  assert changed and status(tab).startswith("4 pixels hidden from attention.")
  weights = np.reshape(tab.evaluate(f"Array.from(result.layers['{ATTENTION}'].probabilities)"), (2, 12, 12))
  np.testing.assert_array_equal(weights.max((0, 1)) == 0, np.arange(12) == 5)  # cells of 2 x 2 pixels, 4 in a row
  assert np.abs(np.subtract(after, before)).max() > 1e-3
  press(tab, "show")
  tab.mouse.click(*centre(tab, 3, 2))
  np.testing.assert_allclose(found(tab)[0], before)


def test_a_picture_of_ones_own_becomes_what_the_model_takes(tab, logits):
  draws = np.random.default_rng(0)
  picture = Image.fromarray(draws.integers(0, 256, (20, 31, 3)).astype(np.uint8))
  file = io.BytesIO()
  picture.save(file, "png")
  tab.locator("input[type=file]").set_input_files(
    {"name": "mine.png", "mimeType": "image/png", "buffer": file.getvalue()}
  )
  tab.wait_for_function("window.result.changed")
  values, pixels, _ = found(tab)
  expected = preprocessing_for(SHAPE).pixels(picture)[..., 0]
  assert np.abs(pixels - expected.astype(int)).max() <= 1
  np.testing.assert_allclose(values, logits(pixels), rtol=1e-4, atol=1e-4)
  broken = {"name": "<i>broken</i>.png", "mimeType": "image/png", "buffer": b"no picture"}
  tab.locator("input[type=file]").set_input_files(broken)
  tab.wait_for_function("document.querySelector('.live-status').textContent.includes('broken')")
  assert status(tab) == "<i>broken</i>.png is no picture that this browser can read."


def test_the_map_of_a_class_sums_to_its_logit(tab):
  press(tab, "one")
  text = tab.locator(".live-right").text_content()
  assert "Which cells speak for one (orange) and against it (blue): 3 × 4 cells." in text
  cells, bias, logit = map(
    float, re.search(r"cells (\S+) \+ bias (\S+) = logit (\S+)\.", text.replace("−", "-")).groups()
  )
  assert abs(cells + bias - logit) < 0.02
  assert abs(logit - found(tab)[0][1]) < 0.01


def test_another_example_begins_anew(tab, small):
  press(tab, f"head 0 of {ATTENTION}")
  white = np.full((*SHAPE[:2], 3), 250)
  tab.evaluate("(bytes) => window.show(bytes)", white.ravel().tolist())
  _, pixels, changed = found(tab)
  assert (pixels == 250).all() and not changed
  tab.mouse.click(*centre(tab, 1, 1))
  assert found(tab)[1][1, 1] == 0  # black ink on white paper
