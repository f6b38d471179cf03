"""What the page is given and hands out: others' arrays, a notebook's frame, pictures and data of a view."""

import html
import io
import json
import re
import xml.etree.ElementTree

import numpy as np
import PIL.Image
import pytest

from convattn.analysis import Grid
from convattn.errors import UserError
from convattn.viz import Overlay, explore
from tests.viz import handmade, screenshots
from tests.viz.handmade import settled


@pytest.fixture(scope="module")
def page():
  return handmade.page()


def saved(tab, kind, name):
  """The bytes that a button of the page hands out."""
  with tab.expect_download() as download:
    tab.get_by_role("button", name={"npz": "data (npz)"}.get(kind, kind.upper()), exact=True).click()
  assert download.value.suggested_filename == f"{name}.{kind}"
  return download.value.path().read_bytes()


def test_data_are_saved_as_numpy_reads_them(visit, page):
  tab = visit(page, "#at=3,4&image=1&layer=stage_1/strided&head=1&mode=logits")
  settled(tab)
  arrays = np.load(io.BytesIO(saved(tab, "npz", "stage_1_strided_head1_two_png")))
  for layer in handmade.maps()[:2]:
    query = layer.query_grid.cell_at(3.5, 4.5)
    height, width = layer.key_grid.height, layer.key_grid.width
    expected = layer.logits[1, :, query].reshape(-1, height, width)
    np.testing.assert_allclose(arrays[layer.layer], expected, atol=1e-3)
  token = handmade.maps()[3]
  query = token.query_grid.cell_at(3.5, 4.5) + 2
  np.testing.assert_allclose(arrays["stage_4/class_token/prefix"], token.logits[1, :, query, :2], atol=1e-3)
  for mode in ("probabilities", "content", "norm_weighted"):
    np.testing.assert_allclose(arrays[f"chosen/{mode}"], getattr(handmade.maps()[0], mode)[1, 1], atol=1e-3)


def test_the_view_is_saved_as_png_and_svg(visit, page):
  tab = visit(page, "#at=3,4&image=1&layer=stage_1/strided&head=0")
  settled(tab)
  name = "stage_1_strided_head0_two_png"
  picture = PIL.Image.open(io.BytesIO(saved(tab, "png", name)))
  assert min(picture.size) > 400
  assert len(set(picture.convert("RGB").get_flattened_data())) > 50
  root = xml.etree.ElementTree.fromstring(saved(tab, "svg", name))
  space = "{http://www.w3.org/2000/svg}"
  assert root.tag == f"{space}svg"
  texts = [element.text for element in root.iter(f"{space}text")]
  assert {"By hand", "stage_1/strided", "stage_2/pooled", "two.png"} <= set(texts)
  assert {"is dog (0.90)", "pixel 3, 4", "stage_1/strided, head 0"} <= set(texts)
  cells = sum(layer.num_heads * layer.key_grid.cells for layer in handmade.maps())
  assert len(list(root.iter(f"{space}rect"))) > cells - 20


def test_an_overlay_has_a_bar_tells_its_values_and_is_saved_with_the_view(visit):
  grid = Grid(3, 5, (4.0, 2.0), image=handmade.IMAGE)
  values = np.arange(15, dtype=np.float32).reshape(3, 5) / 14
  where = {"digest": "0123abcdef", "model": "m", "step": 3000, "dataset": None}
  page = handmade.page(overlays=[Overlay("grad_cam", 1, grid, values)], checkpoint=where)
  tab = visit(page, "#at=3,4&image=1&overlay=grad_cam")
  settled(tab)
  assert tab.locator(".overlays .colour-bar").inner_text().split() == ["0.000", "1.00"]
  box = tab.locator(".picture").bounding_box()
  tab.mouse.move(box["x"] + box["width"] * 0.95, box["y"] + box["height"] * 0.1)
  settled(tab)
  label, value = tab.locator(".tooltip").inner_text().split(": ")
  assert label == "grad cam" and float(value) == pytest.approx(4 / 14, abs=2e-3)
  tab.mouse.move(2, 2)
  settled(tab)
  assert not tab.locator(".tooltip").is_visible()
  assert not visit(page, "#image=0&overlay=grad_cam").locator(".overlays .colour-bar").is_visible()
  svg = tab.evaluate("convattn.exported('svg').then((blob) => blob.text())")
  root = xml.etree.ElementTree.fromstring(svg)
  space = "{http://www.w3.org/2000/svg}"
  texts = [element.text for element in root.iter(f"{space}text")]
  assert {"over it: grad cam", "checkpoint 0123abcd, step 3,000", "0.000", "1.00"} <= set(texts)
  assert sum(element.get("fill-opacity") == "0.72" for element in root.iter(f"{space}rect")) == 15


