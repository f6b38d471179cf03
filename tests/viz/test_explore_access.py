"""The page by keyboard, by ear, on a phone, in the light and in the dark."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from convattn.viz import explore
from tests.viz import handmade
from tests.viz.handmade import settled

STATE = "convattn.app.state"
FOCUSED = "document.activeElement"


@pytest.fixture(scope="module")
def page():
  return handmade.page(timeline=[(10, handmade.maps(2))])


@pytest.fixture(scope="module")
def axe():
  """The source of axe-core."""
  found = importlib.util.find_spec("axe_playwright_python")
  if found is None:
    pytest.skip("no axe-playwright-python: the page's contrast and labels are not checked")
  return (Path(found.origin).parent / "axe.min.js").read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_labels_and_contrast(visit, page, axe, width, scheme):
  tab = visit(page, "#overlay=head&sort=layer", viewport={"width": width, "height": 900}, color_scheme=scheme)
  tab.get_by_role("button", name="Pin this map").click()
  for summary in tab.locator("summary").all():
    summary.click()
  settled(tab)
  tab.wait_for_timeout(300)  # until colours have changed over
  tab.evaluate(axe)
  found = tab.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
  assert {each["id"]: [node["html"] for node in each["nodes"]] for each in found} == {}
  assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_labels_and_contrast_without_pictures(visit, axe):
  tab = visit(explore([np.full((1, 2, 4, 4), 0.25)], tokens=["a", "red", "fox", "ran"]))
  settled(tab)
  tab.evaluate(axe)
  assert [each["id"] for each in tab.evaluate("axe.run()")["violations"]] == []


def test_bad_contrast_and_a_lost_label_are_found(visit, page, axe):
  tab = visit(page)
  tab.evaluate("document.querySelector('h1').style.color = '#ddd'; document.querySelector('.picture').ariaLabel = ''")
  tab.evaluate("document.querySelector('select').id = 'lost'")
  tab.evaluate(axe)
  found = {each["id"] for each in tab.evaluate("axe.run()")["violations"]}
  assert "color-contrast" in found


def reached(tab):
  """What Tab reaches, from the beginning to the end: the tag, class, and label or text of each."""
  seen = []
  tab.evaluate("document.activeElement.blur()")
  for _ in range(200):
    tab.keyboard.press("Tab")
    if tab.evaluate(f"{FOCUSED} === document.body"):
      return seen
    seen.append(
      tab.evaluate(f"""() => {{
      const element = {FOCUSED};
      const text = element.ariaLabel || element.textContent;
      return [element.tagName, element.className, text, element.matches(':focus-visible')];
    }}""")
    )
  raise AssertionError("Tab never came to an end")


def test_the_keyboard_alone_reaches_everything(visit, page):
  tab = visit(page)
  settled(tab)
  seen = reached(tab)
  texts = " | ".join(text for _, _, text, _ in seen)
  for wanted in (
    "Arrow keys move the pixel",
    "one.png",
    "logits",
    "mean",
    "all queries",
    "per map",
    "Pin this map",
    "PNG",
    "npz",
  ):
    assert wanted in texts, wanted
  assert {"CANVAS", "BUTTON", "SELECT", "INPUT", "SUMMARY", "DIV"} <= {tag for tag, _, _, _ in seen}
  assert all(visible for _, _, _, visible in seen)
  # One stop for all heads: arrow keys move among them.
  assert sum("tile" in name.split() for _, name, _, _ in seen) == 1
  outline = "element => { element.focus(); return getComputedStyle(element).outline; }"
  assert tab.locator(".picture").evaluate(outline).endswith("solid 3px")


def test_arrow_keys_move_the_pixel_the_head_and_the_weight(visit, page):
  tab = visit(page, "#at=5,5&layer=stage_1/strided&head=0&weight=0")
  tab.locator(".picture").focus()
  for key in ("ArrowUp", "ArrowUp", "ArrowRight"):
    tab.keyboard.press(key)
  settled(tab)
  assert tab.evaluate(f"{STATE}.at") == [3, 6]
  assert "Pixel 3, 6" in tab.locator("p.unseen").first.inner_text()
  tab.keyboard.press("Shift+ArrowDown")
  assert tab.evaluate(f"{STATE}.at") == [11, 6]
  tab.keyboard.press("r")
  for key in ("ArrowUp", "ArrowLeft", "ArrowLeft"):
    tab.keyboard.press(key)
  assert tab.evaluate(f"{STATE}.at") == [10, 4, 11, 6]
  tab.keyboard.press("r")
  tab.keyboard.press("ArrowUp")
  assert tab.evaluate(f"{STATE}.at") == [9, 4]
  tab.keyboard.press("a")
  settled(tab)
  assert tab.evaluate(f"{STATE}.at") == "all"
  assert "do not sum to one" in tab.locator(".legend").inner_text()
  assert "All queries" in tab.locator("p.unseen").first.inner_text()
  tab.locator('.tile[aria-checked="true"]').focus()
  tab.keyboard.press("ArrowRight")
  tab.keyboard.press("ArrowRight")
  settled(tab)
  assert tab.evaluate(f"[{STATE}.layer, {STATE}.head]") == ["stage_2/pooled", 0]
  assert tab.evaluate(f"{FOCUSED}.getAttribute('aria-checked')") == "true"
  tab.evaluate("convattn.app.set({ weight: 0 })")
  tab.locator(".focus").focus()
  tab.keyboard.press("ArrowDown")
  settled(tab)
  assert tab.evaluate(f"{STATE}.weight") == 3
  assert "The chosen cell: " in tab.locator("p.unseen").first.inner_text()


def test_a_finger_picks_a_pixel_on_a_phone(visit, page):
  tab = visit(page, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
  box = tab.locator(".picture").bounding_box()
  side = box["width"] / handmade.IMAGE[1]
  tab.touchscreen.tap(box["x"] + 2.5 * side, box["y"] + 8.5 * side)
  settled(tab)
  assert tab.evaluate(f"{STATE}.at") == [8, 2]
  tab.evaluate("scrollTo(0, 900)")
  # The picture stays in sight while the maps pass below it.
  assert tab.evaluate("scrollY") == 900
  assert 0 <= tab.locator(".picture").bounding_box()["y"] < 50


def test_nothing_moves_for_those_who_do_not_want_it(visit, page):
  moving = "document.getAnimations().length"
  for wish, expected in (("reduce", 0), ("no-preference", 1)):
    tab = visit(page, reduced_motion=wish)
    settled(tab)
    tab.locator(".word").nth(2).focus()
    assert tab.evaluate(moving) >= expected
    assert wish != "reduce" or tab.evaluate(moving) == 0
