"""What the page calls queries and keys: each by the words of its own sequence."""

import numpy as np
import pytest

from convattn.viz import explore
from tests.viz import handmade
from tests.viz.handmade import settled

WORDS = ["a", "red", "fox", "ran", "off"]
KEYS = ["un", "renard", "roux"]


def spoken(tab):
  settled(tab)
  return tab.locator("p.unseen").first.inner_text()


@pytest.fixture(scope="module")
def across():
  """Cross-attention of five words to three, in which the third word gives the first key most."""
  weights = np.full((1, 2, 5, 3), 1 / 3)
  weights[0, :, 2] = [0.5, 0.3, 0.2]
  return explore([weights], tokens=WORDS, key_tokens=KEYS)


def test_a_query_has_the_words_of_the_queries_and_a_key_those_of_the_keys(visit, across):
  tab = visit(across)
  tab.get_by_role("button", name="fox", exact=True).click()
  settled(tab)
  assert tab.locator(".sums h4").inner_text() == "fox → un"
  assert spoken(tab).startswith("Token fox; layer_1, head 0: largest 0.500 at un.")
  tab.get_by_role("button", name="Pin this map").click()
  settled(tab)
  assert "token fox;" in tab.locator(".pins li").inner_text()


def test_who_looks_at_a_key_is_asked_of_the_keys(visit, across):
  tab = visit(across)
  tab.get_by_role("button", name="looks at it", exact=True).click()
  settled(tab)
  assert tab.locator(".left .token").all_inner_texts() == KEYS
  tab.get_by_role("button", name="un", exact=True).click()
  settled(tab)
  assert tab.locator(".sums h4").inner_text() == "fox → un"
  assert spoken(tab).startswith("Token un; layer_1, head 0: largest 0.500 at fox.")
  box = tab.locator(".tile canvas").first.bounding_box()
  tab.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] / 2)
  settled(tab)
  assert tab.locator(".tooltip").inner_text().startswith("off: ")


def test_a_class_token_is_no_pixel(visit):
  tab = visit(handmade.page(), "#layer=stage_4/class_token&head=0&at=token:0")
  assert spoken(tab).startswith("Class token; stage_4/class_token, head 0")
  tab.get_by_role("button", name="register 1").click()
  tab.get_by_role("button", name="Pin this map").click()
  settled(tab)
  assert "register 1 token;" in tab.locator(".pins li").inner_text()
  tab.evaluate("convattn.app.set({ at: [1, 2, 5, 6] })")
  assert spoken(tab).startswith("Pixels 1, 2 to 5, 6;")


def test_marks_are_explained(visit):
  tab = visit(handmade.page(), viewport={"width": 390, "height": 844})
  guide = tab.locator("details.guide")
  guide.locator("summary").click()
  for mark in ("px", "H 0.42", "(−1, +1)", "dashed", "green and orange"):
    assert mark in guide.inner_text(), mark


def test_a_row_of_tokens_has_no_shifts_and_two_sequences_no_distance(visit, across):
  tab = visit(across)
  settled(tab)
  assert "H 0." in tab.locator(".tile .badge").first.inner_text()
  assert "%" not in tab.locator(".tile .badge").first.inner_text()
  assert "tokens" not in tab.locator(".tile .badge").first.inner_text()
  tab.locator(".detail summary").click()
  assert "3 × 3" not in tab.locator(".facts").inner_text()
  alone = visit(explore([np.full((1, 2, 4, 4), 0.25)], tokens=WORDS[:4]))
  settled(alone)
  badge = alone.locator(".tile .badge").first.inner_text()
  assert "tokens" in badge and "%" not in badge
  cells = visit(handmade.page())
  settled(cells)
  assert "%" in cells.locator(".tile .badge").first.inner_text()
