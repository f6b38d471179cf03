"""What the figure of a page's address draws is what the page shows at that address."""

import json

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from convattn.viz.page_figure import page_figure
from convattn.viz.page_reader import read_manifest
from convattn.viz.page_view import parse_view, split_address
from tests.viz import handmade

SHOWN = """({ name, head }) => {
  const layer = convattn.app.layers(0).find((each) => each.name === name);
  return Array.from(convattn.mapOf(layer, head, convattn.app.selection()).values, String);
}"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
  return handmade.page().write(tmp_path_factory.mktemp("page") / "page.html")


@pytest.fixture(scope="module")
def tab(browser, path):
  context = browser.new_context(viewport={"width": 1280, "height": 900})
  tab = context.new_page()
  tab.goto(path.as_uri())
  yield tab
  context.close()


def selections(count):
  """What one may choose on the page, as its state has it."""
  draws, layers = np.random.default_rng(4), handmade.maps()
  for _ in range(count):
    layer = layers[draws.integers(len(layers))]
    pixel = [int(draws.integers(size)) for size in handmade.IMAGE]
    region = [*(each // 2 for each in pixel), *pixel]
    yield {
      "layer": layer.layer,
      "head": int(draws.integers(layer.num_heads)),
      "mode": layer.modes[draws.integers(len(layer.modes))],
      "image": int(draws.integers(handmade.NUM_IMAGES)),
      "average": str(draws.choice(["one", "mean", "difference"])),
      "direction": str(draws.choice(["out", "in"])),
      "at": [pixel, region, "all"][draws.integers(3)],
      "scale": str(draws.choice(["shared", "each"])),
    }


@pytest.mark.slow
def test_the_figure_shows_what_the_page_shows_at_the_same_address(tab, path):
  for chosen in selections(20):
    tab.evaluate("(patch) => convattn.app.set(patch)", chosen)
    found = tab.evaluate(SHOWN, {"name": chosen["layer"], "head": chosen["head"]})
    shown = np.array([text.replace("Infinity", "inf") for text in found], float)
    page, text = split_address(f"{path.as_uri()}{handmade.address(tab)}")
    figure = page_figure(read_manifest(page), parse_view(text), 84).figure
    (drawn,) = [each for axes in figure.axes for each in axes.collections if isinstance(each, PolyCollection)]
    expected = np.where(np.isfinite(shown), shown, np.nan)
    np.testing.assert_allclose(drawn.get_array().filled(np.nan), expected, atol=2e-3, err_msg=json.dumps(chosen))
