"""A view of a page is read back out of its HTML and drawn, with a caption that says what it is."""

import dataclasses
import json

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from convattn.commands import main
from convattn.errors import UserError
from convattn.viz.explore_page import Overlay, explore
from convattn.viz.looks import Place, look
from convattn.viz.packed_layers import softmax
from convattn.viz.page_figure import page_figure
from convattn.viz.page_reader import read_manifest, unpacked_layer
from convattn.viz.page_view import View, parse_view, split_address
from tests.viz import seen

ROUNDED = 1.5e-3
"""How far a page's numbers may be from those that it was given."""


def maps(seed=0):
  return [seen.attention(seed=seed), seen.attention("stage_4/block_0/attention", heads=3, seed=seed + 1)]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
  """A page of two layers and two images, with an overlay, a timeline and another model."""
  images = np.stack([seen.picture()] * 2)
  other = explore(maps(20), images, checkpoint={"digest": "fedcba9876543210", "model": "other"})
  made = explore(
    maps(),
    images,
    class_names=["<b>", "$x$"],
    image_names=["one.png", "</script><b>"],
    labels=[0, 1],
    checkpoint={"digest": "0123456789abcdef", "model": "coatnet_mini_8x8", "step": 2000, "dataset": "digits"},
    overlays=[Overlay("rollout", 1, seen.COARSE, np.arange(4.0).reshape(2, 2))],
    timeline=[(0, maps(10))],
    compare=other,
  )
  return made.write(tmp_path_factory.mktemp("page") / "a page.html")


@pytest.fixture(scope="module")
def manifest(page):
  return {**read_manifest(page), "compare": None}


def drawn(figure):
  """[values of each map], in order."""
  boxes = [each for axes in figure.axes for each in axes.collections if isinstance(each, PolyCollection)]
  return [np.asarray(each.get_array()) for each in boxes]


@pytest.mark.parametrize("mode", ["probabilities", "logits", "content", "position", "norm_weighted"])
def test_maps_are_read_back_as_they_were(manifest, mode):
  for packed, given in zip(manifest["layers"], maps(), strict=True):
    found = unpacked_layer(packed)
    assert (found.layer, found.query_grid, found.key_grid) == (given.layer, given.query_grid, given.key_grid)
    assert found.modes == given.modes
    np.testing.assert_allclose(getattr(found, mode), getattr(given, mode), atol=ROUNDED)


def test_windows_are_read_back_with_their_keys(tmp_path):
  given = seen.windows()
  path = explore([given], np.zeros((1, 2, 4, 1))).write(tmp_path / "page.html")
  found = unpacked_layer(read_manifest(path)["layers"][0])
  np.testing.assert_array_equal(found.key_cells, given.key_cells)
  np.testing.assert_allclose(found.dense(), given.dense(), atol=ROUNDED)


@pytest.mark.parametrize(
  ("view", "place", "mode"),
  [
    ("image=1&at=3,4&direction=out&mode=logits", Place(1, at=(3, 4)), "logits"),
    ("image=1&at=5,8&direction=in&mode=content", Place(1, at=(5, 8), direction="in"), "content"),
    ("image=mean&of=1&at=all", Place(None), "probabilities"),
    ("image=difference&of=1&at=0,0,3,2&mode=norm_weighted", Place(1, True, (0, 0, 3, 2)), "norm_weighted"),
    ("", Place(0, at=(3, 4)), "probabilities"),  # the pixel in the middle
  ],
)
def test_what_is_drawn_is_what_the_view_says(manifest, view, place, mode):
  figure = page_figure(manifest, parse_view(view), 174).figure
  expected = [values for each in maps() for values in look(each, mode, place).values]
  for found, wanted in zip(drawn(figure), expected, strict=True):
    np.testing.assert_allclose(found, wanted, atol=18 * ROUNDED)  # sums of up to nine


