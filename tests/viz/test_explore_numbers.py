"""What the page shows is what the arrays hold: for strided, pooled, windowed and padded grids, and every switch."""

import dataclasses
import re

import numpy as np
import pytest

from convattn.analysis import head_report
from convattn.viz import page_figure
from convattn.viz.assembly import FOLDER
from convattn.viz.packed_layers import metrics_of_heads, packed_layer
from convattn.viz.page_view import View
from tests.viz import handmade

SIGNED = ("logits", "content", "position")


@pytest.fixture(scope="module")
def tab(browser, tmp_path_factory):
  path = handmade.page().write(tmp_path_factory.mktemp("page") / "page.html")
  context = browser.new_context(viewport={"width": 1280, "height": 900})
  tab = context.new_page()
  tab.goto(path.as_uri())
  yield tab
  context.close()


def shown(tab, layer, head, **selection):
  """[rows, columns] of a head's map, and [prefix]."""
  map_of = """([name, head, selection]) => {
    const layer = convattn.app.layers(0).find((each) => each.name === name);
    const map = convattn.mapOf(layer, head, { s: 1, ...selection });
    return [Array.from(map.values, String), Array.from(map.prefix, String), map.grid.height, map.grid.width];
  }"""
  values, prefix, height, width = tab.evaluate(map_of, [layer, head, selection])
  read = [text.replace("Infinity", "inf") for text in values]
  return np.array(read, np.float64).reshape(height, width), np.array(prefix, np.float64)


def whole(layer, mode):
  """[b, heads, queries, prefix + key cells] with prefix tokens, nan where a query has no such key."""
  values = getattr(layer, mode)
  if layer.key_cells is None:
    return values
  return layer.dense(mode)


def averaged(values, average, image):
  with np.errstate(invalid="ignore"):
    return {"one": values[image], "mean": values.mean(0), "difference": values[image] - values.mean(0)}[average]


def draws(count, seed):
  rng = np.random.default_rng(seed)
  layers = handmade.maps()
  for _ in range(count):
    layer = layers[rng.integers(len(layers))]
    yield (
      layer,
      int(rng.integers(layer.num_heads)),
      layer.modes[rng.integers(len(layer.modes))],
      int(rng.integers(handmade.NUM_IMAGES)),
      str(rng.choice(["one", "mean", "difference"])),
      str(rng.choice(["out", "in"])),
      [int(rng.integers(size)) for size in handmade.IMAGE],
    )


def test_what_a_pixel_looks_at_and_who_looks_at_it(tab):
  seen = set()
  for layer, head, mode, image, average, direction, at in draws(60, 0):
    values = averaged(whole(layer, mode), average, image)[head]
    grid = layer.query_grid if direction == "out" else layer.key_grid
    token = grid.cell_at(at[0] + 0.5, at[1] + 0.5) + layer.prefix_tokens
    expected = values[token] if direction == "out" else values[:, token]
    found, prefix = shown(tab, layer.layer, head, mode=mode, image=image, average=average, direction=direction, at=at)
    np.testing.assert_allclose(found.ravel(), expected[layer.prefix_tokens :], atol=1e-3)
    np.testing.assert_allclose(prefix, expected[: layer.prefix_tokens], atol=1e-3)
    seen |= {layer.layer, mode, average, direction}
  assert len(seen) == 5 + 5 + 3 + 2


def test_a_region_is_the_mean_of_its_queries_and_its_weight_the_sum_of_its_keys(tab):
  layer = handmade.maps()[1]
  rows, columns = np.mgrid[2:7, 3:9]
  for direction, grid in (("out", layer.query_grid), ("in", layer.key_grid)):
    cells = sorted({grid.cell_at(r + 0.5, c + 0.5) for r, c in zip(rows.flat, columns.flat, strict=True)})
    assert 1 < len(cells) < grid.cells
    weights = layer.probabilities[1, 2]
    expected = weights[cells].mean(0) if direction == "out" else weights[:, cells].sum(1)
    region = {"mode": "probabilities", "image": 1, "average": "one", "direction": direction, "at": [2, 3, 6, 8]}
    np.testing.assert_allclose(shown(tab, layer.layer, 2, **region)[0].ravel(), expected, atol=1e-3)


def test_all_queries_together(tab):
  for layer in handmade.maps():
    for mode in set(layer.modes) - {"logits"}:
      found, prefix = shown(tab, layer.layer, 0, mode=mode, image=2, average="one", direction="out", at="all")
      values = whole(layer, mode)[2, 0].astype(np.float64)
      values[np.isneginf(values)] = np.nan if mode in SIGNED else 0
      count = np.maximum((~np.isnan(values)).sum(0), 1)
      expected = np.nansum(values, 0) / (count if mode in SIGNED else 1)
      if layer.key_cells is None:
        np.testing.assert_allclose(np.concatenate([prefix, found.ravel()]), expected, atol=3e-3)
      if mode == "probabilities":
        assert np.nansum(found) + prefix.sum() == pytest.approx(len(values), abs=0.05)