def test_a_saved_view_says_what_its_own_model_takes_the_image_for(visit):
  other = handmade.page(probabilities=np.eye(3)[[1, 2, 0]] * 0.5 + 1 / 6, title="Another")
  tab = visit(handmade.page(compare=other), "#image=1&model=1")
  for model, wanted in ((1, "is dog, taken for owl (0.67)"), (0, "is dog (0.90)")):
    tab.evaluate("model => convattn.app.set({ model })", model)
    svg = tab.evaluate("convattn.exported('svg').then((blob) => blob.text())")
    texts = [element.text for element in xml.etree.ElementTree.fromstring(svg).iter() if element.text]
    assert wanted in texts
    assert any(text.startswith(("first model", "second model")[model]) for text in texts)


def test_arrays_of_others_tokens_and_cross_attention(visit):
  rng = np.random.default_rng(0)
  arrays = [handmade.softmax(rng.normal(size=(2, 3, 5, 7))).astype(np.float16) for _ in range(2)]
  page = explore(arrays, tokens=["a", "red", "fox", "ran", "off"], key_tokens=list("ABCDEFG"))
  tab = visit(page)
  tab.get_by_role("button", name="fox").click()
  settled(tab)
  shown = tab.evaluate("() => Array.from(convattn.app.map(convattn.app.layers(0)[1], 2).values)")
  np.testing.assert_allclose(shown, arrays[1][0, 2, 2], atol=1e-3)
  with_class = [handmade.softmax(rng.normal(size=(2, 3, 13, 13)))]
  page = explore(with_class, rng.uniform(-2, 2, (2, 6, 8, 1)), grid=(3, 4), prefix_tokens=1)
  tab = visit(page)
  tab.get_by_role("button", name="class", exact=True).click()
  settled(tab)
  shown = tab.evaluate("() => Array.from(convattn.app.map(convattn.app.layers(0)[0], 0).values)")
  np.testing.assert_allclose(shown, with_class[0][0, 0, 0, 1:], atol=1e-3)
  assert tab.locator(".detail .token").inner_text().startswith("class 0.")


def test_a_notebook_shows_it_in_a_frame(visit, browser, page, tmp_path):
  frame = page._repr_html_()
  (tag, source), *others = re.findall(r'<iframe ([^>]*) srcdoc="([^"]*)"></iframe>', frame)
  assert others == []
  assert html.unescape(source) == page.html
  assert 'sandbox="allow-scripts allow-downloads"' in tag
  path = tmp_path / "notebook.html"
  path.write_text(f"<!doctype html><title>n</title>{frame}")
  context = browser.new_context()
  tab, troubles = context.new_page(), []
  tab.on("pageerror", lambda error: troubles.append(str(error)))
  tab.goto(path.as_uri())
  tab.frame_locator("iframe").locator('.tile[aria-checked="true"]').wait_for()
  tab.frame_locator("iframe").locator(".tile").nth(1).click()
  assert troubles == []
  context.close()


def overlay(image=0, shape=(2, 3), **options):
  return Overlay("some", image, Grid(2, 3, (6, 4), image=handmade.IMAGE), np.ones(shape), **options)