def test_one_head_of_one_layer_keeps_the_scale_that_all_maps_share(manifest):
  view = parse_view("image=0&at=0,0&layer=stage_3/block_0/attention&head=1&scale=shared")
  (found,) = drawn(page_figure(manifest, view, 84).figure)
  np.testing.assert_allclose(found, maps()[0].probabilities[0, 1, 0], atol=ROUNDED)
  ends = {}
  for shared in (True, False):
    figure = page_figure(manifest, dataclasses.replace(view, shared=shared), 84).figure
    (bar,) = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
    ends[shared] = bar.get_xlim()[1]  # below a single row
  assert ends[False] == pytest.approx(found.max())
  assert ends[True] == pytest.approx(max(each.probabilities[0, :, 0].max() for each in maps()), abs=ROUNDED)


def test_the_caption_says_what_one_must_know(manifest):
  view = parse_view("image=1&at=3,4&layer=stage_3/block_0/attention&head=0&mode=content&scale=each")
  caption = page_figure(manifest, view, 84).caption
  assert caption == (
    "Logit, part of content, stage_3/block_0/attention, head 0: what pixel (row 3, column 4) attends to, image 1 "
    "(</script><b>, class $x$). Grid: queries 3 × 3 cells of 2 × 3 pixels, keys 2 × 2 cells of 3 × 5 pixels. "
    f"Colours: {caption.partition('Colours: ')[2].partition(',')[0]}, the map's own scale. "
    "Checkpoint 0123456789ab, coatnet_mini_8x8, step 2,000, digits."
  )
  drawing = page_figure(manifest, view, 84).figure
  assert " ".join(drawing.get_supxlabel().split()) == caption
  told = page_figure(manifest, parse_view("image=difference&of=0&at=all&s=0.5"), 174).caption
  assert "from content + 0.5 × position, 2 layers, all heads: the sum over all queries, image 0" in told
  assert "less the mean over 2 images" in told


def test_a_step_of_the_timeline_and_an_overlay(manifest):
  view = parse_view("step=0&image=1&at=0,0&overlay=rollout&layer=stage_4/block_0/attention&sort=entropy&pins=x")
  figure = page_figure(manifest, view, 174)
  over, *found = drawn(figure.figure)
  np.testing.assert_allclose(over, np.arange(4), atol=0.01)
  np.testing.assert_allclose(np.stack(found), maps(10)[1].probabilities[1, :, 0], atol=ROUNDED)
  assert "rollout, on a scale of its own" in figure.caption
  assert "step 0, digits" in figure.caption


def test_the_slider_of_the_position(manifest):
  (found, *_), given = drawn(page_figure(manifest, parse_view("image=0&at=0,0&s=0.5"), 174).figure), maps()[0]
  wanted = softmax(given.content + np.float32(0.5) * given.position)[0, 0, 0]
  np.testing.assert_allclose(found, wanted, atol=ROUNDED)


def test_a_second_model_has_its_rows_below(page):
  figure = page_figure(read_manifest(page), parse_view("image=0&at=0,0&layer=stage_3/block_0/attention"), 174)
  expected = np.concatenate([each.probabilities[0, :, 0] for each in (maps()[0], maps(20)[0])])
  np.testing.assert_allclose(np.stack(drawn(figure.figure)), expected, atol=ROUNDED)
  assert "Rows called compared: checkpoint fedcba987654, other." in figure.caption


def test_addresses_are_paths_or_files(page):
  for address in (f"{page}#at=1,2", f"{page.as_uri()}#at=1,2"):
    assert split_address(address) == (page, "at=1,2")
  assert "%20" in page.as_uri()
  with pytest.raises(UserError, match="lies in the network; save the page"):
    split_address("https://example.com/explore.html#at=1,2")