def test_a_class_token_is_a_query_too(tab):
  layer = handmade.maps()[3]
  for token in range(2):
    found, prefix = shown(
      tab,
      layer.layer,
      1,
      mode="probabilities",
      image=0,
      average="one",
      direction="out",
      at={"token": token},
    )
    np.testing.assert_allclose(np.concatenate([prefix, found.ravel()]), layer.probabilities[0, 1, token], atol=1e-3)


@pytest.mark.parametrize("s", [0, 0.35, 2])
def test_the_position_counts_s_times(tab, s):
  layer = handmade.maps()[0]
  expected = handmade.softmax(layer.content[1, 0] + s * layer.position[1, 0])[17]
  box = layer.query_grid.boxes()[17]
  at = [int(box[0]), int(box[1])]
  found, _ = shown(tab, layer.layer, 0, mode="probabilities", image=1, average="one", direction="out", at=at, s=s)
  np.testing.assert_allclose(found.ravel(), expected, atol=1e-3)


def test_page_and_figure_agree_on_what_the_position_counts(browser, tmp_path):
  """Values may have lengths of each query's own, as in windows; a gate has two softmaxes, where s means nothing."""
  strided, _, windows, _, gated = handmade.maps()
  lengths = np.random.default_rng(1).uniform(0.1, 3, windows.probabilities.shape)
  windows = dataclasses.replace(windows, norm_weighted=(windows.probabilities * lengths).astype(np.float32))
  assert "norm_weighted" in packed_layer(windows)["arrays"]
  page = handmade.page(maps=[strided, windows, gated])
  context = browser.new_context()
  tab = context.new_page()
  tab.goto(page.write(tmp_path / "page.html").as_uri())
  for layer in (strided, windows, gated):
    for mode in set(layer.modes) & {"probabilities", "norm_weighted"}:
      drawn = page_figure.maps_of(page.manifest, View(mode=mode, s=0.5))
      half = next(each for name, _, each in drawn if name == layer.layer)
      at = [int(side) for side in layer.query_grid.boxes()[3][:2]]
      found, _ = shown(tab, layer.layer, 0, mode=mode, image=1, average="one", direction="out", at=at, s=0.5)
      np.testing.assert_allclose(found.ravel(), whole(half, mode)[1, 0, 3], atol=1e-3)
      changed = np.nanmax(np.abs(whole(half, mode) - whole(layer, mode)))
      assert changed < 1e-3 if layer is gated else changed > 0.1
  context.close()


def test_what_heads_are_sorted_by_is_called_as_in_their_report():
  (report,) = head_report(handmade.maps()[:1])
  told = re.findall(r'name: "(\w+)"', (FOLDER / "metrics.js").read_text())
  assert len(told) == 6
  first, second = metrics_of_heads(report)
  for name in told:
    np.testing.assert_array_equal([first[name], second[name]], getattr(report, name))


def test_what_follows_from_the_rest_is_left_out():
  strided, _, _, token, gated = handmade.maps()
  assert set(packed_layer(strided)["arrays"]) == {"content", "position", "norms"}
  assert packed_layer(strided)["arrays"]["position"]["shape"][0] == 1
  assert set(packed_layer(gated)["arrays"]) == {"content", "position", "probabilities"}
  assert "position" not in packed_layer(token)["arrays"]
  # Negative controls: an array that is another than what follows is stored.
  other = dataclasses.replace(strided, logits=strided.logits + 1e-3)
  assert set(packed_layer(other)["arrays"]) == {"content", "position", "logits", "norms"}
  other = dataclasses.replace(strided, probabilities=strided.probabilities * 0.999)
  assert "probabilities" in packed_layer(other)["arrays"]
  other = dataclasses.replace(strided, norm_weighted=strided.norm_weighted**2)
  assert "norm_weighted" in packed_layer(other)["arrays"]


def test_what_an_output_of_a_convolution_reads_is_where_its_gradient_is(tab):
  kernels = handmade.convolutions()
  assert [each.layer for each in kernels] == ["stem", "wide", "halving"]
  for at in ([0, 0], [11, 9], [5, 4], [7, 8]):
    for number, kernel in enumerate(kernels):
      found = tab.evaluate(
        """([number, at]) => {
          const one = convattn.manifest.layers.filter(({ kind }) => kind === "convolution")[number];
          const taps = convattn.unpack(one.taps).floats();
          const { values, grid } = convattn.readFrom(one, taps, at);
          return [Array.from(values, String), grid.height, grid.width];
        }""",
        [number, at],
      )
      cell = kernel.query_grid.cell_at(at[0] + 0.5, at[1] + 0.5)
      gradient = handmade.gradient(kernel, cell)
      read = np.nan_to_num(np.array(found[0], np.float64)).reshape(found[1], found[2])
      np.testing.assert_allclose(read, gradient, atol=1e-3)
      assert (gradient > 0).sum() <= kernel.kernel.shape[0] * kernel.kernel.shape[1]