@pytest.mark.parametrize(
  ("call", "reason"),
  [
    (lambda: explore([]), "no maps"),
    (lambda: explore([np.zeros((3, 4, 4))]), r"\(3, 4, 4\), but must"),
    (lambda: explore([np.zeros((1, 1, 5, 5))], grid=(2, 2)), "grid is 2x2 after prefix_tokens = 0"),
    (lambda: explore([np.full((1, 1, 4, 4), 2.0)]), "a row that sums to 8"),
    (lambda: explore([np.full((1, 1, 4, 4), 1 / 4)], grid=(2, 2), prefix_tokens=1), r"5 tokens in all, .* \(4 x 4\)"),
    (
      lambda: explore([np.full((1, 1, 3, 3), 1 / 3)], tokens=["a", "b"]),
      "tokens has 2 names, but layer_1 has 3 queries",
    ),
    (lambda: explore([np.full((1, 1, 2, 3), 1 / 3)], tokens=["a", "b"]), "tokens has 2 names, but layer_1 has 3 keys"),
    (
      lambda: explore([np.full((1, 1, 2, 3), 1 / 3)], tokens=["a", "b"], key_tokens=["a", "b", "c", "d"]),
      "key_tokens has 4 names, but layer_1 has 3 keys",
    ),
    (lambda: handmade.page(labels=[0, 1]), "of 3 images, and there are labels of 2"),
    (lambda: explore([np.full((1, 1, 2, 2), 0.5)], np.zeros((1, 2, 2, 2))), r"images have shape \(1, 2, 2, 2\)"),
    (lambda: handmade.page(report=[[]]), "5 maps and metrics of 1"),
    (lambda: handmade.page(labels=[0, 3, 1]), "among the labels is 3, but classes are from 0 to 2"),
    (lambda: handmade.page(class_names=["a", "b"]), r"probabilities have shape \[3, 3\], but must be \[images, 2\]"),
    (lambda: handmade.page(probabilities=np.full((3, 3), np.nan)), "not all finite"),
    (lambda: handmade.page(overlays=[overlay(shape=(3, 2))]), r"are \[3, 2\], but its grid is \[2, 3\]"),
    (lambda: handmade.page(overlays=[overlay(image=3)]), "of image 3, but images are from 0 to 2"),
    (
      lambda: handmade.page(overlays=[overlay(scores={"gain": np.nan})]),
      "score 'gain' of the overlay 'some' is nan",
    ),
    (
      lambda: handmade.page(timeline=[(7, handmade.maps()[:1])]),
      "at step 7 are of 1 where those of the page are of 5",
    ),
    (lambda: handmade.page(compare=explore([np.full((1, 1, 2, 2), 0.5)])), "has 1 images, and this one 3"),
    (lambda: explore([np.full((1, 1, 2, 2), 0.5)], np.full((1, 2, 2, 1), np.nan)), "pixels that are not finite"),
  ],
)
def test_what_does_not_fit_is_refused(call, reason):
  with pytest.raises(ValueError, match=reason):
    call()


def test_a_page_is_written_to_a_file_alone(page, tmp_path):
  with pytest.raises(UserError, match=f"^path must name a file, got '{tmp_path}', which is a folder.$"):
    page.write(tmp_path)
  with pytest.raises(UserError, match="there is no folder"):
    page.write(tmp_path / "none" / "page.html")
  assert not any(tmp_path.iterdir())


def test_the_manifest_is_plain_json(page):
  assert json.loads(json.dumps(page.manifest, allow_nan=False)) == page.manifest


@pytest.mark.slow
def test_pictures_of_the_page_are_taken(browser, page, tmp_path):
  paths = screenshots.take(browser, page.write(tmp_path / "page.html"), tmp_path)
  assert [path.name for path in paths] == [
    f"explore_{device}_{scheme}.png" for device in ("desktop", "phone") for scheme in ("light", "dark")
  ]
  bright = []
  for path in paths:
    picture = PIL.Image.open(path).convert("L")
    assert picture.size in ((1280, 1000), (780, 1688))
    bright.append(np.median(picture))
  assert min(bright[0], bright[2]) > 200 > 60 > max(bright[1], bright[3])