def test_the_command_writes_a_pdf_with_fonts_and_says_the_caption(page, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  address = f"{page.as_uri()}#image=0&at=3,4&layer=stage_3/block_0/attention&head=1"
  assert main(["figure", address, "--width=8.4cm"]) == 0
  path, caption, *rest = capsys.readouterr().out.splitlines()
  assert (path, rest) == ("a page.pdf", [])
  assert caption.startswith("Attention weight, stage_3/block_0/attention, head 1")
  first = (tmp_path / path).read_bytes()
  assert b"/FontFile2" in first and b"/Type3" not in first
  assert b"MediaBox [ 0 0 238.11" in first  # 84 mm in points
  assert main(["figure", address, "--width=84mm", "--out=again.PDF"]) == 0
  assert (tmp_path / "again.PDF").read_bytes() == first
  for kind, begins in (("svg", b"<?xml"), ("png", b"\x89PNG")):
    assert main(["figure", address, "--width=3in", f"--out=x.{kind}"]) == 0
    assert (tmp_path / f"x.{kind}").read_bytes().startswith(begins)


@pytest.mark.parametrize(
  ("view", "message"),
  [
    ("image=2", "the page has no image 2; it has 0 to 1."),
    ("image=one", "the view has image=one, but it must be a whole number from 0."),
    ("layer=stage_3/block_1/attention", "no attention layer 'stage_3/block_1/attention' with probabilities; did you"),
    ("layer=stage_3/block_0/attention&head=2", "stage_3/block_0/attention has no head 2; it has 0 to 1."),
    ("at=6,0", "pixel 6,0 is in no cell of stage_3/block_0/attention; its image has 6 x 9 pixels"),
    ("at=here", "the view has at=here, but it must be ROW,COLUMN"),
    ("at=token:0", "there is no token 0 without a place"),
    ("mode=sum", "the view has mode=sum, but it must be one of probabilities, logits, content"),
    ("step=5", "the page has no step 5; its timeline has 0."),
    ("overlay=rollout", "image 0 has no overlay 'rollout'; it has none."),
    ("s=3", "the view has s=3, but it must be a number from 0 to 2."),
    ("layr=x", "the view has 'layr=x', but it is made of NAME=VALUE; did you mean layer?"),
    ("scale=log", "the view has scale=log, but it must be one of shared, each."),
  ],
)
def test_a_view_that_does_not_fit_is_one_line(page, tmp_path, monkeypatch, capsys, view, message):
  monkeypatch.chdir(tmp_path)
  assert main(["figure", f"{page}#{view}"]) == 2
  out, err = capsys.readouterr()
  assert (out, err.count("\n")) == ("", 1)
  assert message in err
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "name one page, such as convattn figure 'explore.html#image=0&at=3,4'; got none."),
    (["nowhere.html#at=0,0"], "there is no page 'nowhere.html'; convattn explore writes one."),
    (["text.html"], "text.html is no page that convattn explore wrote"),
    (["old.html"], "old.html is a page of version 0, but 1 is wanted"),
    (["bad.html"], "bad.html is damaged"),
    (["PAGE", "--width=84"], "--width must be a length from 30mm to 600mm, such as 84mm, 8.4cm or 3.3in; got '84'."),
    (["PAGE", "--width=1in"], "--width must be a length"),
    (["PAGE", "--out=x.jpg"], "--out must end in .pdf, .svg, .png, got 'x.jpg'."),
    (["PAGE", "--widht=84mm"], "there is no option --widht; did you mean --width?"),
  ],
)
def test_a_wrong_request_is_one_line(page, tmp_path, monkeypatch, capsys, arguments, message):
  monkeypatch.chdir(tmp_path)
  for name, manifest in (("old", json.dumps({"version": 0})), ("bad", "[")):
    (tmp_path / f"{name}.html").write_text(f'<script type="application/json" id="manifest">{manifest}</script>')
  (tmp_path / "text.html").write_text("<p>")
  before = sorted(tmp_path.iterdir())
  assert main(["figure", *(str(page) if each == "PAGE" else each for each in arguments)]) == 2
  out, err = capsys.readouterr()
  assert (out, err.count("\n")) == ("", 1)
  assert message in err
  assert sorted(tmp_path.iterdir()) == before


def test_a_view_says_each_of_its_words():
  text = (
    "image=difference&of=3&at=3,4&direction=in&layer=a%20b/c&head=2&mode=logits&scale=each&overlay=none&step=7&s=1.5"
  )
  assert parse_view(text) == View(
    "difference", 3, (3, 4), None, "in", "a b/c", 2, "logits", False, None, 7, 1.5
  )  # fmt: skip
  assert parse_view("at=token:2").token == 2
  assert parse_view("at=0,1,2,3&weight=4&sort=layer").at == (0, 1, 2, 3)
